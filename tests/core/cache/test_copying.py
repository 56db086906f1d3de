"""Files that are copied and stored in one pass: the image and the commit are the same as if that were two."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.git.contents import MANY_FILES
from chimage_core.cache.git.copying import StoringCopier
from chimage_core.cache.git.large import LARGE
from chimage_core.cache.git.statcache import numbers_of, pack_numbers
from chimage_core.cache.git.trees import TreeMemory, Trees
from chimage_core.cache.protocol import Snapshot
from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, FileError
from chimage_core.fs import xattr
from chimage_core.fs.copy import CopyReport, copy_tree
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.tree import walk
from chimage_core.rootfs.changes import PathsChanged
from chimage_core.rootfs.place import ImagePlace
from tests.core.cache.support import Site, commit, write_files
from tests.core.fs.test_remove import make_deep
from tests.support.image_trees import change_tree, default_acl, describe, make_tree, unlocked

MANY = MANY_FILES + 100
_EXAMPLES = settings(max_examples=12, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def make_source(top: Path) -> Path:
    """Make a tree with many files, some of them by no means ordinary."""
    contents = Random(1)
    for number in range(MANY):
        path = top / f"d{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.randbytes(number * 20))
        os.utime(path, ns=(5, 1_000_000_007 * number))
    (top / "d0" / "large").write_bytes(b"\0" + contents.randbytes(2 * LARGE))
    (top / "d0" / "large text").write_bytes(b"text\n" * LARGE)
    (top / "d0" / "half a million").write_bytes(b"\0" + contents.randbytes(500_000))
    (top / "d1" / "two million").write_bytes(b"\0" + contents.randbytes(2_000_000))
    with open(top / "d1" / "sparse", "wb") as file:
        file.truncate(300_000)
        file.seek(150_000)
        file.write(b"middle")
    os.link(top / "d2" / "2", top / "d3" / "linked")
    os.symlink("/nowhere", top / "d3" / "symlink")
    os.mkfifo(top / "d3" / "fifo")
    (top / os.fsdecode(b"d\xff\n")).mkdir()
    (top / os.fsdecode(b"d\xff\n/\xfe")).write_text("no UTF-8")
    os.chmod(top / "d4" / "4", 0o4511)
    os.chmod(top / "d4", 0o2555)
    os.chmod(top / "d5", 0o500)
    return top


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    yield make_source(tmp_path / "source")
    with unlocked(str(tmp_path)):
        pass


def copy(source: Path, copier: StoringCopier | None, target: str, **options: object) -> CopyReport:
    return copy_tree(
        str(source),
        target,
        **{"xattrs": True, "cancel": CancelToken(), "merge": True, "delegate": copier, **options},  # type: ignore[arg-type]
    )


class Copied:
    """An image that files are copied into, and its cache."""

    def __init__(self, site: Site, name: str = "image", **options: bool) -> None:
        self.cache: GitCache = site.cache(**options)  # type: ignore[arg-type]
        self.place: ImagePlace = site.place(name)
        write_files(self.place.root, {"etc/file": "1"}, ["empty"])
        self.before: Snapshot = commit(self.cache, self.place)
        self.cache.opening(self.place)
        self.copier = self.cache.copier(self.place)
        self.target = f"{self.place.root}/data"

    def commit(self) -> Snapshot:
        """Remember the place, with what the copier knows."""
        changes = PathsChanged(("data",), self.copier)
        return commit(self.cache, self.place, self.before, key=b"copy", changes=changes)

    def known(self) -> set[str]:
        """Return the paths of the files below the target of which the copier knows the content."""
        found = set()
        for directory, _, names in os.walk(self.target):
            for path in (os.path.join(directory, name) for name in names):
                if self.copier.find(pack_numbers(numbers_of(os.lstat(path)))):
                    found.add(os.path.relpath(path, self.target))
        return found


def committed(copied: Copied) -> bytes:
    """Commit, and return the tree of what was copied."""
    engine, snapshot = copied.cache.engine, copied.commit()
    root = Trees(engine.store, engine.root_tree(snapshot.token), TreeMemory()).get(b"")
    assert root is not None
    return root.folders[b"data"]


@pytest.mark.parametrize("may_link", [False, True])
def test_image_and_commit_are_the_same_as_without(source: Path, site: Site, may_link: bool) -> None:
    stored, plain = Copied(site, may_link=may_link), Copied(site, "plain", may_link=may_link)
    report = copy(source, stored.copier, stored.target)
    expected = copy(source, None, plain.target)
    assert report == expected
    copies = describe(stored.target)
    assert copies == describe(plain.target)
    left = {"d1/two million", "d2/2", "d3/linked"}
    assert len(stored.known()) == report.files - len(left)
    assert not left & stored.known()
    assert committed(stored) == committed(plain)
    snapshot, other = stored.cache.held(stored.place), site.place("other")
    assert snapshot is not None
    site.cache().restore(snapshot, other)
    assert describe(f"{other.root}/data") == copies
    for root in (stored.place.root, plain.place.root, other.root):
        with unlocked(root):
            pass


@_EXAMPLES
@given(seed=st.integers(0, 2**32))
def test_random_trees_are_committed_as_without(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("random")
    site, source = Site(top), top / "source"
    source.mkdir()
    for number in range(MANY):
        (source / f"more{number}").write_bytes(b"%d" % number)
    make_tree(str(source / "tree"), Random(seed))
    with contextlib.ExitStack() as stack:
        stack.enter_context(unlocked(str(source)))
        for directory, _, names in os.walk(source):
            for path in (os.path.join(directory, name) for name in names):
                if not os.path.islink(path):
                    os.chmod(path, os.lstat(path).st_mode | 0o400)  # Who cannot read a source cannot copy it.
        stored, plain = Copied(site), Copied(site, "plain")
        copy(source, stored.copier, stored.target)
        copy(source, None, plain.target)
        assert len(stored.known()) >= MANY
        assert committed(stored) == committed(plain)
        with unlocked(stored.place.root):
            change_tree(stored.target, Random(seed + 1), 10)
    for place in (stored.place, plain.place):
        with unlocked(place.root):
            pass
    remove_tree(str(top))


def test_a_single_big_directory_is_divided(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(700):
        (source / str(number)).write_bytes(b"%d" % number)
    stored = Copied(site)
    copy(source, stored.copier, stored.target)
    assert len(stored.copier.packs) == 2
    assert len(stored.known()) == 700


def test_few_files_are_left_to_the_commit(site: Site, tmp_path: Path) -> None:
    write_files(str(tmp_path / "source"), {"a": "1", "b/c": "2"})
    stored = Copied(site)
    report = copy(tmp_path / "source", stored.copier, stored.target)
    assert (report.files, report.directories, report.bytes) == (2, 2, 2)
    assert not stored.copier.packs
    assert not stored.known()


def test_what_changes_after_it_was_copied_is_read_again(source: Path, site: Site) -> None:
    stored = Copied(site)
    copy(source, stored.copier, stored.target)
    changed = Path(stored.target, "d1", "1")
    changed.write_bytes(bytes(reversed(changed.read_bytes())))
    Path(stored.target, "d1", "8").unlink()
    Path(stored.target, "d1", "8").write_bytes(b"x" * 160)
    expected = describe(stored.target)
    stored.cache.restore(stored.commit(), site.place("other"))
    assert describe(site.place("other").root + "/data") == expected


def test_what_gives_way_is_forgotten(source: Path, site: Site) -> None:
    """A file of new content may get inode, ctime and size of one that was removed just before."""
    stored = Copied(site)
    copy(source, stored.copier, stored.target)
    assert stored.known()
    write_files(str(site.root / "more"), {"d1/1": "another"})
    assert copy(site.root / "more", stored.copier, stored.target).replaced == 1
    assert not stored.known()


def test_lost_packs_only_cost_time(source: Path, site: Site) -> None:
    stored = Copied(site)
    copy(source, stored.copier, stored.target)
    expected = describe(stored.target)
    for index in stored.copier.packs:
        os.unlink(index)
        os.unlink(index.removesuffix("idx") + "pack")
    site.cache().restore(stored.commit(), site.place("other"))
    assert describe(site.place("other").root + "/data") == expected


def test_permissions_can_be_changed_on_the_way(source: Path, site: Site) -> None:
    stored, plain = Copied(site), Copied(site, "plain")

    def chmod(mode: int) -> int:
        return 0o751 if mode & 0o40000 else 0o200 | (mode & 0o1)

    copy(source, stored.copier, stored.target, chmod=chmod)
    copy(source, None, plain.target, chmod=chmod)
    assert describe(stored.target) == describe(plain.target)
    assert committed(stored) == committed(plain)


@pytest.mark.parametrize("kept", [True, False])
def test_attributes(source: Path, site: Site, kept: bool) -> None:
    if not xattr.is_supported(str(source)):
        pytest.skip("the file system has no user attributes")
    for name in ("1", "8"):
        os.setxattr(source / "d1" / name, "user.a", name.encode())
    stored, plain = Copied(site, xattrs=kept), Copied(site, "plain", xattrs=kept)
    for each in (stored, plain):
        os.mkdir(each.target)
        os.mkdir(f"{each.target}/d2")
        xattr.write(f"{each.target}/d2", {xattr.DEFAULT_ACL: default_acl()})
        copy(source, each.copier if each is stored else None, each.target, xattrs=kept)
        os.utime(each.target, ns=(1, 1))
    assert xattr.read(f"{stored.target}/d1/1") == ({"user.a": b"1"} if kept else {})
    assert committed(stored) == committed(plain)


def during_the_walk(directory: str, act: Callable[[], None]) -> Callable[[str, bool], bool]:
    """Return an `exclude` that excludes nothing, but acts when it is asked about a directory at the top."""

    def exclude(path: str, is_directory: bool) -> bool:
        if path == directory and is_directory:
            act()
        return False

    return exclude


def test_a_file_that_cannot_be_read_is_named(source: Path, site: Site) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    os.chmod(source / "d1" / "8", 0)
    stored = Copied(site)
    with pytest.raises(FileError, match=r"can't copy: .*/source/d1/8: Permission denied"):
        copy(source, stored.copier, stored.target)


def test_files_that_vanish_or_become_something_else(source: Path, site: Site) -> None:
    """They were listed, and copying them begins when all directories are there."""
    stored = Copied(site)
    (source / "last").mkdir()
    seen: list[str] = []

    def act() -> None:
        for path in sorted(source.glob("d1/*"))[:3]:
            path.unlink()
            seen.append(f"d1/{path.name}")
        os.symlink("/etc/passwd", source / seen[1])
        (source / seen[2]).mkdir()
        (source / seen[2] / "inside").write_text("new")

    asked: set[str] = set()

    def exclude(path: str, is_directory: bool) -> bool:
        asked.add(path)
        if not seen and any(name.startswith("d1/") for name in asked):
            act()
        return False

    copy(source, stored.copier, stored.target, exclude=exclude)
    assert not os.path.lexists(f"{stored.target}/{seen[0]}")
    assert os.readlink(f"{stored.target}/{seen[1]}") == "/etc/passwd"
    assert Path(stored.target, seen[2], "inside").read_text() == "new"


def test_a_directory_that_is_exchanged_for_a_symlink_is_not_followed(source: Path, site: Site) -> None:
    outside = site.root / "outside"
    outside.mkdir()
    (source / "d1").rename(source / "moved")
    shutil.copytree(source / "moved", source / "d1")
    for name in os.listdir(source / "d1"):
        (outside / name).write_text("secret")
    stored = Copied(site)
    asked: set[str] = set()

    def exclude(path: str, is_directory: bool) -> bool:
        if asked >= {f"d1/{name}" for name in os.listdir(outside)} and not (source / "d1").is_symlink():
            shutil.rmtree(source / "d1")
            os.symlink(outside, source / "d1")
        asked.add(path)
        return False

    (source / "zz").mkdir()
    with pytest.raises(FileError):
        copy(source, stored.copier, stored.target, exclude=exclude)
    assert (source / "d1").is_symlink()
    assert not [path for path in Path(stored.target).rglob("*") if path.is_file() and path.read_bytes() == b"secret"]


def test_cancelling_stops_the_copy(source: Path, site: Site) -> None:
    stored, cancel = Copied(site), CancelToken()
    with pytest.raises(Cancelled):
        copy(source, stored.copier, stored.target, cancel=cancel, exclude=during_the_walk("d3", cancel.cancel))
    assert not [name for name in os.listdir(f"{site.repository}/objects/pack") if name.startswith("tmp_")]


def test_trees_deeper_than_any_path_are_copied(source: Path, site: Site) -> None:
    (source / "deep").mkdir()
    make_deep(source / "deep", 600)
    stored = Copied(site)
    report = copy(source, stored.copier, stored.target)
    assert report.files == MANY + 8
    assert len(stored.known()) > MANY
    tops = source / "deep", Path(stored.target, "deep")
    (times, copied_times) = [
        [entry.status.st_mtime_ns for entry in walk(str(top), cancel=CancelToken())] for top in tops
    ]
    assert times == copied_times
    for top in tops:
        remove_tree(str(top))


def test_a_process_with_threads_copies_as_well(source: Path, site: Site) -> None:
    stored, done = Copied(site), threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        copy(source, stored.copier, stored.target)
    finally:
        done.set()
        thread.join()
    assert len(stored.known()) > MANY
    assert stored.commit()
