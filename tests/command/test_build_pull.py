"""Images that a build needs and that are not here: pulled by FROM and COPY --from, of the right architecture."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.archives import directory, file
from tests.support.builds import Builds, marks
from tests.support.cli import Chimage, CliResult
from tests.support.registry import Layer, Registry, make_image, make_index

pytestmark = [pytest.mark.network, pytest.mark.skipif(os.uname().machine != "x86_64", reason="for x86-64")]

MISSING = {"CH_IMAGE_PULL": "missing"}


def layer(text: str) -> Layer:
    return Layer.of(directory(b"etc"), file(b"etc/what", text.encode()))


AMD, ARM = make_image(layer("amd"), Env=["A=b"]), make_image(layer("arm"), architecture="arm64")
INDEX = make_index(
    AMD.descriptor({"architecture": "amd64", "os": "linux"}),
    ARM.descriptor({"architecture": "arm64", "os": "linux"}),
)


@pytest.fixture
def mine(chimage: Chimage, tmp_path: Path) -> Builds:
    """Return a storage directory without any image, and a context."""
    (tmp_path / "context").mkdir()
    return Builds(Chimage(chimage.storage, env=MISSING), tmp_path / "context")


@pytest.fixture(scope="module")
def many(registry: Registry) -> str:
    return registry.put_index("bases", "many", INDEX, [AMD, ARM])


def failed(result: CliResult) -> str:
    return result.expect(1).stderr


def test_from_pulls_what_is_missing(mine: Builds, many: str) -> None:
    result = mine.build(f"FROM {many}\nENV C=$A")
    assert f"pulling image:    {many}\n" in result.stderr
    assert mine.read("etc/what") == "amd"
    assert mine.metadata()["env"]["C"] == "b"
    assert mine.names() == sorted([f"{many} (amd64)", "image:latest (amd64)"])
    assert marks(result)[-1] == "."
    again = mine.build(f"FROM {many}\nENV C=$A")
    assert "pulling" not in again.stderr
    assert marks(again) == "**"


def test_all_stages_and_copies_pull(mine: Builds, registry: Registry) -> None:
    one, two, three = (registry.put(make_image(layer(name)), f"stages/{name}") for name in ("one", "two", "three"))
    dockerfile = (
        f"FROM {one} AS x\nFROM {two}\nCOPY --from=x /etc/what /one\nARG N={three}\nCOPY --from=$N /etc/what /3"
    )
    mine.build(dockerfile)
    assert [mine.read(name) for name in ("one", "etc/what", "3")] == ["one", "two", "three"]
    assert marks(mine.build(dockerfile)) == "*****"


def test_pull_follows_the_registry(mine: Builds, registry: Registry) -> None:
    reference = registry.put(make_image(layer("old")), "newer")
    mine.build(f"FROM {reference}\nENV A=1")
    registry.put(make_image(layer("new")), "newer")
    mine.build(f"FROM {reference}\nENV A=1")
    assert mine.read("etc/what") == "old"
    assert marks(mine.build(f"FROM {reference}\nENV A=1", "--pull"))[-1] == "."
    assert mine.read("etc/what") == "new"
    again = mine.build(f"FROM {reference}\nENV A=1", "--pull")
    assert "using the build cache" in again.stderr
    assert marks(again) == "**"


def test_pull_leaves_alone_what_no_registry_has(mine: Builds, registry: Registry, tmp_path: Path) -> None:
    for name in ("bin", "etc", "usr"):
        (tmp_path / "own" / name).mkdir(parents=True)
    own = f"{registry.host}/my/own"
    mine.chimage.run("import", tmp_path / "own", own)
    result = mine.build(f"FROM {own}\nENV A=1", "--pull")
    assert f"not in a registry, used as it is here: {own}" in result.stderr


def test_pull_without_an_answer_says_what_to_do_with_the_image_that_is_here(mine: Builds, tmp_path: Path) -> None:
    for name in ("bin", "etc", "usr"):
        (tmp_path / "own" / name).mkdir(parents=True)
    own = "127.0.0.1:1/my/own"  # Nobody listens there.
    mine.chimage.run("import", tmp_path / "own", own)
    said = failed(mine.build(f"FROM {own}\nENV A=1", "--pull", check=False))
    assert f"error: can't look for a newer image: {own}: no answer" in said
    assert "hint: to use the one that is here, leave out --pull" in said
    assert "not found" not in said


def test_what_must_not_be_pulled_is_missed_before_anything_is_built(mine: Builds, tmp_path: Path) -> None:
    for name in ("bin", "etc", "usr"):
        (tmp_path / "own" / name).mkdir(parents=True)
    mine.chimage.run("import", tmp_path / "own", "own")
    said = failed(mine.build("FROM own\nENV A=1\nFROM nowhere", "--no-pull", check=False))
    assert "Dockerfile:3: FROM" in said
    assert "ENV" not in said
    mine.build("FROM own AS one\nENV A=1\nFROM image_stage0", "--no-pull")  # It is made in the meantime.


@pytest.mark.parametrize(
    ("options", "env"), [(("--no-pull",), MISSING), ((), {"CH_IMAGE_PULL": "never"}), (("-n",), MISSING)]
)
def test_nothing_is_pulled_if_it_must_not_be(
    mine: Builds, many: str, options: tuple[str, ...], env: Mapping[str, str]
) -> None:
    said = failed(mine.build(f"FROM {many}", *options, env=env, check=False))
    assert f"image not found in storage directory: {many}" in said
    assert f"chimage pull {many}" in said
    assert mine.names() == []


@pytest.mark.parametrize("options", [(), ("--platform=linux/arm64",), ("--arch=arm64",)])
def test_another_architecture_goes_into_the_cache_only(mine: Builds, many: str, options: tuple[str, ...]) -> None:
    mine.build(f"FROM {many}\nENV X=1", tag="native")
    dockerfile = f"FROM {many}\nENV X=1" if options else f"FROM --platform=linux/arm64 {many}\nENV X=1"
    result = mine.build(dockerfile, *options)
    assert "requesting arch:  arm64\n" in result.stderr
    assert (mine.read("etc/what"), mine.metadata()["arch"]) == ("arm", "arm64")
    assert mine.read("etc/what", many.replace("/", "%").replace(":", "+")) == "amd"
    assert mine.names() == sorted([f"{many} (amd64)", "image:latest (arm64)", "native:latest (amd64)"])
    again = mine.build(dockerfile, *options)
    assert "pulling" not in again.stderr
    assert marks(again) == "**"
    assert "requesting arch:  arm64\n" in mine.build(dockerfile, "--pull", *options).stderr


def test_another_architecture_of_which_there_is_nothing_here(mine: Builds, many: str) -> None:
    mine.build(f"FROM --platform=arm64 {many}\nENV X=1")
    assert mine.names() == ["image:latest (arm64)"]
    mine.build(f"FROM {many}\nENV X=1", tag="native")
    assert mine.metadata("native+latest")["arch"] == "amd64"


def test_without_cache_another_architecture_does_not_replace_an_image(mine: Builds, many: str) -> None:
    mine.build(f"FROM {many}\nENV X=1", "--no-cache", tag="native")
    said = failed(mine.build(f"FROM --platform=arm64 {many}\nENV X=1", "--no-cache", check=False))
    assert "image is not there for architecture arm64" in said
    assert mine.read("etc/what", many.replace("/", "%").replace(":", "+")) == "amd"


def test_an_architecture_that_no_registry_has(mine: Builds, many: str) -> None:
    said = failed(mine.build(f"FROM --platform=s390x {many}", check=False))
    assert "Dockerfile:1: FROM" in said
    assert "available: amd64, arm64" in said


def test_an_image_that_is_nowhere(mine: Builds, registry: Registry) -> None:
    said = failed(mine.build(f"FROM {registry.host}/no/where", check=False))
    assert f"image not found in storage directory: {registry.host}/no/where; pulling it failed" in said
    assert "Dockerfile:1: FROM" in said
    assert mine.names() == []
