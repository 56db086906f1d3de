"""The `%` blobs: what Git forgets about an image's files.

Every directory of an image is a Git tree that holds, beside its children, a blob named `%` with one line per entry:

    %1
    d0755 1795242667000000000 .
    f4755 1795242667863752755 suid x:user.foo=AAFiYXI=
    f0644 1795242667000000000 a%20b hl=3
    l0777 1795242667000000000 bin
    f0644 1795242667000000000 disk.img ext=0+4096,1048576+512;2097152
    p0640 1795242667000000000 fifo

Type and mode (octal), modification time (ns), name, then `key=value` in any order. `.` is the directory itself and
comes first; the others follow in bytewise order of their names. Subdirectories have no line here: they describe
themselves. Names are percent-encoded outside `!`-`~` and for `%` and `=`.

| key | meaning |
|---|---|
| `hl=N` | all entries of the image with this number are one file (hard links) |
| `ext=OFFSET+LENGTH,...;SIZE` | sparse: the blob is these parts joined, the file has SIZE bytes |
| `x:NAME=BASE64` | extended attribute; ignored if it is none that images keep |
| `own=UID:GID` | owner, if not 0:0 (not written by us, who have no privilege to keep one) |
| `big=NAME:SIZE` | the content is kept outside of Git (see `large`); the blob is a note about it |
| `links=N` | on the `.` of the image's root: the highest `hl` number ever given |

An unknown key is ignored, or refused if it starts with `!`.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from chimage_core.errors import CacheBroken
from chimage_core.fs import xattr

METADATA_NAME = b"%"
"""Name of the blob in its tree. No file of an image can have it: such a name is escaped."""

FORMAT_LINE = b"%1"

_UNSAFE = re.compile(rb"[^!-$&-<>-~]")
_ESCAPE = re.compile(rb"%([0-9a-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-f]{2})")
# Names that git fsck, or a checkout on HFS+ or NTFS, would take for a file of Git's own: `.git*`, `.mailmap`, their
# 8.3 forms (`git~1`), their spellings with characters that HFS+ ignores, and anything after a backslash.
_REFUSED_BY_GIT = re.compile(
    rb"%|\.(?i:git|mailmap)|\.[\0-\xff]*[\x80-\xff]|[\0-\xff]*(?:~[0-9]|\\|\xe2[\x80\x81]|\xef\xbb)"
)
_ORDINARY = re.compile(rb"[0-9A-Za-z_+@,-][0-9A-Za-z_+@,.-]*")
"""Names that nobody escapes or refuses: nearly all."""
_LARGE_NAME = re.compile(rb"\??[0-9a-f]{40}")
_LINE = re.compile(rb"([dflp])([0-7]{4}) (-?[0-9]{1,20}) ([!-~]+)((?: [!-~]+)*)")


def quote(name: bytes) -> bytes:
    """Return a name as it stands in a metadata line."""
    return _UNSAFE.sub(_escape, name) if _UNSAFE.search(name) else name


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02x" % match[0][0]


def unquote(name: bytes) -> bytes:
    """Return the name that `quote` made `name` of. Raises CacheBroken."""
    if b"%" not in name:
        return name
    if _BAD_ESCAPE.search(name):
        raise CacheBroken(f"malformed name in the build cache: {name!r}")
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), name)


def git_name(name: bytes) -> bytes:
    """Return the name of a tree entry for a file: itself, or escaped if Git would refuse it.

    An escaped name starts with `%`: the first byte, and every backslash and percent sign, are `%xx`.
    """
    if _REFUSED_BY_GIT.match(name) is None:
        return name
    rest = name[1:].replace(b"%", b"%25").replace(b"\\", b"%5c")
    return b"%%%02x%s" % (name[0], rest)


def plain_name(name: bytes) -> bytes:
    """Return the file name of a tree entry. Raises CacheBroken for one that `git_name` does not make."""
    if _ORDINARY.fullmatch(name):
        return name
    plain = unquote(name) if name.startswith(b"%") else name
    if plain in (b".", b"..") or b"/" in plain or b"\0" in plain or git_name(plain) != name:
        raise CacheBroken(f"malformed file name in the build cache: {name!r}")
    return plain


def line(kind: bytes, mode: int, mtime: int, name: bytes, keys: list[bytes]) -> bytes:
    """Return the line of an entry. `mode` has permission bits only; `keys` are complete."""
    head = b"%s%04o %d %s" % (kind, mode, mtime, quote(name))
    return b" ".join([head, *keys]) if keys else head


def xattr_keys(attributes: Mapping[str, bytes]) -> list[bytes]:
    """Return extended attributes as keys of a line, sorted."""
    return sorted(
        b"x:%s=%s" % (quote(name.encode("utf-8", "surrogateescape")), base64.b64encode(value))
        for name, value in attributes.items()
    )


def extents_key(extents: list[tuple[int, int]], size: int) -> bytes:
    """Return the key of a sparse file from its (offset, length) parts."""
    return b"ext=%s;%d" % (b",".join([b"%d+%d" % extent for extent in extents]), size)


def large_key(name: bytes, size: int) -> bytes:
    """Return the key of a large file."""
    return b"big=%s:%d" % (name, size)


def large_name(text: bytes) -> bytes:
    """Return what the content is called among the large files in a line; empty if it is not there."""
    return text.partition(b" big=")[2].partition(b":")[0]


def line_name(text: bytes) -> bytes:
    """Return the name in a line, without checking the rest."""
    name = text.split(b" ", 3)[2]
    return unquote(name) if b"%" in name else name


def mode_of(text: bytes) -> int:
    """Return the permission bits in a line. Raises CacheBroken."""
    try:
        return int(text[1:5], 8)
    except ValueError as error:
        raise _malformed(text) from error


def link_number(text: bytes) -> int | None:
    """Return the hard link group in a line, if any. Raises CacheBroken."""
    start = text.find(b" hl=")
    if start < 0:
        return None
    try:
        return _number(text[start + 4 :].split(b" ", 1)[0])
    except ValueError as error:
        raise _malformed(text) from error


@dataclass(slots=True)
class Entry:
    """A line, read and checked."""

    kind: str
    """`d`, `f`, `l` or `p`."""
    mode: int
    mtime: int
    name: bytes
    link: int | None = None
    extents: tuple[tuple[int, int], ...] | None = None
    size: int = 0
    """Only with extents, or if it is large."""
    large: bytes = b""
    """Name of its content among the large files; empty: the content is a blob."""
    xattrs: tuple[tuple[str, bytes], ...] = ()


def parse_line(text: bytes) -> Entry:
    """Read a line. Raises CacheBroken."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise _malformed(text)
    kind, mode, mtime, name, keys = match.groups()
    entry = Entry(kind.decode(), int(mode, 8), int(mtime), name if b"%" not in name else unquote(name))
    if keys:
        try:
            _parse_keys(entry, keys[1:].split(b" "))
        except (ValueError, binascii.Error) as error:
            raise _malformed(text) from error
    return entry


