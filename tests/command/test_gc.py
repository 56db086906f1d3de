"""`build-cache --gc`: unneeded states go, images and their builds stay, and nothing happens beside a build."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks
from tests.support.cli import PATH, Chimage
from tests.support.host import needs_program
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

TWO_STEPS = "FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two"


def _gc(builds: Builds, *options: str, env: dict[str, str] | None = None) -> dict[str, int]:
    """Collect; return the event."""
    lines = builds.chimage.run("build-cache", "--gc", "--json", *options, env=env).json_lines()
    (event,) = [line for line in lines if line["type"] == "cache_collected"]
    assert lines[-1]["type"] == "result"
    return event


def _without_git(directory: Path) -> dict[str, str]:
    """Return an environment in which there is all but Git."""
    for folder in PATH.split(":"):
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                if name not in ("git", "python3") and not os.path.lexists(directory / name):
                    (directory / name).symlink_to(f"{folder}/{name}")
    return {"PATH": str(directory)}


def test_images_and_their_states_stay(builds: Builds) -> None:
    builds.build(TWO_STEPS)
    before = contents(builds.image())
    result = builds.chimage.run("build-cache", "--gc")
    assert re.search(r"^garbage collection: dropped 0 states, 0 deleted images; ", result.stderr, re.MULTILINE)
    assert re.search(r"commits: +3\n", result.stdout)
    assert marks(builds.build(TWO_STEPS)) == "***"
    shutil.rmtree(builds.image())
    assert marks(builds.build(TWO_STEPS, tag="again")) == "***"
    assert contents(builds.image("again+latest")) == before
    assert fsck(builds.chimage.storage) == ""


def test_states_that_no_image_needs_go(builds: Builds) -> None:
    builds.build(TWO_STEPS)
    builds.build("FROM base\nRUN echo other > /one")
    assert _gc(builds)["states"] == 2
    assert marks(builds.build(TWO_STEPS)) == "*.."
    assert fsck(builds.chimage.storage) == ""


@pytest.mark.parametrize("environment", [{}, {"CH_IMAGE_KEEP_DELETED": "3"}])
def test_deleted_images_can_be_undeleted_after_it(builds: Builds, environment: dict[str, str]) -> None:
    builds.build(TWO_STEPS)
    before = contents(builds.image())
    builds.chimage.run("delete", "image")
    event = _gc(builds, env=environment)
    assert (event["states"], event["deletions"]) == (0, 0)
    builds.chimage.run("undelete", "image")
    assert contents(builds.image()) == before


@pytest.mark.parametrize(
    ("options", "environment"),
    [(("--keep-deleted", "0"), {"CH_IMAGE_KEEP_DELETED": "9"}), ((), {"CH_IMAGE_KEEP_DELETED": "0"})],
)
def test_unless_they_are_too_old(builds: Builds, options: tuple[str, ...], environment: dict[str, str]) -> None:
    builds.build(TWO_STEPS)
    builds.chimage.run("delete", "image")
    event = _gc(builds, *options, env=environment)
    assert (event["states"], event["deletions"]) == (2, 1)
    assert "image" in builds.chimage.run("undelete", "image", check=False).expect(1).stderr


@pytest.mark.parametrize("value", ["-1", "many", "1.5", ""])
def test_a_time_that_makes_no_sense(builds: Builds, value: str) -> None:
    assert "days" in builds.chimage.run("build-cache", "--gc", f"--keep-deleted={value}", check=False).expect(2).stderr
    environment = {"CH_IMAGE_KEEP_DELETED": value}
    result = builds.chimage.run("build-cache", "--gc", env=environment, check=False).expect(2)
    assert "$CH_IMAGE_KEEP_DELETED" in result.stderr


def test_how_long_to_keep_without_collecting_is_refused(builds: Builds) -> None:
    result = builds.chimage.run("build-cache", "--keep-deleted", "3", check=False).expect(2)
    assert "--gc" in result.stderr


def test_it_works_without_git(builds: Builds, tmp_path: Path) -> None:
    builds.build(TWO_STEPS)
    builds.build("FROM base\nRUN echo other > /one")
    (tmp_path / "bin").mkdir()
    environment = _without_git(tmp_path / "bin")
    assert _gc(builds, env=environment)["states"] == 2
    assert marks(builds.build("FROM base\nRUN echo other > /one")) == "**"
    assert fsck(builds.chimage.storage) == ""


def test_without_anything_cached(chimage: Chimage, storage: Path) -> None:
    assert re.search(r"commits: +0\n", chimage.run("build-cache", "--gc").stdout)
    assert not (storage / "cache" / "git").exists()


def test_it_does_not_start_beside_a_build(builds: Builds) -> None:
    builds.write("Dockerfile", "FROM base\nRUN echo started; read line < /fifo || sleep 60")
    with builds.chimage.start("build", "-t", "slow", builds.context) as build:
        assert build.stdout is not None
        while build.stdout.readline() != "started\n":
            pass
        result = builds.chimage.run("build-cache", "--gc", "--lock-timeout=0", check=False).expect(1)
        assert "storage directory is in use" in result.stderr
        build.terminate()
        build.communicate()


def test_why_a_step_missed_is_known_after_it(builds: Builds) -> None:
    builds.build(TWO_STEPS)
    builds.build("FROM base\nRUN echo other > /one")
    _gc(builds)
    assert "was removed by gc on" in builds.build(TWO_STEPS, "--explain").stderr


@needs_program("git")
def test_states_of_an_image_take_little_room_together(builds: Builds) -> None:
    """A file that changes a little in each step is stored once, with the differences."""
    builds.write("words", "\n".join(f"line {number * number} {number:x}" for number in range(10_000)))
    steps = "\n".join(f"RUN sed -i {number}00s/line/{number}/ /words" for number in range(1, 9))
    builds.build(f"FROM base\nCOPY words /words\n{steps}")
    before = os.path.getsize(builds.context / "words")
    event = _gc(builds)
    assert event["size_before"] - event["size_after"] > 7 * before
    assert marks(builds.build(f"FROM base\nCOPY words /words\n{steps}")) == "*" * 10


@needs_program("git")
def test_git_is_nice_uses_what_it_may_and_sees_nothing_of_the_user(builds: Builds, tmp_path: Path) -> None:
    """Other jobs of the node go first, and variables such as $GIT_DIR have destroyed repositories of other tools."""
    said, program = tmp_path / "said", tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nnice >{said}; env >>{said}; echo "$@" >>{said}; exec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    builds.build(TWO_STEPS)
    environment = {"PATH": f"{program.parent}:{PATH}", "SLURM_CPUS_PER_TASK": "1", "GIT_OBJECT_DIRECTORY": "/nonsense"}
    _gc(builds, env=environment)
    lines = said.read_text().splitlines()
    assert int(lines[0]) >= 10
    assert "--threads=1" in lines[-1]
    assert f"GIT_DIR={builds.chimage.storage}/cache/git" in lines
    assert {line.partition("=")[0] for line in lines if line.startswith("GIT")} == {
        "GIT_DIR",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_GLOBAL",
    }


def test_it_is_refused_where_the_cache_is_off(builds: Builds) -> None:
    result = builds.chimage.run("build-cache", "--gc", "--no-cache", check=False).expect(1)
    assert "the build cache is disabled" in result.stderr
