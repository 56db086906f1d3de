"""`build-cache`: what is in the cache, and clearing it."""

import re
from pathlib import Path

import pytest

from tests.support.builds import Builds, marks, traces
from tests.support.cli import Chimage
from tests.support.host import needs_program
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

LABELS = ["named images", "state IDs", "large files", "commits", "internal files", "disk used"]


def test_the_summary(builds: Builds) -> None:
    builds.build("FROM base\nRUN true\nRUN echo x")
    lines = builds.chimage.run("build-cache").stdout.splitlines()
    found = {label.strip(): value.strip() for label, _, value in (line.partition(":") for line in lines)}
    assert list(found) == LABELS
    assert (found["named images"], found["state IDs"], found["commits"]) == ("2", "3", "3")
    assert re.fullmatch(r"[\d.]+ \w+", found["disk used"])


def test_the_tree_is_drawn_as_in_the_manual(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo foo\nRUN echo bar", tag="a")
    builds.build("FROM base\nRUN echo foo\nRUN echo qux", tag="c")
    tree, _, summary = builds.chimage.run("build-cache", "--tree").stdout.partition("\n\n")
    assert tree.splitlines() in (
        [
            "*  (c) RUN.S echo qux",
            "| *  (a) RUN.S echo bar",
            "|/",
            "*  RUN.S echo foo",
            "*  (base) IMPORT base",
        ],
        [
            "*  (a) RUN.S echo bar",
            "| *  (c) RUN.S echo qux",
            "|/",
            "*  RUN.S echo foo",
            "*  (base) IMPORT base",
        ],
    )
    assert summary.startswith("named images:")


def test_two_names_of_one_state_share_a_line(builds: Builds) -> None:
    builds.build("FROM base\nRUN true", tag="a")
    builds.build("FROM base\nRUN true", tag="b")
    assert "*  (a, b) RUN.S true" in builds.chimage.run("build-cache", "--tree").stdout


def test_the_detailed_tree_has_states_and_times(builds: Builds) -> None:
    lines = builds.chimage.run("build-cache", "--tree", "-v").stdout.splitlines()
    assert lines[0] == "*  (base) IMPORT base"
    assert re.fullmatch(r"   [0-9a-f]{12}  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lines[1])


def test_looking_changes_nothing(builds: Builds) -> None:
    before = traces(builds.chimage.storage)
    builds.chimage.run("build-cache")
    builds.chimage.run("build-cache", "--tree", "--json")
    assert traces(builds.chimage.storage) == before


def test_without_storage_directory(chimage: Chimage, storage: Path) -> None:
    assert "commits:" in chimage.run("build-cache").stdout
    chimage.run("build-cache", "--tree")
    assert not storage.exists()


def test_after_a_reset_of_the_cache_the_images_stay_and_builds_work(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo x > /x")
    result = builds.chimage.run("build-cache", "--reset")
    assert re.search(r"commits: +0\n", result.stdout)
    assert builds.names() == ["base:latest (amd64)", "image:latest (amd64)"]
    assert builds.read("x") == "x\n"
    assert marks(builds.build("FROM base\nRUN echo x > /x")) == ".."
    assert marks(builds.build("FROM base\nRUN echo x > /x")) == "**"


def test_a_deleted_image_is_no_named_image(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    builds.chimage.run("delete", "image")
    summary = builds.chimage.run("build-cache", "--json").json()
    assert (summary["named_images"], summary["commits"]) == (1, 2)


def test_disabled_it_is_an_error(builds: Builds) -> None:
    for options in ((), ("--tree",), ("--reset",)):
        result = builds.chimage.run("build-cache", "--no-cache", *options, check=False).expect(1)
        assert "the build cache is disabled" in result.stderr


@needs_program("git")
def test_the_repository_is_sound_by_git_s_own_opinion(builds: Builds) -> None:
    builds.write("f", "x" * 100_000)
    builds.build("FROM base\nCOPY f /f\nRUN mkdir .git; mkfifo p; chmod 4755 /f\nRUN rm /f")
    builds.chimage.run("delete", "image")
    assert fsck(builds.chimage.storage) == ""
