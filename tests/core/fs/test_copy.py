import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, FileError
from chimage_core.fs import xattr
from chimage_core.fs.copy import CopyReport, copy_file, copy_tree
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.tree import walk
from tests.core.fs.test_remove import make_deep


def copy(source: Path, target: Path, **options: object) -> CopyReport:
    return copy_tree(str(source), str(target), xattrs=True, cancel=CancelToken(), **options)  # type: ignore[arg-type]


@pytest.fixture
def no_deep_tree_left(tmp_path: Path) -> Iterator[None]:
    """pytest's own removal of old directories does not survive such trees."""
    yield
    for name in os.listdir(tmp_path):
        remove_tree(str(tmp_path / name))


def described(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything a copy must keep, by path."""
    result: dict[str, tuple[object, ...]] = {}
    for entry in walk(str(top), cancel=CancelToken()):
        status, path = entry.status, f"{top}/{entry.path}" if entry.path else str(top)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = Path(path).read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        result[entry.path] = (status.st_mode, status.st_mtime_ns, links, content, xattr.read(path))
    return result


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One of everything."""
    top = tmp_path / "source"
    (top / "directory" / "empty").mkdir(parents=True)
    (top / "directory" / "file").write_bytes(b"content")
    (top / "large").write_bytes(os.urandom(300_000))
    (top / "nothing").touch()
    os.link(top / "directory" / "file", top / "hard link")
    os.symlink("/etc/passwd", top / "absolute link")
    os.symlink(b"\xff\xfe", os.fsencode(top) + b"/\xfe\xff")
    os.mkfifo(top / "fifo")
    os.chmod(top / "large", 0o4711)
    os.chmod(top / "fifo", 0o622)
    os.chmod(top / "directory", 0o555)
    for number, entry in enumerate(["directory/file", "large", "absolute link", "fifo", "directory", "."]):
        os.utime(top / entry, ns=(1, 1_000_000_007 * (number - 2)), follow_symlinks=False)
    return top


def test_a_copy_is_the_same_in_all_that_an_image_keeps(tree: Path, tmp_path: Path) -> None:
    report = copy(tree, tmp_path / "target")
    assert described(tmp_path / "target") == described(tree)
    assert (report.files, report.directories, report.symlinks, report.fifos) == (4, 3, 2, 1)
    assert report.bytes == 300_007


def test_hard_links_stay_linked_to_each_other_and_not_to_the_source(tree: Path, tmp_path: Path) -> None:
    copy(tree, tmp_path / "target")
    one, other = (tmp_path / "target" / "hard link").stat(), (tmp_path / "target" / "directory" / "file").stat()
    assert one.st_ino == other.st_ino != (tree / "hard link").stat().st_ino


def test_attributes_are_kept_on_files_and_directories_without_write_permission(tree: Path, tmp_path: Path) -> None:
    """user.* needs write permission on the file, so they have to be set before the mode."""
    if not xattr.is_supported(str(tmp_path)):
        pytest.skip("the file system has no user attributes")
    for path in (tree / "large", tree / "directory"):
        os.chmod(path, 0o755)
        os.setxattr(path, "user.a", b"1")
        os.chmod(path, 0o555)
    copy(tree, tmp_path / "target")
    assert described(tmp_path / "target") == described(tree)
    plain = copy_tree(str(tree), str(tmp_path / "plain"), xattrs=False, cancel=CancelToken())
    assert xattr.read(str(tmp_path / "plain" / "large")) == {}
    assert plain.refused_xattrs == set()


def test_attributes_that_the_target_refuses_are_counted(tree: Path, tmp_path: Path) -> None:
    os.chmod(tree / "large", 0o644)
    if xattr.write(str(tree / "large"), {xattr.CAPABILITY: bytes.fromhex("0000000200040000000000000000000000000000")}):
        pytest.skip("only root can make a file with capabilities")
    report = copy(tree, tmp_path / "target")
    assert report.refused_xattrs == set()  # As root, they are kept.


@pytest.mark.parametrize("layout", [[(0, 4096)], [(1 << 20, 8192)], [(0, 70_000), (8 << 20, 1)], []])
def test_holes_stay_holes(tmp_path: Path, layout: list[tuple[int, int]]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        for offset, length in layout:
            file.seek(offset)
            file.write(os.urandom(length))
        file.truncate(16 << 20)
    copy_file(str(source), str(target), cancel=CancelToken())
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 64


def test_copying_a_file_keeps_its_metadata_and_refuses_an_existing_target(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x")
    os.chmod(source, 0o400)
    os.utime(source, ns=(1, 2))
    copy_file(str(source), str(target), cancel=CancelToken())
    assert (target.stat().st_mode, target.stat().st_mtime_ns) == (source.stat().st_mode, 2)
    target.chmod(0o600)
    target.write_bytes(b"mine")
    with pytest.raises(FileError, match="File exists"):
        copy_file(str(source), str(target), cancel=CancelToken())
    assert target.read_bytes() == b"mine"


def test_copying_a_link_or_fifo_as_a_file_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(FileError, match=name):
            copy_file(str(tmp_path / name), str(tmp_path / "target"), cancel=CancelToken())
    assert not (tmp_path / "target").exists()


def test_sockets_are_skipped_and_named(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)  # Socket paths are short.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        report = copy(tree, tmp_path / "target")
    assert (report.sockets, report.skipped) == (1, ("socket",))
    assert not (tmp_path / "target" / "socket").exists()


def test_a_device_is_skipped_or_an_error_as_asked(tmp_path: Path) -> None:
    """/dev has devices that an ordinary user can list."""
    everything_but_null = lambda path, _: path != "null"  # noqa: E731
    report = copy(Path("/dev"), tmp_path / "skipped", exclude=everything_but_null)
    assert (report.devices, os.listdir(tmp_path / "skipped")) == (1, [])
    with pytest.raises(FileError, match="/dev/null: devices cannot be copied without privilege"):
        copy(Path("/dev"), tmp_path / "refused", exclude=everything_but_null, skip_devices=False)


def test_excluded_entries_stay_away_with_all_below(tree: Path, tmp_path: Path) -> None:
    report = copy(tree, tmp_path / "target", exclude=lambda path, is_directory: is_directory and path == "directory")
    assert not (tmp_path / "target" / "directory").exists()
    assert report.directories == 1


def test_an_existing_target_is_refused_unless_merging(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(FileError, match="File exists"):
        copy(tree, tmp_path / "target")


def test_merging_unites_directories_and_replaces_everything_else(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "directory" / "mine").mkdir(parents=True)
    (target / "large" / "was" / "a directory").mkdir(parents=True)
    (target / "nothing").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_bytes(b"safe")
    os.chmod(target / "directory", 0o500)
    os.chmod(target, 0o751)
    copy(tree, target, merge=True)
    copied, source = described(target), described(tree)
    assert copied.pop("directory/mine")
    assert copied.pop("")[0] == stat.S_IFDIR | 0o751
    source.pop("")
    assert copied == source
    assert (tmp_path / "outside").read_bytes() == b"safe"


def test_merging_replaces_a_link_to_a_directory_by_the_directory(tree: Path, tmp_path: Path) -> None:
    """Nothing may be written through a link of the image."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "directory").symlink_to(tmp_path / "outside")
    copy(tree, tmp_path / "target", merge=True)
    assert os.listdir(tmp_path / "outside") == []
    assert (tmp_path / "target" / "directory" / "file").read_bytes() == b"content"


@pytest.mark.usefixtures("no_deep_tree_left")
def test_trees_deeper_than_any_path_are_copied(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    make_deep(tmp_path / "source", 2_000)
    report = copy(tmp_path / "source", tmp_path / "target")
    assert (report.directories, report.files) == (2_001, 1)
    assert sum(1 for _ in walk(str(tmp_path / "target"), cancel=CancelToken())) == 2_002


def test_an_unreadable_file_is_an_error_that_names_it(tree: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    os.chmod(tree / "nothing", 0)
    with pytest.raises(FileError, match=f"can't copy: {tree}/nothing: Permission denied"):
        copy(tree, tmp_path / "target")


def test_a_cancelled_copy_stops(tree: Path, tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        copy_tree(str(tree), str(tmp_path / "target"), xattrs=True, cancel=cancel)
