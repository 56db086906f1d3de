"""A pack and its index as mapped files: where each object is.

Source: gitformat-pack(5).
"""

import mmap
import os
import struct
import sys
from array import array

from chimage_core.errors import CacheBroken

OFFSET_DELTA, NAME_DELTA = 6, 7
"""Types of entries that are no objects, but differences to one."""

_NAMES = 8 + 1024
"""Where the names begin in an index."""
_CHECKSUMS = 40
"""Bytes at the end of an index."""
_MAGIC = b"\xfftOc\0\0\0\2"
REPAIR_HINT = "build-cache --check tells what else is damaged, build-cache --repair mends what can be mended"
"""What to do about damage."""


class PackData:
    """The entries of a pack, mapped."""

    def __init__(self, path: str) -> None:
        """Open a pack by its path. Raises OSError, CacheBroken."""
        self.path = path
        self._map = _map(path)
        self.data = memoryview(self._map)
        self.size = len(self.data)
        self.end = self.size - 20
        """Where the last entry ends and the pack's checksum begins."""

    def head(self, offset: int) -> tuple[int, int, int]:
        """Return type and size of the entry at `offset`, and where its stream (or delta base) begins."""
        data = self.data
        byte = data[offset]
        offset += 1
        kind, size, shift = (byte >> 4) & 7, byte & 15, 4
        while byte & 0x80:
            byte = data[offset]
            offset += 1
            size |= (byte & 0x7F) << shift
            shift += 7
        return kind, size, offset

    def base(self, offset: int, kind: int, start: int) -> tuple[int | bytes, int]:
        """Return what the delta at `offset` is against, and where its stream begins; `kind` and `start` as from `head`.

        The base is an offset in this pack, or the name of an object. Raises ValueError for another type of entry, and
        for an offset that is not before the delta.
        """
        data = self.data
        if kind == NAME_DELTA:
            return bytes(data[start : start + 20]), start + 20
        if kind != OFFSET_DELTA:
            raise ValueError(f"unknown object type {kind}")
        byte = data[start]
        start += 1
        distance = byte & 0x7F
        while byte & 0x80:
            byte = data[start]
            start += 1
            distance = ((distance + 1) << 7) | (byte & 0x7F)
        if not 0 < distance < offset:
            raise ValueError("delta base is outside of the pack")
        return offset - distance, start

    def release(self) -> None:
        """Give the memory of what was read back to the system; it is mapped again when needed."""
        self._map.madvise(mmap.MADV_DONTNEED)


class Pack(PackData):
    """A pack and its index, mapped."""

    def __init__(self, index: str) -> None:
        """Open by the path of the index. Raises OSError, CacheBroken."""
        self.index_path = index
        self._index = _map(index)
        if self._index[:8] != _MAGIC or len(self._index) < _NAMES + _CHECKSUMS:
            raise CacheBroken(f"not a pack index of version 2: {index}", hint=REPAIR_HINT)
        self._fanout = struct.unpack_from(">256I", self._index, 8)
        self.count = self._fanout[255]
        super().__init__(index.removesuffix(".idx") + ".pack")
        # The checksum of the pack is at its end, and in the index: so one that was cut off is noticed at once.
        if len(self._index) < _NAMES + _CHECKSUMS + 28 * self.count or self._map[-20:] != self._index[-40:-20]:
            raise CacheBroken(f"pack in the build cache is damaged: {self.path}", hint=REPAIR_HINT)

    def find(self, name: bytes) -> int | None:
        """Return the offset of an object's entry, or None."""
        first = name[0]
        low, high = self._fanout[first - 1] if first else 0, self._fanout[first]
        while high - low > 64:
            middle = (low + high) // 2
            start = _NAMES + 20 * middle
            if self._index[start : start + 20] <= name:
                low = middle
            else:
                high = middle
        bucket = self._index[_NAMES + 20 * low : _NAMES + 20 * high]
        found = bucket.find(name)
        while found >= 0:
            if found % 20 == 0:
                return self._offset(low + found // 20)
            found = bucket.find(name, found + 1)
        return None

    def prefixes(self) -> "array[int]":
        """Return the first 32 bits of all names, as big-endian numbers."""
        words = array("I", self._index[_NAMES : _NAMES + 20 * self.count])[::5]
        if sys.byteorder == "little":
            words.byteswap()
        return words

    def entries(self) -> list[tuple[int, bytes]]:
        """Return (offset, name) of all objects, by offset."""
        view = self._index
        names = [view[_NAMES + 20 * number : _NAMES + 20 * number + 20] for number in range(self.count)]
        return sorted((self._offset(number), name) for number, name in enumerate(names))

    def checksums(self) -> list[int]:
        """Return the CRC-32 of all entries, in the order of `entries`."""
        table = _NAMES + 20 * self.count
        sums = struct.unpack_from(f">{self.count}I", self._index, table)
        order = sorted(range(self.count), key=self._offset)
        return [sums[number] for number in order]

    def sizes(self) -> list[tuple[bytes, int]]:
        """Return (name, bytes in this file) of all objects, by offset."""
        entries = self.entries()
        ends = [offset for offset, _ in entries[1:]] + [self.end]
        return [(name, end - offset) for (offset, name), end in zip(entries, ends, strict=True)]

    def _offset(self, number: int) -> int:
        table = _NAMES + 24 * self.count
        (offset,) = struct.unpack_from(">I", self._index, table + 4 * number)
        if offset & 0x80000000:
            position = table + 4 * self.count + 8 * (offset & 0x7FFFFFFF)
            (offset,) = struct.unpack_from(">Q", self._index, position)
        return int(offset)


def index_offsets(index: str) -> list[int]:
    """Return where a damaged index says that entries begin, as far as it can be read. Raises OSError."""
    with open(index, "rb") as file:
        data = file.read()
    numbers = (len(data) - _NAMES - _CHECKSUMS) // 28
    if len(data) >= _NAMES:
        (told,) = struct.unpack_from(">I", data, _NAMES - 4)
        numbers = min(numbers, told) if told else numbers
    if numbers <= 0:
        return []
    offsets = struct.unpack_from(f">{numbers}I", data, _NAMES + 24 * numbers)
    far = data[_NAMES + 28 * numbers : -_CHECKSUMS]
    table = struct.unpack(f">{len(far) // 8}Q", far[: len(far) // 8 * 8])
    return [*(offset for offset in offsets if not offset & 0x80000000), *table]


def _map(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise CacheBroken(f"file of the build cache is empty: {path}", hint=REPAIR_HINT)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
