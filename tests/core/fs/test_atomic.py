import os
import stat
import time
from pathlib import Path

import pytest

from chimage_core.fs import atomic


@pytest.mark.parametrize("sync", [False, True])
def test_writing_replaces_the_whole_content(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    atomic.write_file(str(path), b"new", sync=sync)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_writing_leaves_the_old_file_to_who_has_it_open(tmp_path: Path) -> None:
    """Readers without locks rely on it."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        atomic.write_file(str(path), b"new", sync=False)
        assert reader.read() == b"old"


def test_writing_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "link").symlink_to("target")
    atomic.write_file(str(tmp_path / "link"), b"new", sync=False)
    assert (tmp_path / "target").read_bytes() == b"target"
    assert not (tmp_path / "link").is_symlink()


def test_the_mode_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic.write_file(str(tmp_path / "file"), b"", sync=False)
        atomic.write_file(str(tmp_path / "secret"), b"", mode=0o600, sync=False)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic.write_file(str(tmp_path / "directory"), b"new")
    assert os.listdir(tmp_path) == ["directory"]


def test_relative_names_are_written_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atomic.write_file("file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_temporary_directory_is_private_and_goes_even_if_it_was_made_unreadable(tmp_path: Path) -> None:
    with atomic.temporary_directory(str(tmp_path), "unpack-") as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert os.path.basename(path).startswith(f"{atomic.TEMPORARY_PREFIX}unpack-")
        os.mkdir(f"{path}/closed", 0o000)
    assert os.listdir(tmp_path) == []


def test_a_temporary_directory_goes_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic.temporary_directory(str(tmp_path)) as path:
        os.mkdir(f"{path}/missing/below")
    assert os.listdir(tmp_path) == []


def test_a_temporary_directory_that_was_renamed_stays(tmp_path: Path) -> None:
    with atomic.temporary_directory(str(tmp_path)) as path:
        os.rename(path, tmp_path / "kept")
    assert os.listdir(tmp_path) == ["kept"]


def test_exchange_swaps_directories_and_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").touch()
    (tmp_path / "b").write_bytes(b"b")
    atomic.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == b"b"
    assert os.listdir(tmp_path / "b") == ["inside"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("present", ["a", "b"])
def test_exchange_with_something_missing_changes_nothing(tmp_path: Path, present: str) -> None:
    (tmp_path / present).touch()
    with pytest.raises(FileNotFoundError):
        atomic.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path) == [present]


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_many_files_and_their_directories_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """One after the other where it is quick, else several at once."""
    paths = [tmp_path / str(number % 2) / str(number) for number in range(40)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"content")
    synced, sync = set(), os.fsync

    def record(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        time.sleep(seconds)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    atomic.sync_files(map(str, paths))
    assert synced == {path.stat().st_ino for path in (*paths, tmp_path / "0", tmp_path / "1")}


def test_a_file_that_cannot_be_synced_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        atomic.sync_files([str(tmp_path / "there"), str(tmp_path / "missing")])
