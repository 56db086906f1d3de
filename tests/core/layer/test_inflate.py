"""Compressed archives: recognised, joined, bounded, verified (rule 18)."""

import bz2
import gzip
import hashlib
import lzma
import os
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing, FileError, IntegrityError, LayerError
from chimage_core.image.digest import Digest
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.inflate import ArchiveStream
from tests.support.archives import END, file, header, listing, tar

Compress = Callable[[bytes], bytes]


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)  # type: ignore[no-any-return]


FORMATS: dict[str, Compress] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": zstd}
BOMBS: dict[str, Compress] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
    "zstd": zstd,
}
"""The same, quicker."""
all_formats = pytest.mark.parametrize("name", FORMATS)
LARGE = os.urandom(700_000) + b"zeros follow" + bytes(3_000_000) + os.urandom(700_000)
"""Enough for the thread, with a part that compresses well."""


@pytest.fixture(params=["isal", "zlib"])
def inflater(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both libraries for gzip; isal is hidden as if it were not installed."""
    name: str = request.param
    if name == "isal":
        pytest.importorskip("isal")
        yield name
        return
    hidden = {module: sys.modules.pop(module) for module in list(sys.modules) if module.split(".")[0] == "isal"}
    sys.modules["isal"] = None  # type: ignore[assignment]
    yield name
    del sys.modules["isal"]
    sys.modules.update(hidden)


def read(path: Path, **promised: Digest | int | None) -> bytes:
    with ArchiveStream(str(path), **promised) as stream:  # type: ignore[arg-type]
        return b"".join(iter(lambda: stream.read(1 << 20), b""))


def stored(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "archive.misleading.zip"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", [b"", b"x", LARGE])
def test_plain_data_comes_as_it_is(tmp_path: Path, data: bytes) -> None:
    assert read(stored(tmp_path, data)) == data


@all_formats
@pytest.mark.parametrize("data", [b"", b"x", LARGE])
def test_formats_are_recognised_by_content(tmp_path: Path, name: str, data: bytes) -> None:
    assert read(stored(tmp_path, FORMATS[name](data))) == data


@all_formats
def test_members_in_a_row_are_one_stream(tmp_path: Path, name: str) -> None:
    """pigz, estargz and our own push write such files."""
    compress = FORMATS[name]
    pieces = [LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000)] + [b"", b"end"]
    assert read(stored(tmp_path, b"".join(map(compress, pieces)))) == LARGE + b"end"


def test_both_gzip_libraries_give_the_same(tmp_path: Path, inflater: str) -> None:
    data = gzip.compress(LARGE, 1) + gzip.compress(b"", 9) + b"".join(gzip.compress(b"%d," % n) for n in range(2000))
    assert read(stored(tmp_path, data)) == LARGE + b"".join(b"%d," % n for n in range(2000))
    assert (sys.modules.get("isal") is None) == (inflater == "zlib")


@pytest.mark.parametrize("count", [1, 512, 400_000])
def test_padding_of_zeros_after_the_data_is_ignored(tmp_path: Path, count: int) -> None:
    """Tapes and some tools fill up blocks."""
    assert read(stored(tmp_path, gzip.compress(b"x") + bytes(count))) == b"x"
    assert read(stored(tmp_path, gzip.compress(b"x") + bytes(count) + gzip.compress(b"y"))) == b"xy"


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd"])
def test_something_else_after_the_data_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(LayerError, match=f"{name} data is (followed|damaged)"):
        read(stored(tmp_path, FORMATS[name](b"x") + b"junk" * 1000))


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2"])
def test_incomplete_data_is_an_error(tmp_path: Path, name: str, inflater: str) -> None:
    data = FORMATS[name](b"some data " * 20 + os.urandom(100))
    for cut in range(6, len(data)):  # With less, it is not even of this format.
        with pytest.raises(LayerError, match=f"{name} data (ends too early|is damaged)"):
            read(stored(tmp_path, data[:cut]))


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_an_incomplete_archive_is_an_error_in_every_format(tmp_path: Path, cut: float) -> None:
    for compress in FORMATS.values():
        data = compress(tar(file(b"f", os.urandom(500_000)), file(b"g", b"x")))
        path = stored(tmp_path, data[: int(cut * len(data))])
        destination = tmp_path / compress.__name__ / "root"
        destination.mkdir(parents=True, exist_ok=True)
        with ArchiveStream(str(path)) as stream, pytest.raises(LayerError):
            unpack([stream], str(destination), cancel=CancelToken())
        for left in destination.iterdir():
            left.unlink()


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2"])
def test_damaged_data_is_an_error(tmp_path: Path, name: str, inflater: str) -> None:
    data = bytearray(FORMATS[name](os.urandom(5000)))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(LayerError, match=f"{name} data is damaged"):
        read(stored(tmp_path, bytes(data)))


@all_formats
def test_a_bomb_is_read_in_small_pieces(tmp_path: Path, name: str) -> None:
    """A few hundred kilobytes of zeros, many times compressed, must not fill the memory."""
    path = stored(tmp_path, BOMBS[name](bytes(64 << 20)))
    tracemalloc.start()
    with ArchiveStream(str(path)) as stream:
        total = 0
        while data := stream.read(1 << 20):
            assert len(data) <= 1 << 20
            total += len(data)
    assert total == 64 << 20
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()


def test_a_bomb_in_a_layer_is_refused_for_lack_of_room(tmp_path: Path) -> None:
    path = stored(tmp_path, gzip.compress(tar(header(b"f", size=80 << 20) + bytes(80 << 20)), 1))
    (tmp_path / "root").mkdir()
    with ArchiveStream(str(path)) as stream, pytest.raises(LayerError, match="there is room for"):
        unpack([stream], str(tmp_path / "root"), UnpackOptions(max_bytes=64 << 20), cancel=CancelToken())


@pytest.mark.parametrize("size", [1, 1000, 1 << 20, 1 << 30])
def test_reading_gives_at_most_what_is_asked_for(tmp_path: Path, size: int) -> None:
    data = os.urandom(2000) if size == 1 else LARGE
    with ArchiveStream(str(stored(tmp_path, gzip.compress(data)))) as stream:
        pieces = list(iter(lambda: stream.read(size), b""))
        assert stream.read(size) == b""
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= size


@pytest.mark.parametrize(
    ("magic", "name"), [(b"PK\x03\x04", "zip"), (b"hsqs", "squashfs"), (b"\x04\x22\x4d\x18", "lz4"), (b"LZIP", "lzip")]
)
def test_formats_that_we_cannot_read_are_named(tmp_path: Path, magic: bytes, name: str) -> None:
    with pytest.raises(LayerError, match=f"format {name}"):
        read(stored(tmp_path, magic + bytes(1000)))


def test_zstd_without_its_package_says_what_is_missing(tmp_path: Path) -> None:
    data = zstd(b"x")
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "zstandard"}
    sys.modules["zstandard"] = None  # type: ignore[assignment]
    try:
        with pytest.raises(DependencyMissing, match="zstandard"):
            read(stored(tmp_path, data))
    finally:
        del sys.modules["zstandard"]
        sys.modules.update(hidden)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"can't read archive: .*missing"):
        ArchiveStream(str(tmp_path / "missing"))


def test_closing_early_ends_the_thread_and_closes_the_file(tmp_path: Path) -> None:
    path = stored(tmp_path, gzip.compress(os.urandom(1 << 20) + bytes(64 << 20), 1))
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with ArchiveStream(str(path)) as stream:
        stream.read(10)
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


# Promises


@pytest.mark.parametrize("content", [b"small", LARGE])
@all_formats
def test_what_was_promised_is_accepted(tmp_path: Path, name: str, content: bytes) -> None:
    data = FORMATS[name](content)
    path = stored(tmp_path, data)
    assert read(path, digest=Digest.of(data), size=len(data), diff_id=Digest.of(content, "sha512")) == content


@pytest.mark.parametrize("content", [b"small", LARGE])
@pytest.mark.parametrize("wrong", ["digest", "size", "diff_id"])
@all_formats
def test_broken_promises_are_errors(tmp_path: Path, name: str, wrong: str, content: bytes) -> None:
    data = FORMATS[name](content)
    promised: dict[str, Digest | int] = {"digest": Digest.of(data), "size": len(data), "diff_id": Digest.of(content)}
    promised[wrong] = len(data) - 1 if wrong == "size" else Digest.of(b"something else")
    with pytest.raises(IntegrityError):
        read(stored(tmp_path, data), **promised)


@all_formats
@pytest.mark.parametrize("part", range(5))
def test_any_flipped_byte_is_an_integrity_error(tmp_path: Path, name: str, part: int) -> None:
    """Not "damaged" or "no archive": the blob is to be fetched again, and the user must be told so."""
    layer = tar(file(b"f", os.urandom(900_000)), file(b"g", b"x"))
    data = bytearray(FORMATS[name](layer))
    data[len(data) * part // 5 + 30] ^= 1
    (tmp_path / "root").mkdir()
    promised = Digest.of(FORMATS[name](layer))
    with (
        pytest.raises(IntegrityError),
        ArchiveStream(str(stored(tmp_path, bytes(data))), digest=promised) as stream,
    ):
        unpack([stream], str(tmp_path / "root"), cancel=CancelToken())


def test_what_follows_the_end_of_the_archive_is_verified_too(tmp_path: Path) -> None:
    layer = file(b"f", b"x") + END + os.urandom(2 << 20)
    data = gzip.compress(layer)
    path = stored(tmp_path, data)
    (tmp_path / "root").mkdir()
    with ArchiveStream(str(path), digest=Digest.of(data), diff_id=Digest.of(layer)) as stream:
        unpack([stream], str(tmp_path / "root"), cancel=CancelToken())
    assert listing(tmp_path / "root") == {"f": b"x"}
    (tmp_path / "second").mkdir()
    wrong = Digest("sha256", hashlib.sha256(layer[:-1]).hexdigest())
    with ArchiveStream(str(path), diff_id=wrong) as stream, pytest.raises(IntegrityError):
        unpack([stream], str(tmp_path / "second"), cancel=CancelToken())


def test_a_plain_layer_that_is_not_the_promised_one_is_an_integrity_error(tmp_path: Path) -> None:
    """A header that was damaged on the way looks like a bad archive; the digest knows better."""
    layer = bytearray(tar(file(b"f", b"x"), file(b"g", bytes(1 << 20))))
    promised = Digest.of(bytes(layer))
    layer[1024 + 3] ^= 1
    (tmp_path / "root").mkdir()
    with ArchiveStream(str(stored(tmp_path, bytes(layer))), digest=promised) as stream, pytest.raises(IntegrityError):
        unpack([stream], str(tmp_path / "root"), cancel=CancelToken())


def test_zlib_is_what_isal_replaces() -> None:
    """Their objects must look alike, or one of the two paths would be untested luck."""
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    for name in ("eof", "unused_data", "unconsumed_tail", "decompress"):
        assert hasattr(isal_zlib.decompressobj(31), name)
        assert hasattr(zlib.decompressobj(31), name)
