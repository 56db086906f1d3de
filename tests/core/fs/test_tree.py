import os
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError
from chimage_core.fs.tree import walk


def test_entries_come_in_bytewise_order_of_names(tmp_path: Path) -> None:
    """Equal trees must give equal archives, whatever order the directory has them in."""
    names = [b"a", b"B", b"a-", b"a.b", b"\xff", b"\xc3\xa9", b"\xed\x9f\xbf"]
    for name in names:
        os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    (tmp_path / "a" / "z").touch()
    expected = [b"", b"B", b"a", b"a/z", b"a-", b"a.b", b"\xc3\xa9", b"\xed\x9f\xbf", b"\xff"]
    assert [os.fsencode(entry.path) for entry in walk(str(tmp_path), cancel=CancelToken())] == expected


def test_entries_can_be_opened_by_their_directory(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x")
    for entry in walk(str(tmp_path), cancel=CancelToken()):
        seen = os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
        assert seen.st_ino == entry.status.st_ino


def test_links_are_entries_and_not_ways(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "up").symlink_to("..")
    assert [entry.path for entry in walk(str(tmp_path), cancel=CancelToken())] == ["", "a", "a/up", "link"]


def test_a_missing_tree_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing: No such file"):
        list(walk(str(tmp_path / "missing"), cancel=CancelToken()))
