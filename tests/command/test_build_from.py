"""`build`: FROM with its options, and arguments that tell platforms."""

import json
from pathlib import Path

import pytest

from tests.support.builds import Builds, announced, marks

pytestmark = pytest.mark.userns

OTHER = "s390x"
"""An architecture that nobody has who runs these tests."""


@pytest.fixture
def other(builds: Builds, tmp_path: Path) -> Builds:
    """Return builds with an image `other` for OTHER."""
    tree = tmp_path / "other"
    for name in ("bin", "etc", "ch"):
        (tree / name).mkdir(parents=True)
    (tree / "ch/metadata.json").write_text(json.dumps({"arch": OTHER}))
    builds.chimage.run("import", tree, "other")
    return builds


def host(builds: Builds) -> str:
    architecture: str = builds.metadata("base+latest")["arch"]
    return architecture


# References


@pytest.mark.parametrize("reference", ['"base"', "'base:latest'", '"${WHICH}"', "b${NO:-a}se", "ba\\se"])
def test_a_reference_may_be_quoted(builds: Builds, reference: str) -> None:
    assert marks(builds.build(f"ARG WHICH=base\nFROM {reference} AS x")) == " *"


def test_a_digest_is_part_of_the_name(builds: Builds) -> None:
    digest = "sha256:" + 64 * "a"
    result = builds.build(f"FROM base@{digest}", check=False).expect(1)
    assert f"image not found in storage directory: base@{digest}" in result.stderr
    builds.chimage.run("import", builds.image("base+latest"), f"base@{digest}")
    builds.build(f"FROM base:latest@{digest}", check=False)
    builds.build(f"FROM base@{digest}")


def test_an_unset_variable_is_fatal(builds: Builds) -> None:
    result = builds.build("FROM ${os}:1", check=False).expect(1)
    assert "image reference contains an undefined variable: $os" in result.stderr
    result = builds.build("FROM --platform=linux/$arch base", check=False).expect(1)
    assert "--platform contains an undefined variable: $arch" in result.stderr


# --arg


def test_from_arguments_can_be_repeated_and_choose_the_base(builds: Builds) -> None:
    dockerfile = "ARG A=x\nFROM --arg=A=ba --arg='B=$A se' --arg=C=se ${A}${C}\nRUN echo \"$A/$B/$C\" > /abc"
    builds.build(dockerfile)
    assert builds.read("abc") == "ba/x se/se\n"
    assert marks(builds.build(dockerfile)) == " **"


def test_from_arguments_count_for_the_state_and_are_inherited(builds: Builds) -> None:
    builds.build("FROM --arg=A=1 base", tag="parent")
    assert builds.metadata("parent+latest")["arg"] == {"A": "1"}
    builds.build("FROM parent\nRUN echo $A > /a")
    assert builds.read("a") == "1\n"
    assert marks(builds.build("FROM --arg=A=1 base\nRUN echo x")) == "*."
    assert marks(builds.build("FROM --arg=A=2 base\nRUN echo x")) == "*."


def test_a_build_argument_wins_over_from_arguments(builds: Builds) -> None:
    builds.build("FROM --arg=A=1 base\nRUN echo $A > /a", "--build-arg=A=2")
    assert builds.read("a") == "2\n"


# --platform


