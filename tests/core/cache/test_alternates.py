"""Objects borrowed from other repositories."""

import os
import zlib
from pathlib import Path

import pytest

from chimage_core.cache.git import alternates
from chimage_core.cache.git.objects import BLOB, identify
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.errors import NotInCache


def objects_at(path: Path, *contents: bytes) -> str:
    """Make an `objects` directory with one pack of blobs."""
    (path / "pack").mkdir(parents=True)
    (path / "info").mkdir()
    with PackWriter(str(path / "pack"), lambda _: False, deflated=False, sync=False) as pack:
        for content in contents:
            pack.add(BLOB, content)
        pack.finish()
    return str(path)


def name_of(content: bytes) -> bytes:
    return identify(BLOB, content)


def test_what_others_have_is_read_but_is_not_ours(tmp_path: Path) -> None:
    own, other = objects_at(tmp_path / "own", b"own"), objects_at(tmp_path / "other", b"theirs")
    assert not ObjectStore(own).exists(name_of(b"theirs"))
    alternates.add(own, [other], sync=True)
    store = ObjectStore(own)
    assert store.borrows(name_of(b"theirs"))
    assert not store.contains(name_of(b"theirs"))
    assert not store.borrows(name_of(b"own"))
    assert store.exists(name_of(b"theirs"))
    assert store.read_kind(name_of(b"theirs"), BLOB) == b"".join(store.chunks(name_of(b"theirs"))) == b"theirs"
    assert [pack.path for pack in store.packs()] == [pack.path for pack in ObjectStore(own).packs()]
    assert len(store.packs()) == 1
    assert store.packs()[0].path.startswith(own)


def test_a_directory_is_named_once_and_a_line_that_was_left_open_is_ended(tmp_path: Path) -> None:
    own = objects_at(tmp_path / "own")
    (tmp_path / "own/info/alternates").write_text("# a comment\n/half a li")
    for _ in range(2):
        alternates.add(own, ["/one", "/two"], sync=False)
    assert alternates.named_by(own) == ("/half a li", "/one", "/two")


def test_others_may_name_more_and_each_other(tmp_path: Path) -> None:
    """Relative paths count from the directory that names them, as for git(1); circles end."""
    own, one, two = (objects_at(tmp_path / name, name.encode()) for name in ("own", "one", "two"))
    alternates.add(own, [one], sync=False)
    alternates.add(one, ["../two", own], sync=False)
    alternates.add(two, [one, two], sync=False)
    found = [os.path.realpath(path) for path in alternates.reached_from(own)]
    assert found == [one, two]
    assert ObjectStore(own).read_kind(name_of(b"two"), BLOB) == b"two"
    # Two names of one directory are one.
    os.symlink(one, tmp_path / "alias")
    assert len(alternates.reached_from(own, [str(tmp_path / "alias")])) == 2


def test_what_is_gone_is_said_once_and_is_not_there(tmp_path: Path) -> None:
    own = objects_at(tmp_path / "own", b"own")
    alternates.add(own, [str(tmp_path / "gone")], sync=False)
    said: list[str] = []
    store = ObjectStore(own, complain=said.append)
    assert store.read_kind(name_of(b"own"), BLOB) == b"own"
    assert said == [], "nobody asked for what is borrowed"
    for _ in range(3):
        with pytest.raises(NotInCache, match=str(tmp_path / "gone")):
            store.read(name_of(b"missing"))
    assert len(said) == 1
    assert str(tmp_path / "gone") in said[0]


def test_a_pack_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    own, other = objects_at(tmp_path / "own"), tmp_path / "other"
    objects_at(other, b"theirs")
    (other / "pack/pack-0.idx").write_bytes(b"damaged")
    (other / "pack/pack-0.pack").write_bytes(b"damaged")
    (other / "pack/pack-1.idx").symlink_to("pack-1.idx")
    said: list[str] = []
    store = ObjectStore(own, borrowed=[str(other)], complain=said.append)
    assert store.read_kind(name_of(b"theirs"), BLOB) == b"theirs"
    assert len(said) == 1


def test_packs_that_others_made_meanwhile_are_found(tmp_path: Path) -> None:
    """Their clean-up writes a new pack and removes the old ones, while we have those open or not."""
    own, other = objects_at(tmp_path / "own"), objects_at(tmp_path / "other", b"1", b"2")
    early, late = ObjectStore(own, borrowed=[other]), ObjectStore(own, borrowed=[other])
    assert early.borrows(name_of(b"1"))
    old = list((tmp_path / "other/pack").iterdir())
    with PackWriter(str(tmp_path / "other/pack"), lambda _: False, deflated=False, sync=False) as pack:
        for content in (b"1", b"2", b"3"):
            pack.add(BLOB, content)
        pack.finish()
    for path in old:
        path.unlink()
    for store in (early, late):
        for content in (b"1", b"2", b"3"):
            assert store.read_kind(name_of(content), BLOB) == content


def test_loose_objects_of_others_are_read(tmp_path: Path) -> None:
    own, other = objects_at(tmp_path / "own"), tmp_path / "other"
    name = name_of(b"loose").hex()
    (other / name[:2]).mkdir(parents=True)
    (other / name[:2] / name[2:]).write_bytes(zlib.compress(b"blob 5\0loose"))
    store = ObjectStore(own, borrowed=[str(other)])
    assert store.exists(bytes.fromhex(name))
    assert store.read_kind(bytes.fromhex(name), BLOB) == b"loose"
