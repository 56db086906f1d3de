"""Packs: how many there may be, and what becomes of damaged ones."""

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from chimage_core.cache.git.objects import BLOB
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.repository import MANY_PACKS
from chimage_core.cache.git.tidy import merge_packs
from chimage_core.errors import CacheBroken
from tests.core.cache.support import Site, commit, write_files


def _write_packs(objects: Path, count: int, size: int) -> dict[bytes, bytes]:
    """Write packs with one object each; return these."""
    directory = objects / "pack"
    directory.mkdir(parents=True, exist_ok=True)
    written = {}
    for _ in range(count):
        data = os.urandom(size)
        with PackWriter(str(directory), lambda _: False, deflated=False, sync=False) as writer:
            written[writer.add(BLOB, data)] = data
            writer.finish()
    return written


def _packs(objects: Path) -> int:
    assert len(list(objects.glob("pack/*.pack"))) == len(list(objects.glob("pack/*.idx")))
    return len(list(objects.glob("pack/*.idx")))


def test_packs_are_merged_with_those_of_their_size(tmp_path: Path) -> None:
    """Each is an open file or two for every process: without limit, 500 of them stop everything. And what is big is not
    to be copied whenever something small is added."""
    written = _write_packs(tmp_path, MANY_PACKS + 1, 2000) | _write_packs(tmp_path, MANY_PACKS, 100)
    reader = ObjectStore(str(tmp_path))
    assert all(reader.contains(name) for name in written)
    merge_packs(ObjectStore(str(tmp_path)), str(tmp_path / "pack"), sync=False, classes=(1000, 10_000, 100_000))
    assert _packs(tmp_path) == MANY_PACKS + 1
    written |= _write_packs(tmp_path, 1, 100)
    store = ObjectStore(str(tmp_path))
    merge_packs(store, str(tmp_path / "pack"), sync=False, classes=(1000, 10_000, 100_000))
    assert _packs(tmp_path) == 2
    for one in (store, ObjectStore(str(tmp_path)), reader):
        assert all(one.read_kind(name, BLOB) == data for name, data in written.items())


def test_long_entries_are_copied_whole(tmp_path: Path) -> None:
    written = _write_packs(tmp_path, 2, 3 << 20) | _write_packs(tmp_path, MANY_PACKS, 10)
    merge_packs(ObjectStore(str(tmp_path)), str(tmp_path / "pack"), sync=False)
    assert _packs(tmp_path) == 1
    store = ObjectStore(str(tmp_path))
    assert all(store.read_kind(name, BLOB) == data for name, data in written.items())


@pytest.mark.parametrize("deflated", [False, True])
def test_contents_can_be_put_where_they_are_stored(tmp_path: Path, deflated: bool) -> None:
    """Git reads what comes out, whatever is small, long, there twice, or shorter than it was announced."""
    random = Random(1)
    sizes = [0, 1, 15, 16, 2047, 2048, 16 << 10, 0xFFFF, 0x10000, 300_000, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 5]
    contents = [random.randbytes(size) for size in sizes] + [b"text " * 20_000]
    objects = tmp_path / "objects"
    (objects / "pack").mkdir(parents=True)
    written = {}
    with PackWriter(str(objects / "pack"), lambda _: False, deflated=deflated, sync=False) as writer:
        for data in [*contents, contents[3], contents[-1]]:
            room = writer.room(len(data) + 1 if len(data) == 2048 else len(data))
            assert room is not None
            room[: len(data)] = data
            written[writer.add_in_room(room[: len(data)])] = data
            written[writer.add(BLOB, data[:7])] = data[:7]
        assert writer.room(5 << 20) is None
        index = writer.finish()
    assert index is not None
    subprocess.run(["git", "index-pack", "--strict", index.removesuffix("idx") + "pack"], check=True, cwd=tmp_path)
    store = ObjectStore(str(objects))
    assert all(store.read_kind(name, BLOB) == data for name, data in written.items())


def test_entries_longer_than_what_is_kept_in_memory(tmp_path: Path) -> None:
    contents = [os.urandom(10), os.urandom(9 << 20), os.urandom(100), os.urandom(5 << 20)]
    (tmp_path / "pack").mkdir()
    with PackWriter(str(tmp_path / "pack"), lambda _: False, deflated=False, sync=False) as writer:
        names = [writer.add(BLOB, data) for data in contents]
        writer.finish()
    store = ObjectStore(str(tmp_path))
    assert [store.read_kind(name, BLOB) for name in names] == contents


@pytest.mark.parametrize("ending", [".idx", ".pack"])
@pytest.mark.parametrize("size", [0, 11, 1080])
def test_a_damaged_pack_is_one_clear_error(site: Site, ending: str, size: int) -> None:
    """As after a power failure on a disk that lies about what it has written."""
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    snapshot = commit(site.cache(), place)
    (path,) = Path(site.repository, "objects", "pack").glob(f"*{ending}")
    path.chmod(0o600)
    os.truncate(path, min(size, path.stat().st_size - 1))
    with pytest.raises(CacheBroken, match=r"build cache|index"):
        site.cache().restore(snapshot, site.place("copy"))