def _malformed(text: bytes) -> CacheBroken:
    return CacheBroken(f"malformed metadata in the build cache: {text[:200]!r}")


def _number(digits: bytes) -> int:
    """Return a count or a size. Raises ValueError, also for what no system call would take."""
    number = int(digits)
    if not 0 <= number < 1 << 63:
        raise ValueError("number out of range")
    return number


def _parse_keys(entry: Entry, keys: list[bytes]) -> None:
    xattrs = []
    for item in keys:
        key, _, value = item.partition(b"=")
        if key == b"hl":
            entry.link = _number(value)
        elif key == b"ext":
            entry.extents, entry.size = _parse_extents(value)
        elif key.startswith(b"x:"):
            name = unquote(key[2:]).decode("utf-8", "surrogateescape")
            if "\0" in name:
                raise ValueError("NUL in the name of an attribute")
            if xattr.is_kept(name):  # Others mean something to the kernel, as those of overlays do.
                xattrs.append((name, base64.b64decode(value, validate=True)))
        elif key == b"big":
            entry.large, entry.size = _parse_large(value)
        elif key.startswith(b"!"):
            raise CacheBroken(
                f"the build cache needs a newer version of this program: {key.decode()} of file {entry.name!r}",
                hint="use a newer version, or delete the cache with build-cache --reset",
            )
    entry.xattrs = tuple(xattrs)


def _parse_large(value: bytes) -> tuple[bytes, int]:
    name, _, size = value.partition(b":")
    if _LARGE_NAME.fullmatch(name) is None:
        raise ValueError("not the name of a large file")
    return name, _number(size)


def _parse_extents(value: bytes) -> tuple[tuple[tuple[int, int], ...], int]:
    parts, _, size_text = value.partition(b";")
    size, end, extents = _number(size_text), 0, []
    for part in parts.split(b",") if parts else []:
        offset_text, _, length_text = part.partition(b"+")
        offset, length = _number(offset_text), _number(length_text)
        if offset < end or length <= 0 or offset + length > size:
            raise ValueError("extents overlap or exceed the file")
        end = offset + length
        extents.append((offset, length))
    return tuple(extents), size
