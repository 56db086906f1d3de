"""What programs leave in image directories, and file systems do to them, must not end in a damaged cache or image."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from chimage_core.fs import xattr
from chimage_core.fs.contents import data_extents
from chimage_core.fs.remove import remove_tree
from chimage_core.rootfs.changes import PathsChanged
from tests.core.cache.support import Site, commit, run_in_overlay, write_files
from tests.support.image_trees import default_acl, describe, unlocked


def test_a_file_system_that_cannot_tell_holes_has_none() -> None:
    """Else a file with content would be recorded as one big hole. /proc/self/mem answers lseek(2) so."""
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        assert list(data_extents(descriptor, 1 << 20)) == [(0, 1 << 20)]
    finally:
        os.close(descriptor)


def test_a_directory_that_moved_away_and_back_is_recorded_whole_without_stat_cache(site: Site) -> None:
    """After the loss, records are incomplete, and what is left of them must not be mistaken for what comes later."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"a/b/old": "1"})
    snapshot = commit(site.cache(), place)
    os.unlink(f"{place.side}/stat")
    cache = site.cache()
    cache.opening(place)
    write_files(place.root, {"a/b/new/file": "1"})
    snapshot = commit(cache, place, snapshot, changes=PathsChanged(("a/b/new",)))
    for source, target in (("a", "c"), ("c", "a")):
        cache.opening(place)
        os.rename(f"{place.root}/{source}", f"{place.root}/{target}")
        snapshot = commit(cache, place, snapshot)
    cache.restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)
    assert "a/b/new/file" in site.git("ls-tree", "-r", "--name-only", f"{snapshot.token}:root")


def _bind_socket(path: str) -> None:
    os.unlink(path)
    # A socket's name may have at most 107 bytes.
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        os.close(directory)


def _make_device(path: str) -> None:
    os.unlink(path)
    try:
        os.mknod(path, 0o20600, 0)  # What overlays mark deleted files with: the one device that anybody can make.
    except PermissionError:
        pytest.skip("no device can be made here")


@pytest.mark.parametrize("removed", [["far/link"], ["far"], ["far", "closed"]])
def test_a_hard_link_to_a_file_in_a_closed_directory_is_made_again(site: Site, removed: list[str]) -> None:
    place = site.place("image")
    write_files(place.root, {"closed/below/file": "1"}, ["far"])
    os.link(f"{place.root}/closed/below/file", f"{place.root}/far/link")
    os.chmod(f"{place.root}/closed/below", 0o600)
    os.chmod(f"{place.root}/closed", 0)
    cache = site.cache()
    snapshot, tree = commit(cache, place), describe(place.root)
    inode = os.stat(place.root).st_ino
    cache.opening(place)
    for path in removed:
        remove_tree(f"{place.root}/{path}")
    cache.restore(snapshot, place)
    assert describe(place.root) == tree
    assert os.stat(place.root).st_ino == inode, "the directory was replaced, so this tested no delta"
    for path in ("closed", "closed/below"):
        os.chmod(f"{place.root}/{path}", 0o700)  # For pytest.


@pytest.mark.parametrize("spoil", [_bind_socket, _make_device])
def test_an_image_is_restored_whatever_a_step_left_in_it(site: Site, spoil: Callable[[str], None]) -> None:
    """Else a failed step could not be undone, now or by any later command."""
    place = site.place("image")
    write_files(place.root, {"spoilt": "1"})
    cache = site.cache()
    snapshot, tree = commit(cache, place), describe(place.root)
    cache.opening(place)
    spoil(f"{place.root}/spoilt")
    cache.restore(snapshot, place)
    assert cache.held(place) == snapshot
    assert describe(place.root) == tree


def test_what_was_written_before_a_restart_is_not_trusted(site: Site) -> None:
    """After a power failure, files may be there, with all the numbers of the stat cache, but without their content."""
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    snapshot = commit(site.cache(), place)
    before = os.stat(f"{place.root}/file").st_ino
    stamp = Path(place.side, "stamp")
    lines = stamp.read_text().splitlines(keepends=True)
    stamp.write_text("".join("boot another\n" if line.startswith("boot ") else line for line in lines))
    site.cache().restore(snapshot, place)
    assert os.stat(f"{place.root}/file").st_ino != before


