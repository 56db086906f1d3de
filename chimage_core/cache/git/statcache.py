"""What files looked like when they were last the same as in the cache, so that unchanged ones need not be read.

One record per directory: its own status, the names in it, and four numbers per name (inode, ctime, size, mode;
for subdirectories only that they are there). ctime cannot be set by programs, so a file with the same numbers is the
same file with the same content, even after tools that put mtime back.

A file that changed in the same clock tick in which we looked can change again without a new ctime. So a ctime that is
not older than the moment the record was written is recorded as "never", which no file has.

The file is a log of chunks, each with the records that one commit changed, so that a small step writes little even for
an image of 60,000 files. It is a pure cache: a damaged or missing one costs time, not truth.
"""

import marshal
import os
import stat
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable

Record = tuple[bytes, bytes, bytes]
"""Own numbers; names, joined by `/`, sorted; numbers of the names, in the same order."""

ENTRY = 32
"""Bytes per name: four 64-bit numbers."""

DIRECTORY_NUMBERS = (0, 0, 0, stat.S_IFDIR)
"""What a subdirectory has in its parent's record."""

_CHUNK = struct.Struct("<4sII")
_MAGIC = b"chs1"
_MARSHAL_VERSION = 4
"""Read by every Python since 3.4: another one may read what this one writes."""
_SLACK = 1 << 20
_NEVER = (1 << 64) - 1
_MASK = (1 << 64) - 1


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Return numbers as they stand in a record."""
    try:
        return array("Q", numbers).tobytes()
    except OverflowError:  # A time before 1970.
        return array("Q", [number & _MASK for number in numbers]).tobytes()


def numbers_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what is recorded of a file."""
    return status.st_ino, status.st_ctime_ns, status.st_size, status.st_mode


def own_numbers(status: os.stat_result) -> bytes:
    """Return what is recorded of a directory itself. Its size says nothing."""
    return pack_numbers((status.st_ino, status.st_ctime_ns, 0, status.st_mode))


def entries(record: Record) -> dict[bytes, bytes]:
    """Return the numbers of each name of a record."""
    _, names, numbers = record
    if not names:
        return {}
    return {
        name: numbers[position * ENTRY : position * ENTRY + ENTRY] for position, name in enumerate(names.split(b"/"))
    }


def make_record(own: bytes, listing: dict[bytes, bytes]) -> Record:
    """Return a record of a directory."""
    names = sorted(listing)
    return own, b"/".join(names), b"".join([listing[name] for name in names])


def differ_in_ctime(numbers: bytes, others: bytes) -> bool:
    """Return whether two files have the same numbers but for ctime."""
    return numbers[:8] == others[:8] and numbers[16:] == others[16:]


def inode(numbers: bytes) -> int:
    """Return the inode number in the numbers of a file."""
    return int.from_bytes(numbers[:8], sys.byteorder)


def inodes(record: Record) -> "array[int]":
    """Return the inode numbers of all names of a record."""
    return array("Q", record[2])[::4]


def settle(record: Record, now: int) -> Record:
    """Return the record with each ctime that is not before `now` (ns) made "never"."""
    own, names, numbers = record
    return _settle(own, now), names, _settle(numbers, now)


def _settle(numbers: bytes, now: int) -> bytes:
    table = array("Q", numbers)
    times = table[1::4]
    if not times or max(times) < now:
        return numbers
    for position in range(1, len(table), 4):
        if now <= table[position]:
            table[position] = _NEVER
    return table.tobytes()


class StatCache:
    """The records of one place. `path` is the file; nothing is read before it is needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._size = 0
        self._whole = 0
        self.commit = b""
        """The commit that the place held when the records were written; empty if there are none."""
        self.records: dict[bytes, Record] = {}
        """By path relative to the root; the root itself is empty."""

    def load(self) -> None:
        """Read the file. Damage at its end loses the last steps' records, and with them `commit`."""
        self.commit, self.records, self._size, self._whole = b"", {}, 0, 0
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        position = 0
        while position + _CHUNK.size <= len(data):
            magic, size, checksum = _CHUNK.unpack_from(data, position)
            position += _CHUNK.size
            content = memoryview(data)[position : position + size]
            if magic != _MAGIC or len(content) != size or zlib.crc32(content) != checksum:
                self.commit, self.records = b"", {}
                return
            commit, changed, removed = marshal.loads(content)
            self._apply(commit, changed, removed)
            self._whole = self._whole or position + size
            position += size
        self._size = position
        if position != len(data):
            self.commit, self.records = b"", {}

    def update(self, commit: bytes, changed: dict[bytes, Record], removed: Iterable[bytes], now: int) -> None:
        """Take over the records of a commit and append them to the file. `now`: see `settle`."""
        settled = {path: settle(record, now) for path, record in changed.items()}
        self._apply(commit, settled, removed)
        self._append(commit, settled, list(removed))

    def replace(self, commit: bytes, records: dict[bytes, Record], now: int) -> None:
        """Start anew with the records of a whole tree."""
        self.records = {path: settle(record, now) for path, record in records.items()}
        self.commit = commit
        self._rewrite()

    def _apply(self, commit: bytes, changed: dict[bytes, Record], removed: Iterable[bytes]) -> None:
        self.commit = commit
        for path in removed:
            self.records.pop(path, None)
        self.records.update(changed)

    def _append(self, commit: bytes, changed: dict[bytes, Record], removed: list[bytes]) -> None:
        chunk = _encode(commit, changed, removed)
        # A log that has grown to twice its content is written anew: rarely enough to cost nothing per step.
        if self._size == 0 or self._size + len(chunk) > 2 * self._whole + _SLACK:
            self._rewrite()
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            self._rewrite()
            return
        try:
            os.write(descriptor, chunk)
        finally:
            os.close(descriptor)
        self._size += len(chunk)

    def _rewrite(self) -> None:
        chunk = _encode(self.commit, self.records, [])
        temporary = self._path + ".new"
        with open(temporary, "wb") as file:
            file.write(chunk)
        os.rename(temporary, self._path)
        self._size = self._whole = len(chunk)


def _encode(commit: bytes, changed: dict[bytes, Record], removed: list[bytes]) -> bytes:
    content = marshal.dumps((commit, changed, removed), _MARSHAL_VERSION)
    return _CHUNK.pack(_MAGIC, len(content), zlib.crc32(content)) + content
