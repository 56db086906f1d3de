"""`build`: what each instruction does to the image."""

import os
from pathlib import Path

import pytest

from tests.support.builds import Builds, announced, contents

pytestmark = pytest.mark.userns


# FROM


def test_from_an_image_keeps_all_of_it(builds: Builds) -> None:
    builds.build("FROM base")
    expected, found = contents(builds.image("base+latest")), contents(builds.image())
    for image in (expected, found):
        image.pop("ch/metadata.json")
    assert found == expected


def test_from_leaves_its_base_alone(builds: Builds) -> None:
    before = contents(builds.image("base+latest"))
    builds.build("FROM base\nRUN rm /etc/passwd && echo x > /etc/group")
    assert contents(builds.image("base+latest")) == before


def test_from_scratch_is_nothing_but_what_every_image_has(builds: Builds) -> None:
    builds.write("hello", "hi\n")
    builds.build("FROM scratch\nCOPY hello /\nENV A=1")
    assert builds.read("hello") == "hi\n"
    assert not builds.image().joinpath("bin").exists() or os.listdir(builds.image() / "bin") == []
    assert builds.metadata()["env"]["A"] == "1"


def test_from_an_earlier_stage_by_name_and_goes_on_from_there(builds: Builds) -> None:
    builds.build("FROM base AS First\nENV A=1\nWORKDIR /w\nFROM first\nRUN echo $A > a")
    assert builds.read("w/a") == "1\n"


def test_a_stage_name_wins_over_an_image_of_that_name(builds: Builds) -> None:
    builds.build("FROM scratch AS base\nFROM base")
    assert "1* FROM scratch AS base" in announced(builds.build("FROM scratch AS base\nFROM base"))[0]
    assert not (builds.image() / "bin/busybox").exists()


def test_stages_are_images_of_their_own_but_the_last(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 0 > /n\nFROM base\nRUN echo 1 > /n\nFROM scratch\nCOPY --from=1 /n /n")
    assert builds.read("n") == "1\n"
    names = [name.removesuffix(" (amd64)") for name in builds.names()]
    assert names == ["base:latest", "image:latest", "image_stage0:latest", "image_stage1:latest"]


@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_an_image_built_on_itself_grows(builds: Builds, options: tuple[str, ...]) -> None:
    for count in (1, 2):
        builds.build("FROM base\nRUN echo x >> /n", *options, tag="base")
        assert builds.read("n", "base+latest") == count * "x\n"
    builds.build("FROM base\nRUN rm /n; false", *options, tag="base", check=False).expect(1)
    assert builds.read("n", "base+latest") == "x\nx\n"


def test_from_an_image_that_is_not_there_says_how_to_get_it(builds: Builds) -> None:
    result = builds.build("FROM nowhere\nRUN true", check=False).expect(1)
    assert "image not found in storage directory: nowhere" in result.stderr
    assert "chimage pull nowhere" in result.stderr


# ENV, LABEL, SHELL, WORKDIR


def test_env_is_seen_by_run_and_by_those_who_run_the_image(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1 B='two words'\nENV C the old way\nRUN echo \"$A/$B/$C\" > /env")
    assert builds.read("env") == "1/two words/the old way\n"
    assert {"A=1", "B=two words", "C=the old way"} <= set(builds.read("ch/environment").splitlines())


def test_env_values_see_the_environment_before_the_instruction(builds: Builds) -> None:
    builds.build("FROM base\nENV A=old\nENV A=new B=$A\nRUN echo $A $B > /env")
    assert builds.read("env") == "new old\n"


def test_env_appends_to_the_path_that_every_build_has(builds: Builds) -> None:
    builds.build("FROM base\nENV PATH=$PATH:/opt/bin\nRUN echo $PATH > /path")
    assert builds.read("path") == "/ch/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin\n"


def test_backslashes_in_values_stay(builds: Builds) -> None:
    r"""ch-image interprets them: `C:\new` gets a newline."""
    builds.build("FROM base\nARG path='C:\\new\\1'\nENV P=$path\nRUN printf %s \"$P\" > /p")
    assert builds.read("p") == "C:\\new\\1"


def test_label_is_metadata(builds: Builds) -> None:
    builds.build('FROM base\nLABEL maintainer="A. B. <a@b>" version=1\nLABEL version=2')
    assert builds.metadata()["labels"] == {"maintainer": "A. B. <a@b>", "version": "2"}


def test_shell_takes_the_shell_form_from_then_on(builds: Builds) -> None:
    builds.build('FROM base\nSHELL ["/bin/sh", "-c", "echo args: $0 $1 > /out", "zero"]\nRUN the command')
    assert builds.read("out") == "args: zero the command\n"


def test_shell_is_inherited_by_images_built_on_this_one(builds: Builds) -> None:
    builds.build('FROM base\nSHELL ["/bin/sh", "-ec"]', tag="parent")
    builds.build("FROM parent\nRUN false; true", check=False).expect(1)


def test_workdir_is_made_and_relative_ones_add_up(builds: Builds) -> None:
    builds.build("FROM base\nWORKDIR /a\nWORKDIR b/../c\nRUN pwd > /pwd\nWORKDIR d\nRUN pwd >> /pwd")
    assert builds.read("pwd") == "/a/c\n/a/c/d\n"
    assert (builds.image() / "a/c/d").is_dir()
    assert builds.metadata()["cwd"] == "/a/c/d"


def test_workdir_through_a_link_of_the_image_stays_inside(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    builds.build(f"FROM base\nRUN ln -s {tmp_path}/outside /link\nWORKDIR /link/sub")
    assert os.listdir(tmp_path / "outside") == []


# The whole


def test_history_tells_the_instructions(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1\nRUN true")
    assert [entry["created_by"] for entry in builds.metadata()["history"]] == ["ENV A='1'", "RUN.S true"]


def test_metadata_of_two_builds_of_the_same_is_the_same(builds: Builds) -> None:
    """Nothing in it may depend on when, where or how often it was built."""
    dockerfile = "FROM base\nENV B=1 A=2\nLABEL x=y\nWORKDIR /w\nRUN true"
    builds.build(dockerfile, tag="one")
    builds.build(dockerfile, "--rebuild", tag="two")
    assert builds.read("ch/metadata.json", "one+latest") == builds.read("ch/metadata.json", "two+latest")


def test_the_image_of_the_manual_is_what_ch_run_wants(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    for name in ("dev", "etc", "mnt/0", "proc", "sys", "tmp", "ch/environment", "ch/metadata.json"):
        assert (builds.image() / name).exists(), name


def test_instructions_are_announced_by_line_number(builds: Builds) -> None:
    """As the manual says, and as errors name the place."""
    result = builds.build("# comment\n\nFROM base\nRUN true && \\\n    # more\n    true\n\nENV a=b")
    assert [line[:4] for line in announced(result)] == ["  3*", "  4.", "  8."]


def test_a_warning_is_repeated_after_what_commands_print(builds: Builds) -> None:
    """Once as it happens, and once at the end, where it is seen; not if nothing was carried out."""
    dockerfile = "FROM base\nUSER me\nRUN seq 1000\n"
    first = builds.build(dockerfile).stderr
    assert first.splitlines()[-2:] == ["warnings: 1", "  not supported, recorded only: USER instruction"]
    assert first.count("warning: ") == 1
    assert "warnings:" not in builds.build(dockerfile).stderr
    failed = builds.build(dockerfile + "RUN false\n", check=False).stderr
    assert failed.index("warnings: 1") < failed.index("error: ")
