"""Write tar archives: the same entries always give the same bytes.

Headers are ustar; a pax header goes before one only where ustar cannot say it: long names, big numbers, extended
attributes, files with big holes. Everything belongs to root:root, setuid and setgid bits are off, times are whole
seconds. Names are bytes, as they are: readers take them so in practice, whatever POSIX says of characters beyond ASCII.
Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Storing Sparse Files" (format 1.0).
"""

import os
import struct
import zlib
from collections.abc import Callable

from chimage_core.errors import FileError, LayerError
from chimage_core.fs.entry import Entry, EntryKind
from chimage_core.text import printable

_BLOCK = 512
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_TYPES = {
    EntryKind.FILE: b"0",
    EntryKind.REMOVED: b"0",
    EntryKind.LINK: b"1",
    EntryKind.SYMLINK: b"2",
    EntryKind.DIRECTORY: b"5",
    EntryKind.FIFO: b"6",
}
_PAX = b"x"
_NAME, _PREFIX = 100, 155
_MOST_OCTAL = 8**11
"""What a field of 12 bytes cannot hold any more."""
_ZERO = b"0000000\0"
_HOLES = 64 << 20
"""Bytes of holes from which on a file is written as a sparse one. Zeros compress to nearly nothing, and where holes are
depends on the file system, so that the same image would have other digests elsewhere."""
_SECOND = 1_000_000_000
WHITEOUT = b".wh."

_Records = list[tuple[bytes, bytes]]


class TarWriter:
    """Writes one archive, in blocks of one size."""

    def __init__(self, add: Callable[[bytearray], None], block_size: int, *, latest: int | None = None) -> None:
        """`add` takes the finished blocks, all but the last of `block_size` bytes. `latest`: times after that (s since
        the epoch) become it."""
        self._add = add
        self._size = block_size
        self._latest = latest
        self._block = bytearray(block_size)
        self._view = memoryview(self._block)
        self._used = 0

    def write(self, entry: Entry) -> None:
        """Write an entry, with its content. Raises LayerError for a file that has become shorter, FileError."""
        extents = None if entry.extents is None else _worthy_extents(entry.extents, entry.size)
        name = entry.path if entry.kind is EntryKind.FILE else _name(entry)
        link = entry.target if entry.kind in (EntryKind.LINK, EntryKind.SYMLINK) else b""
        mtime = entry.mtime // _SECOND
        if self._latest is not None and mtime > self._latest:
            mtime = self._latest
        records: _Records = []
        data_map = b""
        size = entry.size if entry.kind is EntryKind.FILE else 0
        if extents is not None:
            data_map = _sparse_map(extents)
            records += [
                (b"GNU.sparse.major", b"1"),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", name),
                (b"GNU.sparse.realsize", b"%d" % entry.size),
            ]
            size = len(data_map) + sum(length for _, length in extents)
            name = _sparse_name(name)
        if entry.xattrs:
            records += [(b"SCHILY.xattr." + os.fsencode(key), value) for key, value in sorted(entry.xattrs.items())]
        self._write_header(_TYPES[entry.kind], name, entry.mode & 0o1777, size, mtime, link, records)
        if size:
            self._write_content(entry, extents, data_map)
            self._pad(size)

    def finish(self) -> None:
        """Write the end of the archive."""
        self._put(bytes(2 * _BLOCK))
        if self._used:
            self._view.release()
            del self._block[self._used :]
            self._add(self._block)

    def _write_header(
        self,
        kind: bytes,
        name: bytes,
        mode: int,
        size: int,
        mtime: int,
        link: bytes,
        records: list[tuple[bytes, bytes]],
    ) -> None:
        prefix, short = (b"", name) if len(name) <= _NAME else _split(name)
        if short is None:
            records.append((b"path", name))
            prefix, short = b"", name[:_NAME]
        if len(link) > _NAME:
            records.append((b"linkpath", link))
            link = link[:_NAME]
        if size >= _MOST_OCTAL:
            records.append((b"size", b"%d" % size))
            size = 0
        if not 0 <= mtime < _MOST_OCTAL:
            records.append((b"mtime", b"%d" % mtime))
            mtime = 0
        if records:
            data = b"".join(_record(key, value) for key, value in records)
            self._put(_header(_PAX, b"PaxHeaders/" + os.path.basename(short.rstrip(b"/"))[:80], 0o644, len(data), 0))
            self._put(data)
            self._pad(len(data))
        self._put(_header(kind, short, mode, size, mtime, link, prefix))

    def _write_content(self, entry: Entry, extents: tuple[tuple[int, int], ...] | None, data_map: bytes) -> None:
        content = entry.content
        if isinstance(content, bytes):
            if extents is None and entry.extents is not None:
                content = _with_holes(content, entry.extents, entry.size)
            self._put(data_map)
            self._put(content)
            return
        if extents is None:
            self._read(content, entry.size, entry)
            return
        self._put(data_map)
        for offset, length in extents:
            os.lseek(content, offset, os.SEEK_SET)
            self._read(content, length, entry)

    def _put(self, data: bytes) -> None:
        done, used = 0, self._used
        if len(data) < self._size - used:  # Nearly always.
            self._used = used + len(data)
            self._block[used : self._used] = data
            return
        rest = memoryview(data)
        while done < len(rest):
            room = min(self._size - self._used, len(rest) - done)
            self._view[self._used : self._used + room] = rest[done : done + room]
            done += room
            self._advance(room)

    def _read(self, descriptor: int, size: int, entry: Entry) -> None:
        """Put what comes next from a descriptor, straight into the block."""
        while size:
            room = min(self._size - self._used, size)
            try:
                count = os.readv(descriptor, [self._view[self._used : self._used + room]])
            except OSError as error:
                raise FileError("read", os.fsdecode(entry.path), error) from error
            if not count:
                raise changed(entry.path)
            size -= count
            self._advance(count)

    def _pad(self, size: int) -> None:
        if size % _BLOCK:
            self._put(bytes(-size % _BLOCK))

    def _advance(self, count: int) -> None:
        self._used += count
        if self._used == self._size:
            self._view.release()
            self._add(self._block)
            self._block = bytearray(self._size)
            self._view = memoryview(self._block)
            self._used = 0


