"""Sparse files in tar archives: data without the holes, and a map that says where it belongs.

Four ways to write the map: in the header and following blocks (old GNU), as pax records (0.0, 0.1), as decimal lines
before the data (1.0). Without this, a map would be unpacked as part of the file.
Source: GNU tar manual, "Storing Sparse Files".
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from chimage_core.errors import LayerError
from chimage_core.layer.pax import number
from chimage_core.layer.stream import BLOCK, BlockStream

_MAX_EXTENTS = 1_000_000
_ENTRY = 24
"""Bytes of an entry of the old format: offset and length, 12 each."""


class SparseMap(NamedTuple):
    """Where the data of a sparse file belongs."""

    size: int
    """Of the file, with holes."""
    extents: list[tuple[int, int]]
    """Offset and length, in ascending order."""


def from_old_header(stream: BlockStream, block: bytes, read_number: Callable[[bytes, str], int]) -> SparseMap:
    """Read the map of the old GNU format, of which `block` is the header; the stream is at what follows it."""
    stored = stream.left
    size = read_number(block[483:495], "size")
    extents = list(_entries(block, 386, 4, read_number))
    more = block[482]
    stream.begin(0)
    while more:
        continued = stream.header()
        if continued is None or len(extents) > _MAX_EXTENTS:
            raise LayerError("archive is damaged: the map of a sparse file does not end")
        extents += _entries(continued, 0, 21, read_number)
        more = continued[504]
    stream.begin(stored)
    return _checked(size, extents, stored)


def from_pax(stream: BlockStream, records: Mapping[bytes, bytes]) -> SparseMap | None:
    """Read the map that pax records, or the beginning of the data, hold; None if the records name no size."""
    size = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
    if size is None:
        return None
    if records.get(b"GNU.sparse.major") == b"1":
        numbers = list(_numbers_before_data(stream))
    else:
        listed = records.get(b"GNU.sparse.map")
        numbers = [number(value, "sparse map") for value in listed.split(b",")] if listed else []
    if len(numbers) % 2:
        raise LayerError("archive is damaged: the map of a sparse file has an odd number of entries")
    return _checked(number(size, "size"), list(zip(numbers[::2], numbers[1::2], strict=True)), stream.left)


def _numbers_before_data(stream: BlockStream) -> Iterator[int]:
    """Read the map of format 1.0: the number of extents, then offsets and lengths, in whole blocks of lines."""
    text = b""
    expected: int | None = None
    given = 0
    while expected is None or given < expected:
        line, newline, rest = text.partition(b"\n")
        if not newline:
            text += stream.data(BLOCK)
            if len(text) > 2 * BLOCK:
                raise LayerError("archive is damaged: the map of a sparse file has no lines")
            continue
        text = rest
        value = number(line, "sparse map")
        if expected is None:
            if value > _MAX_EXTENTS:
                raise LayerError(f"archive has a sparse file of more than {_MAX_EXTENTS} parts")
            expected = 2 * value
        else:
            given += 1
            yield value


def _entries(
    block: bytes, start: int, count: int, read_number: Callable[[bytes, str], int]
) -> Iterator[tuple[int, int]]:
    for position in range(start, start + count * _ENTRY, _ENTRY):
        if block[position] == 0:
            return
        yield (
            read_number(block[position : position + 12], "sparse offset"),
            read_number(block[position + 12 : position + 24], "sparse length"),
        )


def _checked(size: int, extents: list[tuple[int, int]], stored: int) -> SparseMap:
    """Make sure that the extents are in order, inside the file, and as much as the data."""
    ends = [0, *(offset + length for offset, length in extents)]
    is_ordered = all(end <= offset for end, (offset, _) in zip(ends, extents, strict=False))
    is_positive = all(length >= 0 for _, length in extents) and all(one <= other for one, other in pairwise(ends))
    if not (is_ordered and is_positive and ends[-1] <= size and sum(length for _, length in extents) == stored):
        raise LayerError("archive is damaged: the map of a sparse file does not fit the file")
    return SparseMap(size, extents)