def test_what_is_restored_inherits_nothing_from_its_directory(site: Site) -> None:
    """A default ACL is for what a RUN makes; what the cache makes again has its own ACL, or none."""
    place = site.place("image")
    write_files(place.root, {"shared/file": "1", "shared/sub/file": "1"})
    try:
        os.setxattr(f"{place.root}/shared", xattr.DEFAULT_ACL, default_acl())
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    cache, before = site.cache(), describe(place.root)
    snapshot = commit(cache, place)
    before |= {name: value for name, value in describe(place.root).items() if name not in before}
    cache.opening(place)
    remove_tree(f"{place.root}/shared/sub")
    os.unlink(f"{place.root}/shared/file")
    commit(cache, place, snapshot)
    cache.restore(snapshot, place)
    after = describe(place.root)
    for name in (b"shared", b"shared/file", b"shared/sub", b"shared/sub/file"):
        assert after[name] == before[name]


def test_closed_directories_may_be_nested_deeper_than_python_recurses(site: Site) -> None:
    """A scan opens them one inside the other, and closes each when all below it was seen."""
    place, copy = site.place("image"), site.place("copy")
    paths = ["/".join(["d"] * depth) for depth in range(1, 401)]
    for path in paths:
        os.makedirs(os.path.join(place.root, path))
    write_files(place.root, {f"{paths[-1]}/file": "1", "d/beside": "2"})
    for path in reversed(paths):
        os.chmod(os.path.join(place.root, path), 0o000)
    cache = site.cache()
    snapshot = commit(cache, place)
    cache.restore(snapshot, copy)
    assert os.stat(os.path.join(place.root, "d")).st_mode & 0o777 == 0
    with unlocked(copy.root), unlocked(place.root):
        for root in (copy.root, place.root):
            with open(os.path.join(root, paths[-1], "file"), encoding="ascii") as file:
                assert file.read() == "1"
    assert commit(site.cache(), copy, snapshot, key=b"again").token != snapshot.token


def test_an_image_that_is_written_to_in_place_stays_as_it_is(site: Site) -> None:
    """Large files that it shared with the cache: with several names, below closed directories, or a default ACL."""
    place = site.place("image")
    write_files(place.root, {"closed/below/file": "x\0" * (1 << 19), "acl/large": "y\0" * (1 << 19)}, ["far"])
    os.link(f"{place.root}/closed/below/file", f"{place.root}/far/link")
    os.link(f"{place.root}/acl/large", f"{place.root}/far/large")
    with contextlib.suppress(OSError):
        os.setxattr(f"{place.root}/acl", xattr.DEFAULT_ACL, default_acl())
    for path in ("closed/below", "closed"):
        os.chmod(f"{place.root}/{path}", 0)
    cache = site.cache(may_link=True)
    commit(cache, place)
    tree = describe(place.root)
    cache.opening(place)
    assert os.stat(f"{place.root}/acl/large").st_nlink == 3, "nothing was shared, so this tested nothing"
    cache.unshare(place)
    assert os.stat(f"{place.root}/acl/large").st_nlink == os.stat(f"{place.root}/far/link").st_nlink == 2
    assert describe(place.root) == tree
    for path in ("closed", "closed/below"):
        os.chmod(f"{place.root}/{path}", 0o700)  # For pytest.


@pytest.mark.userns
def test_a_file_in_our_directory_with_names_elsewhere_survives_the_loss_of_the_stat_cache(site: Site) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"ch/file": "1"})
    os.link(f"{place.root}/ch/file", f"{place.root}/link")
    snapshot = commit(site.cache(), place)
    os.unlink(f"{place.side}/stat")
    snapshot = commit(site.cache(), place, snapshot, changes=run_in_overlay(place, "os.mkdir('new')"))
    site.cache().restore(snapshot, copy)
    assert os.stat(f"{copy.root}/link").st_nlink == 2