def changed(path: bytes) -> LayerError:
    """Return the error of a file that is not what it was when it was looked at."""
    return LayerError(
        f"file changed while it was packed: {printable(os.fsdecode(path))}",
        hint="let nothing work in the image meanwhile, then repeat the command",
    )


def _name(entry: Entry) -> bytes:
    if entry.kind is EntryKind.DIRECTORY:
        return entry.path + b"/"
    if entry.kind is EntryKind.REMOVED:
        head, slash, name = entry.path.rpartition(b"/")
        return head + slash + WHITEOUT + name
    return entry.path


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Return the two parts that a header has for a long name; no second one if it fits nowhere."""
    slash = name.find(b"/", len(name) - _NAME - 1, -1)
    if not 0 < slash <= _PREFIX:
        return b"", None
    return name[:slash], name[slash + 1 :]


def _header(
    kind: bytes, name: bytes, mode: int, size: int, mtime: int, link: bytes = b"", prefix: bytes = b""
) -> bytes:
    block = _HEADER.pack(
        *(name, b"%07o\0" % mode, _ZERO, _ZERO, b"%011o\0" % size, b"%011o\0" % mtime, b" " * 8, kind, link),
        *(b"ustar\00000", b"root", b"root", _ZERO, _ZERO, prefix),
    )
    # Adler-32 has the sum of bytes in its lower half, exactly for as few as 256, and takes a twentieth of `sum`.
    total = (zlib.adler32(block[:256], 0) & 0xFFFF) + (zlib.adler32(block[256:], 0) & 0xFFFF)
    return b"%b%06o\0 %b" % (block[:148], total, block[156:])


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record of a pax header: it begins with its length, that of the number included."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _worthy_extents(extents: tuple[tuple[int, int], ...], size: int) -> tuple[tuple[int, int], ...] | None:
    """Return the extents if the file is to be written as a sparse one."""
    return extents if size - sum(length for _, length in extents) >= _HOLES else None


def _sparse_map(extents: tuple[tuple[int, int], ...]) -> bytes:
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % _BLOCK)


def _sparse_name(name: bytes) -> bytes:
    """Return what stands in the header: a name for readers that do not know of sparse files."""
    head, _, last = name.rpartition(b"/")
    return b"/".join(part for part in (head, b"GNUSparseFile.0", last) if part)


def _with_holes(data: bytes, extents: tuple[tuple[int, int], ...], size: int) -> bytes:
    filled, position = bytearray(size), 0
    for offset, length in extents:
        filled[offset : offset + length] = data[position : position + length]
        position += length
    return bytes(filled)
