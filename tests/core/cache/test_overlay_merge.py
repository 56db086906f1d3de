"""The upper directory of a real overlay, merged, is what the overlay showed, and is committed as such."""

import os
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.fs.remove import remove_tree
from tests.core.cache.support import Site, change_in_overlay, commit, run_in_overlay, write_files
from tests.support.image_trees import describe, make_tree, unlocked

pytestmark = pytest.mark.userns


@settings(max_examples=15, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_a_merged_overlay_gives_the_tree_of_a_whole_walk(seed: int) -> None:
    """The commit looks only at what was merged; it must find the same as one that looks at everything."""
    with tempfile.TemporaryDirectory() as directory:
        site, random = Site(Path(directory)), Random(seed)
        place, copy = site.place("image"), site.place("copy")
        make_tree(place.root, random)
        cache = site.cache()
        first = commit(cache, place)
        merged = commit(cache, place, first, changes=change_in_overlay(place, seed, 15))
        walked = commit(site.cache(), place, merged, key=b"walk")
        trees = site.git("rev-parse", f"{merged.token}:root", f"{walked.token}:root").split()
        assert trees[0] == trees[1]
        cache.restore(walked, copy)
        assert describe(copy.root) == describe(place.root)
        assert not os.path.exists(f"{place.side}/upper")
        with unlocked(directory):
            pass


def test_what_the_overlay_showed_is_what_the_directory_holds_afterwards(site: Site) -> None:
    """Every mark of an overlay, and each kind of replacement."""
    place = site.place("image")
    write_files(
        place.root,
        {
            "keep/file": "1",
            "opaque/old": "1",
            "typed": "file",
            "gone/deep/file": "1",
            "turned/file": "1",
            "x/mode": "1",
        },
        ["locked/inside"],
    )
    os.link(f"{place.root}/keep/file", f"{place.root}/keep/link")
    os.chmod(f"{place.root}/locked", 0o555)
    program = """
import shutil
def write(path, text):
    with open(path, "w") as file: file.write(text)
shutil.rmtree("opaque"); os.mkdir("opaque"); write("opaque/new", "2")
os.unlink("typed"); os.mkdir("typed"); write("typed/file", "2")
shutil.rmtree("gone")
shutil.rmtree("turned"); write("turned", "file")
os.chmod("x/mode", 0o4755)
os.mkdir("fresh"); write("fresh/a", "2"); os.link("fresh/a", "fresh/b"); os.chmod("fresh", 0o500)
write("locked/inside/file", "2")
write("keep/link", "2")
os.mkfifo("fifo")
os.setxattr("keep", "user.mine", b"1")
os.utime("keep", ns=(0, 1_500_000_000_000_000_001))
lines = []
for directory, folders, names in os.walk("."):
    for name in (*folders, *names, "."):
        path = os.path.join(directory, name)
        status = os.lstat(path)
        size = status.st_size if name in names else 0
        lines.append(f"{path} {status.st_mode:o} {status.st_mtime_ns} {size}")
write(sys.argv[6], chr(10).join(sorted(lines)))
"""
    listing = site.root / "listing"
    snapshot = commit(site.cache(), place)
    commit(site.cache(), place, snapshot, changes=run_in_overlay(place, program, str(listing)))
    shown = [line for line in listing.read_text().splitlines() if not line.startswith("./ch")]
    assert [line for line in _listing(place.root) if not line.startswith("./ch")] == shown
    tree = describe(place.root)
    assert tree[b"fresh/a"].names == (b"fresh/a", b"fresh/b")
    assert tree[b"keep/file"].names == (b"keep/file",)
    assert tree[b"keep"].xattrs == (("user.mine", b"1"),)
    private = [name for path in tree for name, _ in tree[path].xattrs if "overlay" in name]
    assert private == []


def test_an_overlay_on_a_root_shows_the_mode_and_time_of_the_root(site: Site) -> None:
    """The upper directory is the root directory inside; a RUN that changes nothing must not change it."""
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    os.chmod(place.root, 0o751)
    snapshot = commit(site.cache(), place)
    tree = describe(place.root)
    after = commit(site.cache(), place, snapshot, changes=run_in_overlay(place, ""))
    assert describe(place.root) == tree
    assert site.git("diff", "--stat", snapshot.token, after.token) == ""


def test_trees_may_be_deeper_than_python_recurses(site: Site) -> None:
    """Configure scripts make such trees, to see what getcwd(3) does."""
    place, copy = site.place("image"), site.place("copy")
    deep = "/".join(["d"] * 500)
    for depth in range(500):
        os.makedirs(f"{place.root}/{deep[: 2 * depth + 1]}")
    write_files(place.root, {f"{deep}/old": "1"})
    snapshot = commit(site.cache(), place)
    program = """
os.chdir(sys.argv[6])
for name in ("old", "new"):
    with open(name, "w") as file: file.write("2")
for number in range(1000):
    os.mkdir("e")
    os.chdir("e")
"""
    snapshot = commit(site.cache(), place, snapshot, changes=run_in_overlay(place, program, deep))
    site.cache().restore(snapshot, copy)
    for root in (place.root, copy.root):
        with open(f"{root}/{deep}/new", encoding="ascii") as file:
            assert file.read() == "2"
        assert os.path.isdir(f"{root}/{deep}" + 1000 * "/e")
        remove_tree(root)  # pytest could not.


def _listing(root: str) -> list[str]:
    lines = []
    for directory, folders, names in os.walk(root):
        for name in (*folders, *names, "."):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            size = status.st_size if name in names else 0
            lines.append(
                f"./{os.path.relpath(directory, root)}/{name}".replace("/./", "/", 1)
                + f" {status.st_mode:o} {status.st_mtime_ns} {size}"
            )
    return sorted(lines)
