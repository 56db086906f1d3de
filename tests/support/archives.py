"""Tar archives made byte by byte: also those that no honest program writes."""

import io
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chimage_core.cancel import CancelToken
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.report import UnpackReport

END = bytes(1024)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    data = bytearray(value.to_bytes(width, "big", signed=True))
    data[0] |= 0x80
    return bytes(data)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    mode: int | bytes = 0o644,
    size: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    tail: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header block. Numbers given as bytes are written as they are; `tail` is what follows the device numbers."""
    mode = octal(mode, 8) if isinstance(mode, int) else mode
    size = octal(size, 12) if isinstance(size, int) else size
    mtime = octal(mtime, 12) if isinstance(mtime, int) else mtime
    start = name.ljust(100, b"\0") + mode.ljust(8, b"\0") + octal(0, 8) * 2 + size.ljust(12, b"\0")
    start += mtime.ljust(12, b"\0")
    rest = kind + link.ljust(100, b"\0") + magic + bytes(64) + octal(0, 8) * 2 + tail.ljust(167, b"\0")
    if checksum is None:
        checksum = b"%06o\0 " % (sum(start) + sum(rest) + 256)
    block = start + checksum + rest
    assert len(block) == 512
    return block


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"", **fields: Any) -> bytes:
    fields.setdefault("size", len(data))
    return header(name, **fields) + padded(data)


def directory(name: bytes, **fields: Any) -> bytes:
    fields.setdefault("mode", 0o755)
    return header(name, kind=b"5", **fields)


def symlink(name: bytes, target: bytes, **fields: Any) -> bytes:
    return header(name, kind=b"2", link=target, mode=0o777, **fields)


def hardlink(name: bytes, target: bytes, **fields: Any) -> bytes:
    return header(name, kind=b"1", link=target, **fields)


def pax(records: Mapping[bytes, bytes] | Sequence[tuple[bytes, bytes]], kind: bytes = b"x") -> bytes:
    """An extended header."""
    items = records.items() if isinstance(records, Mapping) else records
    return file(b"././@PaxHeader", b"".join(record(key, value) for key, value in items), kind=kind)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's way to write a name (`L`) or link target (`K`) that does not fit."""
    return file(b"././@LongLink", name + b"\0", kind=kind, magic=b"ustar  \0")


def tar(*members: bytes) -> bytes:
    return b"".join(members) + END


def unpack_layers(root: Path, *layers: bytes, options: UnpackOptions | None = None) -> UnpackReport:
    """Unpack into `root`, which is made if missing."""
    root.mkdir(exist_ok=True)
    return unpack([io.BytesIO(layer) for layer in layers], str(root), options, cancel=CancelToken())


def listing(root: Path) -> dict[str, object]:
    """What is below `root`: content of files, `-> target` of links, None for directories."""
    found: dict[str, object] = {}
    for directory_path, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(directory_path, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                value: object = f"-> {os.readlink(path)}"
            else:
                value = Path(path).read_bytes() if stat.S_ISREG(mode) else None
            found[os.path.relpath(path, root)] = value
    return found
