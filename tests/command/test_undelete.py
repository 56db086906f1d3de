"""`undelete` and `list --undeletable`: deleted images come back from the build cache."""

import os
import re
import shutil
from pathlib import Path

import pytest

from chimage_core.cache.git.cache import GitCache
from chimage_core.cancel import CancelToken
from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout
from tests.support.builds import Builds, contents, marks, traces
from tests.support.cli import Chimage
from tests.support.image_trees import describe
from tests.support.recorder import Recorder
from tests.support.repository import fsck


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An image directory with one file."""
    path = tmp_path / "tree"
    path.mkdir()
    (path / "number").write_text("0")
    return path


def delete_versions(chimage: Chimage, tree: Path, count: int, name: str = "foo") -> None:
    """Import and delete an image so many times, each with another content: 1, 2, …"""
    for number in range(1, count + 1):
        (tree / "number").write_text(str(number))
        chimage.run("import", tree, name)
        chimage.run("delete", name)


def undeletable(chimage: Chimage, *options: str) -> list[str]:
    return chimage.run("list", "-u", *options).stdout.replace("arm64", "amd64").splitlines()


def number(storage: Path, name: str = "foo+latest") -> str:
    return (storage / "img" / name / "number").read_text()


def git_cache(storage: Path) -> GitCache:
    return GitCache(Layout(str(storage)).git, emit=Recorder(), cancel=CancelToken())


def test_what_was_deleted_comes_back_as_it_was(chimage: Chimage, storage: Path, tree: Path) -> None:
    (tree / "directory").mkdir(mode=0o700)
    os.symlink("number", tree / "link")
    os.utime(tree / "number", ns=(1, 1_234_567_890_123_456_789))
    chimage.run("import", tree, "team/foo:1.2")
    before = describe(str(storage / "img/team%foo+1.2"))
    states = chimage.run("list", "--json").json()["images"][0]["state"]
    chimage.run("delete", "team/foo:1.2")
    result = chimage.run("undelete", "team/foo:1.2", "--json").json_lines()[-1]
    assert result == {
        "type": "result",
        "reference": "team/foo:1.2",
        "path": str(storage / "img/team%foo+1.2"),
        "state": states,
    }
    assert describe(str(storage / "img/team%foo+1.2")) == before
    assert undeletable(chimage) == []
    assert fsck(storage) == ""


def test_it_is_said_and_the_short_name_works_again(chimage: Chimage, storage: Path, tree: Path) -> None:
    delete_versions(chimage, tree, 1)
    assert chimage.run("undelete", "foo").stderr == "recovering image: foo:latest\n"
    assert os.readlink(storage / "img/foo") == "foo+latest"


@pytest.mark.userns
def test_an_undeleted_image_is_a_base_and_hits(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1 > /one", tag="one")
    builds.build("FROM one\nRUN echo 2 > /two", tag="two")
    builds.chimage.run("delete", "one", "two")
    builds.chimage.run("undelete", "one")
    assert marks(builds.build("FROM one\nRUN echo 2 > /two", tag="two")) == "**"
    assert builds.read("two", "two+latest") == "2\n"


@pytest.mark.userns
def test_stages_come_back_by_their_own_names(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1 > /one\nFROM base\nCOPY --from=0 /one /two", tag="foo")
    builds.chimage.run("delete", "foo")
    assert sorted(undeletable(builds.chimage)) == ["foo:latest (amd64)", "foo_stage0:latest (amd64)"]
    builds.chimage.run("undelete", "foo")
    assert undeletable(builds.chimage) == ["foo_stage0:latest (amd64)"]
    builds.chimage.run("undelete", "foo_stage0")
    assert builds.read("one", "foo_stage0+latest") == "1\n"


def test_an_image_that_exists_is_not_overwritten(chimage: Chimage, storage: Path, tree: Path) -> None:
    delete_versions(chimage, tree, 1)
    (tree / "number").write_text("new")
    chimage.run("import", tree, "foo")
    before = contents(storage / "img")
    result = chimage.run("undelete", "--json", "foo", check=False).expect(1)
    error = result.json_lines()[-1]
    assert error["code"] == "storage.image-exists"
    assert "foo" in error["message"]
    assert "delete it first" in error["hint"]
    assert contents(storage / "img") == before
    assert undeletable(chimage) == [], "it cannot be undeleted now"
    assert undeletable(chimage, "foo") == ["foo:latest (amd64)"], "but it is still there"


def test_what_was_never_deleted_is_an_error_that_names_what_is_similar(chimage: Chimage, tree: Path) -> None:
    for name in ("debian:11", "debian:12", "alpine"):
        delete_versions(chimage, tree, 1, name)
    hints = {}
    for name in ("debian", "debiann", "zzz"):
        result = chimage.run("undelete", "--json", name, check=False).expect(1)
        error = result.json_lines()[-1]
        assert error["code"] == "cache.not-found"
        hints[name] = error["hint"]
    assert hints["debian"] == "did you mean: debian:11, debian:12"
    assert "debian:1" in hints["debiann"]
    assert "list --undeletable" in hints["zzz"]


def test_without_build_cache_it_is_an_error(chimage: Chimage, tree: Path) -> None:
    delete_versions(chimage, tree, 1)
    for command in (("undelete", "foo"), ("list", "-u")):
        assert "the build cache is disabled" in chimage.run(*command, "--no-cache", check=False).expect(1).stderr
    assert undeletable(chimage) == ["foo:latest (amd64)"]


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_each_deletion_can_be_recovered(chimage: Chimage, storage: Path, tree: Path, wanted: int) -> None:
    delete_versions(chimage, tree, 3)
    chimage.run("undelete", f"--nth={wanted}", "foo")
    assert number(storage) == str(4 - wanted)
    assert len(undeletable(chimage, "-l", "foo")) == 2
    chimage.run("delete", "foo")
    chimage.run("undelete", "foo")
    assert number(storage) == str(4 - wanted), "it is now the one that was deleted last"


def test_a_deletion_that_is_not_there(chimage: Chimage, storage: Path, tree: Path) -> None:
    delete_versions(chimage, tree, 2)
    assert "deleted 2 times" in chimage.run("undelete", "--nth", "3", "foo", check=False).expect(1).stderr
    for wrong in ("0", "-1", "x", "1.5", "²", "9" * 30):
        chimage.run("undelete", f"--nth={wrong}", "foo", check=False).expect(2)
    assert not (storage / "img/foo+latest").exists()


def test_each_deletion_is_listed_once_newest_first(chimage: Chimage, tree: Path) -> None:
    delete_versions(chimage, tree, 2)
    delete_versions(chimage, tree, 1, "bar:2")
    assert undeletable(chimage) == ["bar:2 (amd64)", "foo:latest (amd64)"]
    assert chimage.run("list", "--undeleteable").stdout == chimage.run("list", "--undeletable").stdout
    lines = undeletable(chimage, "-l")
    time = r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4}"
    assert [re.sub(time, "TIME", line) for line in lines] == [
        "bar:2 (amd64)      | TIME | 1",
        "foo:latest (amd64) | TIME | 1",
        "foo:latest (amd64) | TIME | 2",
    ]
    images = chimage.run("list", "-u", "--json").json()["images"]
    found = [(image["reference"], image["number"], image["exists"]) for image in images]
    assert found == [("bar:2", 1, False), ("foo:latest", 1, False), ("foo:latest", 2, False)]
    assert images[1]["deleted_ns"] > images[2]["deleted_ns"]
    assert images[1]["state"] != images[2]["state"]


def test_looking_makes_nothing(chimage: Chimage, storage: Path, tree: Path) -> None:
    assert undeletable(chimage) == []
    assert not storage.exists()
    delete_versions(chimage, tree, 1)
    before = traces(storage)
    undeletable(chimage, "-l")
    assert traces(storage) == before


def test_a_lost_directory_is_recovered_too(chimage: Chimage, storage: Path, tree: Path) -> None:
    """Nobody but `rm` deleted it: the build cache still has the name."""
    delete_versions(chimage, tree, 1)
    (tree / "number").write_text("2")
    chimage.run("import", tree, "foo")
    shutil.rmtree(storage / "img/foo+latest")
    assert "exists" in chimage.run("undelete", "--nth=1", "foo", check=False).expect(1).stderr
    chimage.run("undelete", "foo")
    assert number(storage) == "2"
    assert len(undeletable(chimage, "foo")) == 1


def test_killed_while_it_unpacked_the_image_stays_deleted(chimage: Chimage, storage: Path, tree: Path) -> None:
    delete_versions(chimage, tree, 1)
    cache, images = git_cache(storage), Images(Layout(str(storage)))
    (deletion,) = cache.deleted()
    cache.restore(deletion.snapshot, images.workplace(deletion.name))
    chimage.run("import", tree, "other")
    assert chimage.run("list").stdout.replace("arm64", "amd64") == "other:latest (amd64)\n"
    assert undeletable(chimage) == ["foo:latest (amd64)"]
    chimage.run("undelete", "foo")
    assert number(storage) == "1"


def test_killed_after_it_got_its_name_back_the_next_command_completes_it(
    chimage: Chimage, storage: Path, tree: Path
) -> None:
    delete_versions(chimage, tree, 1)
    cache, images = git_cache(storage), Images(Layout(str(storage)))
    (deletion,) = cache.deleted()
    cache.restore(deletion.snapshot, images.workplace(deletion.name))
    cache.publish(deletion.name, deletion.snapshot)  # The first half of recovering it.
    chimage.run("import", tree, "other")
    assert number(storage) == "1"
    assert undeletable(chimage) == []
    chimage.run("delete", "foo")
    chimage.run("undelete", "foo")
    assert number(storage) == "1"


def test_an_image_whose_files_are_lost_stays_deleted_and_leaves_nothing(
    chimage: Chimage, storage: Path, tree: Path
) -> None:
    delete_versions(chimage, tree, 1)
    packs = storage / "cache/git/objects/pack"
    for path in packs.iterdir():
        path.unlink()
    assert "error: " in chimage.run("undelete", "foo", check=False).expect(1).stderr
    assert os.listdir(storage / "img") == os.listdir(storage / "work") == []


@pytest.mark.parametrize("name", ["..", "/", "../img", "foo/../..", ""])
def test_a_path_is_no_image(chimage: Chimage, storage: Path, tree: Path, name: str) -> None:
    delete_versions(chimage, tree, 1)
    before = contents(storage)
    chimage.run("undelete", name, check=False).expect(1)
    assert contents(storage) == before


def test_a_reference_that_is_no_image_of_ours_disturbs_nobody(chimage: Chimage, storage: Path, tree: Path) -> None:
    """Anybody may add to the repository with git."""
    delete_versions(chimage, tree, 1)
    chimage.run("import", tree, "bar")
    repository = storage / "cache/git"
    commit = (repository / "refs/images/bar+latest").read_text()
    for strange in ("refs/images/Upper", "refs/images/a/b", "refs/deleted/x", "refs/deleted/Upper/" + "0" * 20):
        (repository / strange).parent.mkdir(parents=True, exist_ok=True)
        (repository / strange).write_text(commit)
    assert undeletable(chimage) == ["foo:latest (amd64)"]
    assert "*  (Upper, a/b, bar" in chimage.run("build-cache", "--tree").stdout
    chimage.run("delete", "b*")
    assert sorted(undeletable(chimage)) == ["bar:latest (amd64)", "foo:latest (amd64)"]
