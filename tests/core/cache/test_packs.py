"""Packs: how many there may be, and what becomes of damaged ones."""

import os
from pathlib import Path

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
