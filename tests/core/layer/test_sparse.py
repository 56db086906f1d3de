"""Sparse files in the four formats of GNU tar."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chimage_core.errors import LayerError
from tests.support.archives import END, file, header, listing, octal, padded, pax, tar
from tests.support.archives import unpack_layers as unpack

gnu_tar = shutil.which("tar")


@pytest.mark.parametrize("layout", [[(0, 4096)], [(1 << 20, 8192)], [], [(i << 16, 4096) for i in range(40)], [(0, 5)]])
@pytest.mark.parametrize(
    "options",
    [["--format=gnu"], *(["--format=pax", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))],
)
def test_what_gnu_tar_writes_is_read(tmp_path: Path, options: list[str], layout: list[tuple[int, int]]) -> None:
    if gnu_tar is None:
        pytest.skip("there is no tar")
    source = tmp_path / "source"
    source.mkdir()
    with (source / ("n" * 120)).open("wb") as sparse:
        for offset, length in layout:
            sparse.seek(offset)
            sparse.write(os.urandom(length))
        sparse.truncate(4 << 20)
    (source / "z").write_bytes(b"after")
    layer = subprocess.run(
        [gnu_tar, "-c", "-S", *options, "-C", source, "."], check=True, stdout=subprocess.PIPE
    ).stdout
    assert len(layer) < 1 << 20  # Else it was not written as sparse.
    unpack(tmp_path / "root", layer)
    assert listing(tmp_path / "root") == listing(source)
    assert (tmp_path / "root" / ("n" * 120)).stat().st_blocks < 1024


def sparse_header(entries: list[tuple[int, int]], size: int, stored: int) -> bytes:
    tail = bytearray(167)
    start = 386 - 345  # `tail` begins at the prefix field.
    for number, (offset, length) in enumerate(entries):
        tail[start + 24 * number : start + 24 * number + 24] = octal(offset, 12) + octal(length, 12)
    tail[483 - 345 : 495 - 345] = octal(size, 12)
    return header(b"f", kind=b"S", size=stored, magic=b"ustar  \0", tail=bytes(tail))


@pytest.mark.parametrize(
    ("entries", "size", "stored"),
    [
        ([(0, 512), (256, 512)], 2048, 1024),
        ([(1024, 512), (0, 512)], 2048, 1024),
        ([(0, 512)], 100, 512),
        ([(0, 512)], 2048, 1024),
        ([(0, 1024)], 2048, 512),
    ],
)
def test_maps_that_do_not_fit_the_file_are_refused(
    tmp_path: Path, entries: list[tuple[int, int]], size: int, stored: int
) -> None:
    with pytest.raises(LayerError, match="map of a sparse file"):
        unpack(tmp_path / "root", sparse_header(entries, size, stored) + bytes(stored) + END)


@pytest.mark.parametrize(
    "records",
    [
        {b"GNU.sparse.size": b"10", b"GNU.sparse.map": b"0"},
        {b"GNU.sparse.size": b"10", b"GNU.sparse.map": b"0,-5"},
        {b"GNU.sparse.size": b"10", b"GNU.sparse.map": b"0,5,x,1"},
        {b"GNU.sparse.size": b"-10", b"GNU.sparse.map": b"0,5"},
        {b"GNU.sparse.size": b"3", b"GNU.sparse.map": b"0,5"},
        {b"GNU.sparse.size": b"10"},
        {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"10"},
    ],
)
def test_pax_maps_that_do_not_parse_are_refused(tmp_path: Path, records: dict[bytes, bytes]) -> None:
    with pytest.raises(LayerError, match=r"archive is damaged|shorter"):
        unpack(tmp_path / "root", tar(pax(records), file(b"f", b"12345")))


@pytest.mark.parametrize(
    "data", [b"1\n0\n", b"99999999999\n", b"2\n0\n1\n", b"1\n-1\n5\n", b"x" * 5000, b"1\n" + b"0" * 5000, b""]
)
def test_maps_before_the_data_that_do_not_parse_are_refused(tmp_path: Path, data: bytes) -> None:
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"100"}
    with pytest.raises(LayerError, match=r"sparse|shorter"):
        unpack(tmp_path / "root", tar(pax(records), header(b"f", size=len(data)), padded(data)))


def test_an_endless_map_is_refused(tmp_path: Path) -> None:
    block = bytearray(512)
    block[504] = 1
    first = bytearray(sparse_header([(0, 0)], 10, 0))
    first[482] = 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    with pytest.raises(LayerError, match="does not end"):
        unpack(tmp_path / "root", bytes(first) + bytes(block) * 10)
