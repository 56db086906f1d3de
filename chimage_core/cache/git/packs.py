"""Write packs: one file with many objects, and its index.

Git's own ways to store many files are slow (a loose object per file, collision-detecting SHA-1, fixed compression), so
packs are written here: version 2, no deltas, index version 2. A pack is first `tmp_pack_*`; it gets its name when it
is complete and on the disk, and its index last, for that is what readers look for.
Source: gitformat-pack(5).
"""

import contextlib
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterable

from chimage_core.cache.git import deflate
from chimage_core.cache.git.deflate import Buffer
from chimage_core.cache.git.objects import BLOB, header, identify, sha1
from chimage_core.errors import CacheError, file_errors
from chimage_core.fs.atomic import sync_directory

TEMPORARY_PACK = "tmp_pack_"
_TEMPORARY_INDEX = "tmp_idx_"

_HEAD = struct.Struct(">4sII")
PACK_HEAD = _HEAD.size
"""Bytes in front of the first entry."""
_BUFFER = 4 << 20
"""Bytes kept in memory before they are written; smaller packs are written at once."""
_TAIL = 4
_WHOLE = 4 << 20
"""Files up to this size are read at once."""
_CHUNK = 1 << 20


class PackWriter:
    """A pack in the making. Ended by `finish` or `abandon`, once."""

    def __init__(self, directory: str, is_known: Callable[[bytes], bool], *, deflated: bool, sync: bool) -> None:
        """`is_known` says which objects are stored elsewhere and need not be stored again."""
        self._directory = directory
        self._is_known = is_known
        self._deflated = deflated
        self._sync = sync
        self._index: dict[bytes, int] = {}
        self._offsets = array("Q")
        self._checksums = array("L")
        # No bytearray: that would be filled with zeros first, which takes longer than all of a small commit.
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._filled = PACK_HEAD
        """Where in the buffer the next byte goes. The head is written at last."""
        self._room = 0
        self._room_head = b""
        """Size of the content that room was asked for last, and what comes before it."""
        self.end = PACK_HEAD
        """Where the next entry begins."""
        self._file: int | None = None
        unique = os.urandom(8).hex()
        self._temporary = os.path.join(directory, TEMPORARY_PACK + unique)
        self._temporary_index = os.path.join(directory, _TEMPORARY_INDEX + unique)

    def __enter__(self) -> "PackWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def add(self, kind: int, data: Buffer, *, deflated: bool = False) -> bytes:
        """Store an object unless it is stored already; return its name."""
        name = identify(kind, data)
        if name not in self._index and not self._is_known(name):
            stream = deflate.deflated(data) if deflated else deflate.stored(data)
            self._begin(name)
            self._write(entry_head(kind, len(data)))
            self._write(stream)
        return name

    def room(self, size: int) -> memoryview | None:
        """Return where the content of the next blob can be put, to be stored by `add_in_room`; None if it is too big.

        Most contents are stored as they are: this saves to move them there.
        """
        head = entry_head(BLOB, size) + deflate.block_head(min(size, deflate.BLOCK_SIZE))
        if self._filled + len(head) + size + _TAIL > _BUFFER:
            self._flush()
            if len(head) + size + _TAIL > _BUFFER:
                return None
        self._room, self._room_head = size, head
        start = self._filled + len(head)
        return self._buffer[start : start + size]

    def add_in_room(self, data: memoryview) -> bytes:
        """Store the blob whose content was put into the `room` that was asked for last; return its name.

        It may have become shorter than that was. Nothing else must have been stored since.
        """
        size = len(data)
        if size != self._room or size > deflate.BLOCK_SIZE or (self._deflated and size >= deflate.WORTHWHILE):
            return self.add(BLOB, data, deflated=self._deflated)
        name = identify(BLOB, data)
        if name not in self._index and not self._is_known(name):
            head, start = self._room_head, self._filled
            self._begin(name)
            end = start + len(head) + size + _TAIL
            self._buffer[start : start + len(head)] = head
            self._buffer[end - _TAIL : end] = deflate.block_tail(data)
            self._checksums[-1] = deflate.crc32(self._buffer[start:end])
            self._filled = end
            self.end += end - start
        return name

    def add_file(self, descriptor: int, size: int, extents: list[tuple[int, int]] | None = None) -> bytes:
        """Store the content of an open file as a blob; return its name.

        With `extents` only these parts count, and `size` is the sum of their lengths. Raises OSError; CacheError if
        the file has another size.
        """
        if extents is None:
            extents = [(0, size)]
        if size <= _WHOLE:
            parts = [_read_extent(descriptor, *extent) for extent in extents]
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            if len(data) != size:
                raise CacheError("a file changed while it was read")
            return self.add(BLOB, data, deflated=self._deflated)
        name = identify_file(descriptor, size, extents)
        if name not in self._index and not self._is_known(name):
            self._add_stream(name, descriptor, size, extents)
        return name

    def finish(self) -> str | None:
        """Install the pack; return the path of its index, or None if nothing had to be stored."""
        if not self._index:
            self.abandon()
            return None
        with file_errors("write build cache", self._temporary):
            trailer = self._finish_pack()
            path = os.path.join(self._directory, f"pack-{trailer.hex()}")
            index = _encode_index(self._index, self._offsets, self._checksums, trailer)
            # Before anything gets its name: a full disk leaves no pack without index.
            _write_file(self._temporary_index, [index], self._sync)
            os.rename(self._temporary, path + ".pack")
            os.rename(self._temporary_index, path + ".idx")
            if self._sync:
                sync_directory(self._directory)
        return path + ".idx"

    def abandon(self) -> None:
        """Remove what is not finished. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        for path in (self._temporary, self._temporary_index):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def copy_raw(self, name: bytes, *parts: Buffer) -> None:
        """Store an entry that is ready, in one or more parts. The base of a delta must be in this pack."""
        self.copy_parts(name, parts)

    def copy_parts(self, name: bytes, parts: Iterable[Buffer]) -> None:
        """Do the same with parts that come one after the other."""
        if name not in self._index:
            self._begin(name)
            for part in parts:
                for start in range(0, len(part), _CHUNK):
                    self._write(part[start : start + _CHUNK])

    def place(self, name: bytes) -> int:
        """Return where the entry of an object begins. Raises KeyError."""
        return self._offsets[self._index[name]]

    def _begin(self, name: bytes) -> None:
        self._index[name] = len(self._offsets)
        self._offsets.append(self.end)
        self._checksums.append(0)

    def _write(self, data: Buffer) -> None:
        """Append to the entry that was begun last."""
        size = len(data)
        self._checksums[-1] = deflate.crc32(data, self._checksums[-1])
        if self._filled + size > _BUFFER:
            self._flush()
        if size > _BUFFER:
            with file_errors("write build cache", self._temporary):
                _write_all(self._opened(), data)
        else:
            self._buffer[self._filled : self._filled + size] = data
            self._filled += size
        self.end += size

    def _flush(self) -> None:
        with file_errors("write build cache", self._temporary):
            _write_all(self._opened(), self._buffer[: self._filled])
        self._filled = 0

    def _opened(self) -> int:
        if self._file is None:
            self._file = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        return self._file

    def _finish_pack(self) -> bytes:
        """Complete the temporary file; return the checksum at its end."""
        # The number of objects was not known before.
        head = _HEAD.pack(b"PACK", 2, len(self._index))
        if self._file is None:
            self._buffer[:PACK_HEAD] = head
            content = self._buffer[: self._filled]
            trailer = sha1(content).digest()
            _write_file(self._temporary, [content, trailer], self._sync)
            return trailer
        self._flush()
        os.pwrite(self._file, head, 0)
        # The checksum covers the head, so all has to be read once more.
        digest = sha1()
        for offset in range(0, self.end, _BUFFER):
            size = os.preadv(self._file, [self._buffer], offset)
            digest.update(self._buffer[:size])
        _write_all(self._file, digest.digest())
        if self._sync:
            os.fsync(self._file)
        os.close(self._file)
        self._file = None
        return digest.digest()

    def _add_stream(self, name: bytes, descriptor: int, size: int, extents: list[tuple[int, int]]) -> None:
        self._begin(name)
        self._write(entry_head(BLOB, size))
        stream = None
        digest = sha1(header(BLOB, size))
        for offset, length in extents:
            for start in range(offset, offset + length, _CHUNK):
                data = os.pread(descriptor, min(_CHUNK, offset + length - start), start)
                digest.update(data)
                if stream is None:
                    stream = deflate.stream_for(data, deflate=self._deflated)
                self._write(stream.compress(data))
        if stream is None or digest.digest() != name:
            raise CacheError("a file changed while it was read")
        self._write(stream.flush())


def entry_head(kind: int, size: int) -> bytes:
    """Return type and size of an entry: 4 bits of the size, then 7 at a time, low bits first."""
    byte, size = (kind << 4) | (size & 15), size >> 4
    head = bytearray()
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    return bytes(head)


def _encode_index(index: dict[bytes, int], offsets: "array[int]", checksums: "array[int]", trailer: bytes) -> bytes:
    names = sorted(index)
    order = [index[name] for name in names]
    counts = [0] * 256
    for name in names:
        counts[name[0]] += 1
    total, fanout = 0, array("I")
    for count in counts:
        total += count
        fanout.append(total)
    short, long = array("I"), array("Q")
    for position in order:
        offset = offsets[position]
        if offset < 0x80000000:
            short.append(offset)
        else:
            short.append(0x80000000 | len(long))
            long.append(offset)
    sums = array("I", [checksums[position] for position in order])
    parts = [b"\xfftOc\0\0\0\2", _big_endian(fanout), *names, _big_endian(sums), _big_endian(short), _big_endian(long)]
    content = b"".join([*parts, trailer])
    return content + sha1(content).digest()


def _big_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def identify_file(descriptor: int, size: int, extents: list[tuple[int, int]]) -> bytes:
    """Return the name of the blob that the parts of an open file, `size` bytes together, would be."""
    digest = sha1(header(BLOB, size))
    for offset, length in extents:
        for start in range(offset, offset + length, _CHUNK):
            digest.update(os.pread(descriptor, min(_CHUNK, offset + length - start), start))
    return digest.digest()


def _read_extent(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while 0 < len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _write_file(path: str, parts: Iterable[Buffer], sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        for part in parts:
            _write_all(descriptor, part)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: Buffer) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
