"""Whatever a file can be comes back from the cache bit for bit, on every way there is."""

import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chimage_core.errors import CacheError
from chimage_core.events import Warned
from chimage_core.rootfs.changes import PathsChanged
from tests.core.cache.support import Site, commit, open_up, write_files
from tests.support import host
from tests.support.image_trees import change_tree, describe, make_tree, unlocked

_EXAMPLES = settings(max_examples=25, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_SEEDS = st.integers(0, 2**32)


@contextmanager
def _new_site() -> Iterator[Site]:
    """Give a storage directory of its own to each example, and remove it despite permissions."""
    with tempfile.TemporaryDirectory() as directory:
        yield Site(Path(directory))
        with unlocked(directory):
            pass


@_EXAMPLES
@given(seed=_SEEDS)
def test_a_restored_tree_is_the_committed_one(seed: int) -> None:
    with _new_site() as site:
        place, copy = site.place("image"), site.place("copy")
        make_tree(place.root, Random(seed))
        snapshot = commit(site.cache(), place)
        site.cache().restore(snapshot, copy)
        assert describe(copy.root) == describe(place.root)


@_EXAMPLES
@given(seed=_SEEDS)
@example(seed=6060)
@example(seed=672)
def test_a_commit_of_changes_is_what_the_directory_holds(seed: int) -> None:
    """The stat cache must notice every kind of change; what it misses would be lost silently."""
    with _new_site() as site:
        random, place, copy = Random(seed), site.place("image"), site.place("copy")
        make_tree(place.root, random)
        cache = site.cache()
        snapshot = commit(cache, place)
        for step in range(2):
            cache = site.cache() if random.random() < 0.5 else cache
            open_up(cache, place)
            change_tree(place.root, random, random.choice((1, 5, 20)))
            snapshot = commit(cache, place, snapshot, key=b"%d" % step)
        cache.restore(snapshot, copy)
        assert describe(copy.root) == describe(place.root)


@_EXAMPLES
@given(seed=_SEEDS)
def test_a_delta_gives_the_same_as_a_whole_restore(seed: int) -> None:
    """Also when the directory was changed since by a RUN that failed half-way."""
    with _new_site() as site:
        random, place = Random(seed), site.place("image")
        make_tree(place.root, random)
        cache = site.cache()
        first, first_tree = commit(cache, place), describe(place.root)
        open_up(cache, place)
        change_tree(place.root, random, 15)
        second, second_tree = commit(cache, place, first, key=b"2"), describe(place.root)
        inode = os.stat(place.root).st_ino
        for snapshot, tree in ((first, first_tree), (second, second_tree), (first, first_tree)):
            if random.random() < 0.5:
                open_up(cache, place)
                change_tree(place.root, random, 3)
            site.cache().restore(snapshot, place)
            assert describe(place.root) == tree
        assert os.stat(place.root).st_ino == inode, "the directory was replaced, so this tested no delta"


def test_many_files_go_through_several_processes(site: Site) -> None:
    """Hard links may span directories that different processes make; all packs together must be complete."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {f"d{number % 20}/f{number}": f"{number % 900}" * (number % 50) for number in range(1500)})
    for number in range(10):
        os.link(f"{place.root}/d1/f1", f"{place.root}/d{number}/link")
    with open(f"{place.root}/big", "wb") as file:
        file.write(b"0123456789abcdef" * 700_000)
    with open(f"{place.root}/random", "wb") as file:
        file.write(Random(1).randbytes(9 << 20))
    snapshot = commit(site.cache(), place)
    site.cache().restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)
    assert os.stat(f"{copy.root}/d5/link").st_nlink == 11


def test_a_process_with_threads_starts_its_workers_anew(site: Site) -> None:
    """Forking while another thread holds a lock would hang the worker for ever."""
    import threading

    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {f"d{number % 20}/f{number}": f"{number}" for number in range(400)})
    finish = threading.Event()
    thread = threading.Thread(target=finish.wait)
    thread.start()
    try:
        snapshot = commit(site.cache(), place)
        site.cache().restore(snapshot, copy)
    finally:
        finish.set()
        thread.join()
    assert describe(copy.root) == describe(place.root)


def test_sparse_files_stay_sparse(site: Site) -> None:
    place, copy = site.place("image"), site.place("copy")
    os.makedirs(place.root)
    with open(f"{place.root}/disk", "wb") as file:
        file.truncate(1 << 27)
        file.seek(70 << 20)
        file.write(b"data" * 5000)
    with open(f"{place.root}/hole", "wb") as file:
        file.truncate(1 << 26)
    site.cache().restore(commit(site.cache(), place), copy)
    assert describe(copy.root) == describe(place.root)
    assert os.stat(f"{copy.root}/disk").st_blocks * 512 < 1 << 20


def test_access_control_lists_come_back(site: Site) -> None:
    if not host.has_program("setfacl"):
        pytest.skip("setfacl is not installed")
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"dir/file": "x"})
    user = os.geteuid() + 1
    made = subprocess.run(
        ["setfacl", "-R", "-m", f"u:{user}:r-x,d:u:{user}:rwx", f"{place.root}/dir"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this file system has no access control lists")
    site.cache().restore(commit(site.cache(), place), copy)
    assert describe(copy.root) == describe(place.root)
    assert os.getxattr(f"{copy.root}/dir", "system.posix_acl_default")


def test_attributes_are_left_out_on_request(site: Site) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"file": "x"})
    try:
        os.setxattr(f"{place.root}/file", "user.test", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    site.cache().restore(commit(site.cache(xattrs=False), place), copy)
    assert os.listxattr(f"{copy.root}/file") == []


def test_a_socket_is_dropped_with_a_warning(site: Site, tmp_path: Path) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"file": "x"})
    with socket.socket(socket.AF_UNIX) as server:
        # The name of a socket has at most 108 bytes.
        server.bind(str(tmp_path / "s"))
        os.rename(tmp_path / "s", f"{place.root}/socket")
    site.cache().restore(commit(site.cache(), place), copy)
    assert sorted(os.listdir(copy.root)) == ["ch", "file"]
    assert "socket" in site.events.one(Warned).text


@pytest.mark.root
def test_a_device_is_an_error_that_names_it(site: Site) -> None:
    place = site.place("image")
    os.makedirs(place.root)
    os.mknod(f"{place.root}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with pytest.raises(CacheError, match=r"device.*/null"):
        commit(site.cache(), place)


def test_a_changed_file_is_found_although_its_time_was_put_back(site: Site) -> None:
    """RPM's database does this. ctime cannot be put back."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"db": "one"})
    before = os.stat(f"{place.root}/db")
    first = commit(site.cache(), place)
    with open(f"{place.root}/db", "r+", encoding="utf-8") as file:
        file.write("two")
    os.utime(f"{place.root}/db", ns=(before.st_atime_ns, before.st_mtime_ns))
    second = commit(site.cache(), place, first)
    site.cache().restore(second, copy)
    assert Path(copy.root, "db").read_text() == "two"


def test_only_what_was_touched_is_read(site: Site) -> None:
    """A step that says what it touched costs nothing for the rest of the image, and so does not see it."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"etc/a": "1", "usr/b": "1"})
    cache = site.cache()
    first = commit(cache, place)
    cache.opening(place)
    write_files(place.root, {"etc/a": "22", "usr/b": "22", "new/deep/c": "3"})
    second = commit(cache, place, first, changes=PathsChanged(("etc/a", "new/deep/c")))
    cache.restore(second, copy)
    assert Path(copy.root, "etc/a").read_text() == "22"
    assert Path(copy.root, "usr/b").read_text() == "1"
    assert Path(copy.root, "new/deep/c").read_text() == "3"


def test_a_file_changed_through_another_of_its_names_is_changed_under_all(site: Site) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"etc/a": "1"}, ["usr"])
    os.link(f"{place.root}/etc/a", f"{place.root}/usr/b")
    cache = site.cache()
    first = commit(cache, place)
    cache.opening(place)
    Path(place.root, "etc/a").write_text("22")
    second = commit(cache, place, first, changes=PathsChanged(("etc/a",)))
    cache.restore(second, copy)
    assert describe(copy.root) == describe(place.root)


def test_touched_paths_are_not_believed_when_somebody_else_had_the_directory(site: Site) -> None:
    """A killed process may have changed anything: the next one must not trust what only its own step touched."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"etc/a": "1", "usr/b": "1"})
    first = commit(site.cache(), place)
    site.cache().opening(place)  # By a process that then died.
    write_files(place.root, {"etc/a": "22", "usr/b": "22"})
    cache = site.cache()
    second = commit(cache, place, first, changes=PathsChanged(("etc/a",)))
    cache.restore(second, copy)
    assert Path(copy.root, "usr/b").read_text() == "22"


def test_a_group_that_lost_and_gained_names_is_restored_exactly(site: Site) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"a": "1"})
    os.link(f"{place.root}/a", f"{place.root}/b")
    os.link(f"{place.root}/a", f"{place.root}/c")
    cache = site.cache()
    snapshot = commit(cache, place)
    os.unlink(f"{place.root}/b")
    Path(place.root, "b").write_text("1")
    os.link(f"{place.root}/b", f"{place.root}/d")
    snapshot = commit(cache, place, snapshot)
    cache.restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)
    assert os.stat(f"{copy.root}/a").st_nlink == os.stat(f"{copy.root}/b").st_nlink == 2


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_an_image_whose_root_lacks_permissions_can_be_replaced(site: Site, mode: int) -> None:
    """Moving a directory to another parent needs write permission on itself."""
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    os.chmod(place.root, mode)
    snapshot = commit(site.cache(), place)
    assert site.cache().held(place) == snapshot
    tree = describe(place.root)
    os.unlink(f"{place.side}/stamp")
    site.cache().restore(snapshot, place)
    assert describe(place.root) == tree
    assert site.cache().held(place) == snapshot
