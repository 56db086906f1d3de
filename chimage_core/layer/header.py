"""Tar headers: what is the next member?

Why our own: the standard library's reader costs three times as much, decodes names, and trusts numbers. Read are
ustar, GNU (long names, base-256 numbers, sparse files) and pax (extended and global headers, attributes, the three
sparse formats); see `pax.py` and `sparse.py` for the latter two. Names are bytes to the end. Everything comes from
strangers: sizes are bounded before memory is asked for, and nonsense is a LayerError.
Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

import enum
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from chimage_core.errors import LayerError
from chimage_core.layer import pax, sparse
from chimage_core.layer.stream import BLOCK, BlockStream

MAX_METADATA = 1 << 20
"""Most bytes of one extended header, of one long name, and of all global headers together."""

# name, mode, (uid, gid), size, mtime, checksum, type, link name, magic and version, (owner, group, device), prefix
_FIELDS = struct.Struct("100s8s16x12s12s8sc100s8s32x32x16x155s12x")
_CHECKSUM = slice(148, 156)
_ADLER_BASE = 65521
_ZEROS = bytes(BLOCK)
_MAX_TIME = (1 << 63) - 1
"""Latest time that calls with nanoseconds take: April 2262."""


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    LINK = "hard link"
    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "FIFO"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"D": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_NO_DATA = frozenset(b"123456")
"""Types without data, whatever their size field says: some writers put a size there, as Go's reader knows."""


class Member(NamedTuple):
    """A member of an archive. Its data is the next thing in the stream."""

    name: bytes
    """As it stands in the archive; not empty, without NUL."""
    kind: Kind
    mode: int
    """Permission bits with setuid, setgid and sticky."""
    mtime: int
    """ns"""
    size: int
    """Bytes of data in the archive."""
    link: bytes
    """Target of a link, as it stands in the archive."""
    xattrs: Mapping[str, bytes]
    sparse: "sparse.SparseMap | None"
    """Where the data belongs in the file; None: it is the file."""


def members(stream: BlockStream) -> Iterator[Member]:
    """Give the members of an archive, up to its end blocks or, if those are missing, the end of the stream.

    Data that the caller does not read is skipped. Raises LayerError for what is no sound tar archive.
    """
    extended = pax.Extended(MAX_METADATA)
    long_name = long_link = None
    is_first = True
    while (block := stream.header()) is not None and block != _ZEROS:
        name, mode, size_field, mtime, checksum, kind, link, magic, prefix = _FIELDS.unpack(block)
        _verify(block, checksum, is_first=is_first)
        is_first = False
        size = _number(size_field, "size")
        if kind[0] in _NO_DATA:
            size = 0
        if kind in b"xgXLK":
            data = _metadata(stream, size)
            if kind == b"L":
                long_name = data.partition(b"\0")[0]
            elif kind == b"K":
                long_link = data.partition(b"\0")[0]
            else:
                extended.add(data, is_global=kind == b"g")
            continue
        if kind == b"V":  # A label, not a file.
            stream.begin(_checked_size(size))
            continue
        if kind == b"M":
            raise LayerError("archive is a later volume of a multi-volume archive")
        name = name.partition(b"\0")[0]
        if magic[:6] == b"ustar\0" and prefix[0]:
            name = prefix.partition(b"\0")[0] + b"/" + name
        member = Member(
            name if long_name is None else long_name,
            _KINDS.get(kind, Kind.FILE),  # Unknown types are regular files, says POSIX.
            _number(mode, "mode") & 0o7777,
            _clamped(_number(mtime, "time") * 1_000_000_000),
            size,
            link.partition(b"\0")[0] if long_link is None else long_link,
            pax.NO_XATTRS,
            None,
        )
        if extended:
            member = _extended(member, extended, has_data=kind[0] not in _NO_DATA)
        stream.begin(_checked_size(member.size))
        if kind == b"S":
            member = member._replace(sparse=sparse.from_old_header(stream, block, _number))
        elif extended.is_sparse and member.kind is Kind.FILE:
            member = member._replace(sparse=sparse.from_pax(stream, extended.records))
        if not member.name:
            raise LayerError("archive has a member without a name")
        if member.kind is Kind.FILE and member.name.endswith(b"/"):  # How tar wrote directories before 1988.
            member = member._replace(kind=Kind.DIRECTORY)
        yield member
        extended.next_member()
        long_name = long_link = None
    if block is None and (extended.is_pending or long_name is not None or long_link is not None):
        raise LayerError("archive ends too early, after an extended header; it is incomplete")


def _extended(member: Member, extended: pax.Extended, *, has_data: bool) -> Member:
    """Return the member with what pax headers say of it."""
    records = extended.records
    mtime = records.get(b"mtime")
    size = records.get(b"size")
    return member._replace(
        name=records.get(b"GNU.sparse.name") or records.get(b"path") or member.name,
        link=records.get(b"linkpath") or member.link,
        mtime=member.mtime if not mtime else _clamped(pax.time(mtime)),
        size=pax.number(size, "size") if size and has_data else member.size,
        xattrs=extended.xattrs(),
    )


def _metadata(stream: BlockStream, size: int) -> bytes:
    if not 0 <= size <= MAX_METADATA:
        raise LayerError(f"archive has an extended header of {size} bytes, more than {MAX_METADATA}")
    stream.begin(size)
    return stream.data(size)


def _verify(block: bytes, checksum: bytes, *, is_first: bool) -> None:
    """Check the sum of all bytes, those of the field itself counted as blanks.

    Adler-32 has that sum, modulo its base, in its lower half, and costs a twentieth of a sum in Python.
    """
    stated = _checksum_number(checksum)
    if stated is not None:
        expected = stated - 8 * ord(" ") + sum(checksum)
        if zlib.adler32(block, 0) & 0xFFFF == expected % _ADLER_BASE:
            return
        # Some old writers summed signed bytes, which differs for names beyond ASCII.
        if sum(byte - 256 if byte > 127 else byte for byte in block) == stated - 256 + _signed_sum(checksum):
            return
    if is_first:
        raise LayerError("not a tar archive")
    raise LayerError("archive is damaged: a header has a wrong checksum")


def _checksum_number(field: bytes) -> int | None:
    digits = field.partition(b"\0")[0].strip(b" ")
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None


def _signed_sum(field: bytes) -> int:
    return sum(byte - 256 if byte > 127 else byte for byte in field)


def _number(field: bytes, what: str) -> int:
    """Read a number: octal digits, or, where the first bit is set, base 256 in two's complement."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    try:
        if digits.isdigit():  # int() takes signs and underscores.
            return int(digits, 8)
    except ValueError:
        pass
    raise LayerError(f"archive is damaged: {what} is not a number: {os.fsdecode(digits)}")


def _checked_size(size: int) -> int:
    if size < 0:
        raise LayerError(f"archive is damaged: a member has the size {size}")
    return size


def _clamped(time: int) -> int:
    return max(-_MAX_TIME, min(time, _MAX_TIME))
