"""Packing an image: the same tree gives the same bytes, and every reader takes them for what they were."""

import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, FileError, LayerError
from chimage_core.fs.entry import Entry, EntryKind
from chimage_core.layer.compress import BLOCK_SIZES, COMPRESSIONS, Compression, PackedStream
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.inflate import ArchiveStream
from chimage_core.layer.pack import PackReport, pack, rootfs_entries

NEW_YEAR = 1704067200


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "b/c").mkdir(parents=True)
    (root / "b-c").write_bytes(b"sorts between b and b/c as text")
    (root / "b/file").write_bytes(b"content\n")
    (root / "b/c/empty").touch(0o600)
    os.link(root / "b/file", root / "b/linked")
    os.symlink("../b/file", root / "b/c/link")
    os.mkfifo(root / "fifo", 0o640)
    (root / "b/program").write_bytes(b"x" * 1500)
    (root / "b/program").chmod(0o6755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(0, NEW_YEAR * 10**9 + 5), follow_symlinks=False)
    return root


def packed(
    root: Path,
    compression: Compression = "none",
    *,
    latest: int | None = None,
    xattrs: bool = True,
    report: PackReport | None = None,
) -> tuple[bytes, PackedStream]:
    output, cancel = io.BytesIO(), CancelToken()
    entries = rootfs_entries(str(root), report or PackReport(), xattrs=xattrs, cancel=cancel)
    stream = pack(entries, output.write, compression, latest=latest, cancel=cancel)
    return output.getvalue(), stream


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def written(*entries: Entry) -> bytes:
    output = io.BytesIO()
    pack(entries, output.write, "none", cancel=CancelToken())
    return output.getvalue()


