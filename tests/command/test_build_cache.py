"""`build-cache`: what is in the cache, and clearing it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.builds import Builds, marks, traces
from tests.support.cli import Chimage, CliResult
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
    for options in ((), ("--tree",), ("--reset",), ("--dot",), ("-v",)):
        result = builds.chimage.run("build-cache", "--no-cache", *options, check=False).expect(1)
        assert "the build cache is disabled" in result.stderr


@needs_program("git")
def test_the_repository_is_sound_by_git_s_own_opinion(builds: Builds) -> None:
    builds.write("f", "x" * 100_000)
    builds.build("FROM base\nCOPY f /f\nRUN mkdir .git; mkfifo p; chmod 4755 /f\nRUN rm /f")
    builds.chimage.run("delete", "image")
    assert fsck(builds.chimage.storage) == ""


# statistics


@needs_program("git")
def test_the_statistics_are_those_of_git(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    repository = Path(builds.chimage.storage, "cache/git")
    (repository / "objects/pack/tmp_pack_left").write_text("x" * 5000)
    (repository / "objects/pack/pack-{}.pack".format("0" * 40)).touch()
    done = subprocess.run(
        ["git", "--git-dir", repository, "count-objects", "-v"], capture_output=True, text=True, check=True
    )
    expected = done.stdout.splitlines()
    lines = builds.chimage.run("build-cache", "-v").stdout.splitlines()
    first = lines.index("Git statistics (as git count-objects -v):") + 1
    found = [re.sub(r":\s+", ": ", line.strip()) for line in lines[first : first + len(expected)]]
    assert found == expected
    assert "garbage: 2" in found


def test_the_configuration_of_the_repository_is_shown(builds: Builds) -> None:
    configuration = Path(builds.chimage.storage, "cache/git/config")
    with configuration.open("a") as file:
        file.write("[evil]\n\tx = \x1b[2J\n")
    text = builds.chimage.run("build-cache", "-v").stdout
    assert "  [core]\n    repositoryformatversion = 0\n" in text
    assert "    x = \\x1b[2J\n" in text
    assert "Git configuration" not in builds.chimage.run("build-cache").stdout
    document = builds.chimage.run("build-cache", "-v", "--json").json()
    assert document["configuration"] == configuration.read_text().splitlines()
    assert document["statistics"]["packs"] > 0
    assert "  packs are merged when there are more than 32 of a size: up to 16.0 MiB, up to 256.0 MiB\n" in text
    few = builds.chimage.run("build-cache", "-v", env={"CH_IMAGE_KEEP_DELETED": "2", "SLURM_CPUS_ON_NODE": "1"}).stdout
    assert "  --gc keeps deleted images for 2 days, and uses 1 processor\n" in few
    assert document["keep_deleted"] == 30


def test_large_files_are_counted(builds: Builds) -> None:
    """They are outside of the repository."""
    before = builds.chimage.run("build-cache", "--json").json()
    large = Path(builds.chimage.storage, "cache/large/ab")
    large.mkdir(parents=True, exist_ok=True)
    (large / "one").write_bytes(bytes(1 << 20))
    after = builds.chimage.run("build-cache", "--json").json()
    assert after["large_files"] == before["large_files"] + 1
    assert after["large_bytes"] == before["large_bytes"] + (1 << 20)
    assert after["disk_bytes"] == before["disk_bytes"]
    assert re.search(r"large files: +\d+\n", builds.chimage.run("build-cache").stdout)


# dot


def drawing(builds: Builds, *options: str, env: dict[str, str] | None = None, check: bool = True) -> CliResult:
    """Draw the cache in the context directory."""
    return builds.chimage.run("build-cache", "--dot", *options, env=env, check=check, cwd=builds.context)


@needs_program("dot")
def test_the_cache_is_drawn(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1", tag="one")
    builds.build("FROM base\nRUN echo 2", tag="two")
    builds.chimage.run("delete", "two")
    result = drawing(builds)
    assert result.stderr.splitlines() == ["wrote: ./build-cache.dot", "wrote: ./build-cache.pdf"]
    assert result.stdout.startswith("named images:")
    text = (builds.context / "build-cache.dot").read_text()
    assert text.count(" -> ") == 2
    assert "deleted: two" in text
    assert (builds.context / "build-cache.pdf").read_bytes().startswith(b"%PDF-")
    assert not [name for name in os.listdir(builds.context) if name.startswith(".")]


@needs_program("dot")
def test_the_drawing_is_replaced_by_a_later_one(builds: Builds) -> None:
    drawing(builds)
    before = [(builds.context / name).read_bytes() for name in ("build-cache.dot", "build-cache.pdf")]
    builds.build("FROM base\nRUN echo 1")
    drawing(builds)
    after = [(builds.context / name).read_bytes() for name in ("build-cache.dot", "build-cache.pdf")]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_without_graphviz_there_is_the_dot_file(builds: Builds) -> None:
    result = drawing(builds, env={"PATH": str(builds.context)})
    assert "warning: no PDF written: Graphviz is not installed" in result.stderr
    assert os.listdir(builds.context) == ["build-cache.dot"]
    (builds.context / "build-cache.pdf").touch()
    assert "the one there shows an earlier cache" in drawing(builds, env={"PATH": str(builds.context)}).stderr


def test_a_graphviz_that_fails_is_a_warning(builds: Builds) -> None:
    program = builds.write("bin/dot", "#!/bin/sh\necho 'Format: \"pdf\" not recognized' >&2; exit 1\n", mode=0o755)
    result = drawing(builds, env={"PATH": f"{program.parent}:/bin:/usr/bin"})
    assert "not recognized" in result.stderr
    assert not (builds.context / "build-cache.pdf").exists()


@pytest.mark.parametrize("name", ["build-cache.dot", "build-cache.pdf"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_somebody_else_made_is_not_overwritten(builds: Builds, name: str, kind: str) -> None:
    path = builds.context / name
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    before = traces(builds.context)
    result = drawing(builds, check=False).expect(1)
    assert f"can't write: ./{name}: something else of that name is there" in result.stderr
    assert traces(builds.context) == before


def test_where_nothing_can_be_written_it_says_so(builds: Builds) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    builds.context.chmod(0o500)
    try:
        assert "can't write: ./build-cache.dot: Permission denied" in drawing(builds, check=False).expect(1).stderr
    finally:
        builds.context.chmod(0o700)


# order


def test_operations_happen_in_the_order_of_the_manual(builds: Builds) -> None:
    """dot, gc, reset, tree: what is drawn is the old cache, the tree is that of the new one."""
    result = drawing(builds, "--tree", "--reset")
    assert "IMPORT base" in (builds.context / "build-cache.dot").read_text()
    assert "IMPORT base" not in result.stdout
    assert re.search(r"commits: +0\n", result.stdout)


def test_states_of_no_image_are_marked_in_the_tree(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1")
    builds.build("FROM base\nRUN echo 2")
    builds.build("FROM base\nRUN echo 3", tag="other")
    builds.chimage.run("delete", "other")
    lines = builds.chimage.run("build-cache", "--tree").stdout.splitlines()
    drawn = sorted(line.lstrip("| ") for line in lines if "RUN" in line)
    assert drawn == ["!  RUN.S echo 1", "*  (image) RUN.S echo 2", "o  (deleted: other) RUN.S echo 3"]
    assert "o  only of deleted images, which can be undeleted: 1 state" in lines
    assert "!  of no image any more: 1 state" in lines
    nodes = builds.chimage.run("build-cache", "--tree", "--json").json()["nodes"]
    assert {node["text"]: node["kept_by"] for node in nodes} == {
        "IMPORT base": "image",
        "RUN.S echo 1": "nothing",
        "RUN.S echo 2": "image",
        "RUN.S echo 3": "deleted",
    }