def test_the_platform_that_we_have_changes_nothing(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    for platform in (f"linux/{host(builds)}", host(builds), "$BUILDPLATFORM", "${TARGETPLATFORM}", "linux/$TARGETARCH"):
        assert marks(builds.build(f"FROM --platform={platform} base\nRUN true")) == "**"


def test_another_platform_that_is_there_is_used(other: Builds) -> None:
    other.build(f"FROM --platform=linux/{OTHER} other\nENV A=1")
    assert other.metadata()["arch"] == OTHER


@pytest.mark.parametrize("options", [("--platform", f"linux/{OTHER}"), ("--platform", OTHER), ("--arch", OTHER)])
def test_a_platform_for_all_stages(other: Builds, options: tuple[str, ...]) -> None:
    other.build("FROM other AS x\nFROM scratch\nARG TARGETPLATFORM\nENV A=$TARGETPLATFORM", *options)
    assert other.metadata()["arch"] == OTHER
    assert other.metadata()["env"]["A"] == f"linux/{OTHER}"
    result = other.build("FROM base", *options, check=False).expect(1)
    assert f"image is not there for architecture {OTHER}: base (here is: {host(other)})" in result.stderr


def test_an_image_for_another_platform_that_is_not_there_says_what_is(builds: Builds) -> None:
    result = builds.build(f"FROM --platform=linux/{OTHER} base", check=False).expect(1)
    assert f"image is not there for architecture {OTHER}: base (here is: {host(builds)})" in result.stderr
    assert "Dockerfile:1: FROM" in result.stderr
    assert builds.names() == [f"base:latest ({host(builds)})"]


def test_a_stage_is_for_one_platform(builds: Builds) -> None:
    result = builds.build(f"FROM base AS x\nFROM --platform={OTHER} x", check=False).expect(1)
    assert f"stage x is for architecture {host(builds)}, not {OTHER}" in result.stderr


@pytest.mark.parametrize("platform", ["windows/amd64", "a/b/c/d", "/", "linux/"])
def test_a_platform_that_cannot_be_is_an_error(builds: Builds, platform: str) -> None:
    result = builds.build(f"FROM --platform={platform} base", check=False).expect(1)
    assert "FROM: --platform: " in result.stderr
    builds.build("FROM base", "--platform", platform, check=False).expect(2)


def test_two_platforms_for_all_stages_contradict(builds: Builds) -> None:
    result = builds.build("FROM base", "--platform=arm64", "--arch=ppc64le", check=False).expect(2)
    assert "contradict" in result.stderr
    builds.build("FROM base", f"--platform={host(builds)}", "--arch=host")


# Arguments that tell platforms


def test_platform_arguments_are_known_once_declared(builds: Builds) -> None:
    builds.build(
        "FROM base\nENV before=${TARGETARCH:-unset}\nARG TARGETARCH TARGETVARIANT\nARG BUILDOS\nRUN env > /env"
    )
    seen = builds.read("env").splitlines()
    assert {"before=unset", f"TARGETARCH={host(builds)}", "TARGETVARIANT=", "BUILDOS=linux"} <= set(seen)
    assert not any(line.startswith("BUILDARCH=") for line in seen)


def test_platform_arguments_are_known_outside_of_stages(builds: Builds) -> None:
    builds.build("ARG NAME=$TARGETOS-$TARGETARCH\nFROM base\nENV NAME=$NAME A=${TARGETARCH:-unset}")
    assert builds.metadata()["env"] == {**builds.metadata()["env"], "NAME": f"linux-{host(builds)}", "A": "unset"}


def test_a_default_and_a_build_argument_win_over_the_platform(builds: Builds) -> None:
    builds.build("FROM base\nARG TARGETARCH=default\nRUN echo $TARGETARCH > /a")
    assert builds.read("a") == "default\n"
    builds.build(
        "ARG X=$TARGETARCH\nFROM base\nARG TARGETARCH\nRUN echo $TARGETARCH $X > /a", "--build-arg=TARGETARCH=b"
    )
    assert builds.read("a") == "b b\n"


def test_platforms_count_only_where_they_are_declared(other: Builds) -> None:
    for declared, again in (("", "**"), ("ARG TARGETARCH\n", "*..")):
        dockerfile = f"FROM scratch\n{declared}ENV A=1"
        other.build(f"FROM --platform={OTHER} other\n{declared}ENV A=1")
        assert marks(other.build(f"FROM --platform={OTHER} other\n{declared}ENV A=1", "--platform=ppc64le")) == again
        assert dockerfile


# FROM scratch


def test_nothing_runs_in_nothing(builds: Builds) -> None:
    result = builds.build("FROM scratch\nRUN true", check=False).expect(1)
    assert "build failed" in result.stderr
    assert "FROM scratch" in announced(result)[0]


def test_scratch_alone_is_an_image(builds: Builds) -> None:
    builds.build("FROM scratch")
    assert (builds.image() / "ch/metadata.json").exists()
    builds.build("FROM image\nWORKDIR /x", tag="two")
    assert (builds.image("two+latest") / "x").is_dir()


def test_scratch_is_not_an_image_and_needs_no_lock_or_name(builds: Builds) -> None:
    result = builds.build("FROM scratch:latest", check=False).expect(1)
    assert "image not found" in result.stderr