def test_entries_are_in_order_and_belong_to_root(tree: Path) -> None:
    found = members(packed(tree)[0])
    names = ["b", "b/c", "b/c/empty", "b/c/link", "b/file", "b/linked", "b/program", "b-c", "fifo", "tmp"]
    assert list(found) == names
    owners = {(member.uid, member.gid, member.uname, member.gname) for member in found.values()}
    assert owners == {(0, 0, "root", "root")}
    assert {member.mtime for member in found.values()} == {NEW_YEAR}
    assert found["b/program"].mode == 0o755
    assert found["tmp"].mode == 0o1777
    assert found["b/linked"].islnk()
    assert found["b/linked"].linkname == "b/file"
    assert found["fifo"].isfifo()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_digests_are_of_what_was_written(tree: Path, tmp_path: Path, compression: Compression) -> None:
    (tree / "big").write_bytes(os.urandom(BLOCK_SIZES[compression] + 4711))
    data, stream = packed(tree, compression)
    assert stream.digest.hex == hashlib.sha256(data).hexdigest()
    assert stream.size == len(data)
    (tmp_path / "layer").write_bytes(data)
    with ArchiveStream(str(tmp_path / "layer"), digest=stream.digest, size=stream.size, diff_id=stream.diff_id) as back:
        plain = b"".join(iter(lambda: back.read(1 << 20), b""))
    assert len(plain) == stream.plain_size
    assert plain == packed(tree)[0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_copy_of_a_tree_gives_the_same_bytes(tree: Path, tmp_path: Path, compression: Compression) -> None:
    """Neither inode numbers, nor the order of directories, nor the clock may get into a layer."""
    (tree / "big").write_bytes(os.urandom(3 << 20))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in sorted(os.listdir(tree), reverse=True):
        subprocess.run(["cp", "-a", tree / name, copy / name], check=True)
    assert packed(tree, compression) == packed(copy, compression)


def test_gzip_is_what_gunzip_reads(tree: Path) -> None:
    (tree / "big").write_bytes(os.urandom(5 << 20))
    data, _ = packed(tree, "gzip")
    assert gzip.decompress(data) == packed(tree)[0]
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert subprocess.run(["gzip", "-t"], input=data, check=False).returncode == 0


def test_gnu_tar_makes_the_same_tree_of_it(tree: Path, tmp_path: Path) -> None:
    long = tree / ("n" * 200)
    long.mkdir()
    (long / ("m" * 180)).write_bytes(b"no header holds this name")
    split = tree / "p" / ("d" * 90)
    split.mkdir(parents=True)
    (split / ("f" * 95)).write_bytes(b"a header holds this name in two parts")
    os.symlink("t" * 300, tree / "long-target")
    (tree / os.fsdecode(b"\xff\xfe")).write_bytes(b"no UTF-8")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-C", out, "-xf", "-"], input=packed(tree)[0], check=True)
    (tree / "fifo").unlink()  # diff(1) does not compare them.
    (out / "fifo").unlink()
    assert subprocess.run(["diff", "-r", "--no-dereference", tree, out], check=False).returncode == 0
    assert (out / "b/linked").stat().st_nlink == 2


def test_a_hard_link_with_a_long_name(tree: Path) -> None:
    first, second = tree / ("a" * 150), tree / ("z" * 150)
    first.write_bytes(b"1")
    os.link(first, second)
    assert members(packed(tree)[0])["z" * 150].linkname == "a" * 150


def test_unpacking_gives_the_tree_back(tree: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    unpack([io.BytesIO(packed(tree)[0])], str(again), UnpackOptions(), cancel=CancelToken())
    (tree / "fifo").unlink()  # Left out by who unpacks.
    assert packed(again)[0] == packed(tree)[0]


def test_later_times_become_the_latest(tree: Path) -> None:
    os.utime(tree / "b/file", (0, NEW_YEAR - 100))
    found = members(packed(tree, latest=NEW_YEAR - 50)[0])
    assert found["b/file"].mtime == NEW_YEAR - 100
    assert found["b/c"].mtime == NEW_YEAR - 50


@pytest.mark.parametrize("seconds", [-5, 8**11 + 1])
def test_times_that_need_an_extended_header(seconds: int) -> None:
    found = members(written(Entry(b"file", EntryKind.FILE, 0o644, seconds * 10**9, 1, content=b"x")))
    assert found["file"].mtime == seconds


def test_a_size_beyond_the_header(tmp_path: Path) -> None:
    """8 GiB do not fit in eleven octal digits. The file has one byte at each end, and nobody writes the hole."""
    with open(tmp_path / "big", "wb") as file:
        file.write(b"a")
        file.seek(8 << 30)
        file.write(b"b")
        file.truncate((8 << 30) + 10)
    data, stream = packed(tmp_path)
    assert stream.plain_size < 1 << 20
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.getmember("big")
        assert member.issparse()
        assert member.size == (8 << 30) + 10
        extracted = archive.extractfile(member)
        assert extracted is not None
        assert extracted.read(1) == b"a"
        extracted.seek(8 << 30)
        assert extracted.read() == b"b" + bytes(9)
    out = tmp_path / "out"
    out.mkdir()
    unpack([io.BytesIO(data)], str(out), UnpackOptions(), cancel=CancelToken())
    assert (out / "big").stat().st_size == (8 << 30) + 10


def test_what_has_a_few_holes_is_packed_as_if_it_had_none(tmp_path: Path) -> None:
    """Where holes are depends on the file system; the digest of a layer should not."""
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        root.mkdir()
    with open(one / "file", "wb") as file:
        file.write(b"a")
        file.seek(4 << 20)
        file.write(b"b")
    (other / "file").write_bytes((one / "file").read_bytes())
    for root in (one, other):
        os.utime(root / "file", (0, 0))
    assert (one / "file").stat().st_blocks < (other / "file").stat().st_blocks
    assert packed(one) == packed(other)


def test_user_attributes_are_kept_unless_unwanted(tree: Path, tmp_path: Path) -> None:
    try:
        os.setxattr(tree / "b/file", "user.note", b"line\nand = \0")
        os.setxattr(tree / "b", "user.note", b"directory")
        os.setxattr(tree / "b", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("no extended attributes on this file system")
    out = tmp_path / "out"
    out.mkdir()
    unpack([io.BytesIO(packed(tree)[0])], str(out), UnpackOptions(), cancel=CancelToken())
    assert os.getxattr(out / "b/file", "user.note") == b"line\nand = \0"
    assert os.listxattr(out / "b") == ["user.note"]
    assert b"user.note" not in packed(tree, xattrs=False)[0]


def test_what_has_no_place_in_a_layer_is_left_out_and_counted(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "ch").mkdir()
    (tree / "ch/metadata.json").write_text("{}")
    (tree / "ch/environment").write_text("A=b")
    (tree / "ch/own").write_text("stays")
    (tree / ".wh.tmp").touch()
    (tree / "b/.wh.d").mkdir()
    (tree / "b/.wh.d/below").touch()
    monkeypatch.chdir(tree)  # Names of sockets are short.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    report = PackReport()
    found = members(packed(tree, report=report)[0])
    assert {name for name in found if name.startswith("ch")} == {"ch", "ch/own"}
    assert not any(".wh." in name for name in found)
    assert (report.sockets, report.whiteouts) == (1, 3)
    assert "socket" in report.named


def test_a_directory_with_private_files_only_is_left_out(tree: Path) -> None:
    """Its time is that of the last change of the configuration, and would make other digests of equal images."""
    before = packed(tree)
    (tree / "ch").mkdir()
    (tree / "ch/metadata.json").write_text("{}")
    assert packed(tree) == before


def test_a_whiteout_of_what_a_lower_layer_has(tmp_path: Path) -> None:
    lower = written(Entry(b"d", EntryKind.DIRECTORY, 0o755), Entry(b"d/old", EntryKind.FILE, 0o644))
    upper = written(Entry(b"d/old", EntryKind.REMOVED), Entry(b"d/new", EntryKind.FILE, 0o644, size=1, content=b"n"))
    unpack(map(io.BytesIO, (lower, upper)), str(tmp_path), UnpackOptions(), cancel=CancelToken())
    assert os.listdir(tmp_path / "d") == ["new"]


@pytest.mark.parametrize("size", [10, 3000])
def test_a_file_that_changes_is_an_error(tree: Path, size: int) -> None:
    """Its digest would be of something that never was."""
    cancel = CancelToken()

    def entries() -> Iterator[Entry]:
        for entry in rootfs_entries(str(tree), PackReport(), xattrs=False, cancel=cancel):
            if entry.path == b"b/program":
                os.truncate(tree / "b/program", size)
            yield entry

    with pytest.raises(LayerError, match=r"changed while it was packed: b/program"):
        pack(entries(), lambda data: None, "none", cancel=cancel)


def test_an_unreadable_file_is_named(tree: Path) -> None:
    (tree / "b/file").chmod(0)
    if os.access(tree / "b/file", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(FileError, match="b/file: Permission denied"):
        packed(tree)


def test_a_full_disk_is_the_error_of_who_writes(tree: Path) -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    (tree / "big").write_bytes(os.urandom(20 << 20))
    cancel = CancelToken()
    with pytest.raises(OSError, match="No space left"):
        pack(rootfs_entries(str(tree), PackReport(), xattrs=False, cancel=cancel), full, "gzip", cancel=cancel)


def test_cancelling_ends_it(tree: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        pack(rootfs_entries(str(tree), PackReport(), xattrs=False, cancel=cancel), print, "gzip", cancel=cancel)


def test_paths_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=descriptor)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    try:
        assert list(members(packed(root)[0]))[-1] == "/".join(["d" * 200] * 25 + ["file"])
    finally:
        shutil.rmtree(root)
