"""Zlib streams: stored, or deflated by ISA-L where it is installed.

Small commits are stored: written fastest, and read without inflating. Whole images are deflated at level 1, because
stored packs would double the disk space of every image: Debian's 168 MB of files become 71 MB for 0.4 s (ISA-L level
0: 79 MB, 0.35 s; zlib level 1: 70 MB, 1.9 s). Deflated ISA-L level 0 *expands* what cannot be compressed, so the
result is taken only if it is smaller.
"""

import functools
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

_LEVEL = 1
_STORED_HEADER = b"\x78\x01"
_BLOCK = struct.Struct("<BHH")
BLOCK_SIZE = 0xFFFF
"""Bytes that fit into one stored block."""
WORTHWHILE = 16 << 10
"""Shorter contents are stored: they are 6 % of an image’s bytes, but a quarter of the time, also when they are read."""
_SAMPLE = 256 << 10

Buffer = bytes | memoryview


@functools.cache
def _codec() -> Any:
    """Return ISA-L's twin of zlib, or zlib itself: there is no wheel for every architecture."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


class Deflater(Protocol):
    """A stream in the making."""

    def compress(self, data: Buffer, /) -> bytes:
        """Add data; return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


def crc32(data: Buffer, value: int = 0) -> int:
    """Return the CRC-32 of data, going on from `value`."""
    return _codec().crc32(data, value)  # type: ignore[no-any-return]


def stored(data: Buffer) -> bytes:
    """Return a stream of stored blocks."""
    size = len(data)
    if size <= BLOCK_SIZE:
        return b"%s%s%s" % (block_head(size), data, block_tail(data))
    stream = Storer()
    return stream.compress(data) + stream.flush()


def block_head(size: int) -> bytes:
    """Return what comes before the data in a stream of one stored block."""
    return _STORED_HEADER + _BLOCK.pack(1, size, size ^ 0xFFFF)


def block_tail(data: Buffer) -> bytes:
    """Return what comes after the data in a stream of one stored block."""
    return _codec().adler32(data).to_bytes(4, "big")  # type: ignore[no-any-return]


def deflated(data: Buffer) -> bytes:
    """Return a deflated stream, or a stored one where that is not longer."""
    if len(data) < WORTHWHILE or _looks_random(data):
        return stored(data)
    result: bytes = _codec().compress(data, _LEVEL)
    return result if len(result) < len(data) else stored(data)


def _looks_random(data: Buffer) -> bool:
    """Return whether content cannot be deflated, by how many different bytes are in a sample from its middle.

    Of 1,024 random bytes, 251 are different on the average; of those of a program or a text, fewer than 220. In a
    Debian image 335 of 338 files for which this holds would not have become 5 % smaller.
    """
    middle = len(data) // 2
    return len(set(data[middle : middle + 1024])) >= 240


def stream_for(sample: Buffer, *, deflate: bool) -> Deflater:
    """Return an empty stream for content that begins like `sample`."""
    if deflate and len(_codec().compress(sample[:_SAMPLE], _LEVEL)) < 0.95 * min(len(sample), _SAMPLE):
        return _codec().compressobj(_LEVEL)  # type: ignore[no-any-return]
    return Storer()


class Storer:
    """A stream of stored blocks in the making."""

    def __init__(self) -> None:
        self._checksum = 1
        self._begun = False

    def compress(self, data: Buffer, /) -> bytes:
        """Add data; return what is ready."""
        self._checksum = _codec().adler32(data, self._checksum)
        view = memoryview(data)
        parts: list[Buffer] = [] if self._begun else [_STORED_HEADER]
        self._begun = True
        for start in range(0, len(view), BLOCK_SIZE):
            block = view[start : start + BLOCK_SIZE]
            parts += (_BLOCK.pack(0, len(block), len(block) ^ 0xFFFF), block)
        return b"".join(parts)

    def flush(self) -> bytes:
        """Return the rest."""
        head = b"" if self._begun else _STORED_HEADER
        return head + _BLOCK.pack(1, 0, 0xFFFF) + self._checksum.to_bytes(4, "big")


def inflate(stream: Buffer, size: int) -> bytes:
    """Return the content of a stream at the beginning of `stream`. Raises ValueError unless it has `size` bytes."""
    result = _inflate_stored(stream, size)
    if result is None:
        # Not much more than the size it should have, as a short stream can be made to fill the memory. And not much
        # more of what follows: when a stream ends, the codec makes a copy of all that it was given beyond the end.
        parts, left = [], size
        for part in inflate_chunks(memoryview(stream), size + size // 4 + 128):
            left -= len(part)
            if left < 0:
                raise ValueError(f"object has not {size} bytes")
            parts.append(part)
        result = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(result) != size:
        raise ValueError(f"object has {len(result)} bytes instead of {size}")
    return result


def inflate_chunks(stream: memoryview, chunk: int) -> Iterator[bytes]:
    """Give the content of a stream in pieces of about `chunk` bytes. Raises ValueError."""
    inflater = _codec().decompressobj()
    position = 0
    while not inflater.eof:
        data = inflater.unconsumed_tail or stream[position : position + chunk]
        if not inflater.unconsumed_tail:
            position += len(data)
        if not data:
            raise ValueError("object ends too early")
        try:
            yield inflater.decompress(data, chunk)
        except (zlib.error, _codec().error) as error:
            raise ValueError(str(error)) from error


def _inflate_stored(stream: Buffer, size: int) -> bytes | None:
    """Return the content of a stream that has nothing but stored blocks, else None."""
    if size <= BLOCK_SIZE and stream[2] == 1 and stream[3] | stream[4] << 8 == size:  # One block, as most are.
        data = bytes(stream[7 : 7 + size])
        if zlib.adler32(data).to_bytes(4, "big") != stream[7 + size : 11 + size]:
            raise ValueError("checksum of object is wrong")
        return data
    position, parts, is_last = 2, [], False
    while not is_last:
        if stream[position] & 6:
            return None
        final, length, _ = _BLOCK.unpack_from(stream, position)
        position += _BLOCK.size
        parts.append(bytes(stream[position : position + length]))
        position += length
        is_last = bool(final & 1)
        size -= length
        if size < 0:
            return None
    result = parts[0] if len(parts) == 1 else b"".join(parts)
    if _codec().adler32(result).to_bytes(4, "big") != bytes(stream[position : position + 4]):
        raise ValueError("checksum of object is wrong")
    return result
