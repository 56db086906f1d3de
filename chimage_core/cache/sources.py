"""Descriptions of source files, taken apart, and what stands for content in them: needed only by who explains, or asks
for content to count."""

import json
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

_FIELDS = 4
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "FIFO"}
_HASH = "sha256:"


class SourceFile(NamedTuple):
    """What `describe_source` made, taken apart."""

    name: str
    """As the instruction names it, relative to the context."""
    mode: str
    """`st_mode`, octal."""
    detail: str
    extra: str

    def attributes(self) -> dict[str, str | int]:
        """Return all that is described, by name of the attribute."""
        mode = int(self.mode, 8)
        kind = _KINDS.get(stat.S_IFMT(mode), "special file")
        found: dict[str, str | int] = {"type": kind}
        if kind == "symlink":
            found["target"] = self.detail
        else:
            found["mode"] = f"{stat.S_IMODE(mode):04o}"
        if kind not in ("symlink", "directory"):
            size, mark = self.detail.split(" ")
            found["size"] = int(size)
            if mark.startswith(_HASH):
                found["content"] = mark
            else:
                found["mtime"] = int(mark)
        xattrs = json.loads(self.extra) if self.extra else {}
        return {**found, **{f"xattr {name}": f"0x{value}" for name, value in xattrs.items()}}


def content_of(path: str, status: os.stat_result) -> str | None:
    """Return what stands for the content of a file if it is a regular one, else None. Raises OSError."""
    if not stat.S_ISREG(status.st_mode):
        return None
    import hashlib

    with open(path, "rb", buffering=0) as file:
        return _HASH + hashlib.file_digest(file, "sha256").hexdigest()


def is_same_but_touched(before: SourceFile, after: SourceFile) -> bool:
    """Return whether two descriptions of a regular file differ in the mtime at most."""
    if (before.mode, before.extra) != (after.mode, after.extra) or not before.mode.startswith("10"):
        return False
    # Of a symbolic link it is the target that differs, and blanks in that are no size.
    (old_size, old_mark), (size, mark) = before.detail.split(" "), after.detail.split(" ")
    return old_size == size and not (old_mark.startswith(_HASH) or mark.startswith(_HASH))


def source_files(sources: bytes) -> list[SourceFile]:
    """Take descriptions of source files apart."""
    return list(map(SourceFile._make, _taken_apart(sources)))


def changed_files(before: bytes, after: bytes) -> tuple[dict[str, SourceFile], dict[str, SourceFile]]:
    """Return the files that are described differently, by name: as they were, and as they are now.

    Most files are as they were, and there may be many: only the others are worth an object.
    """
    old, new = set(_taken_apart(before)), set(_taken_apart(after))
    gone, come = map(SourceFile._make, old - new), map(SourceFile._make, new - old)
    return {file.name: file for file in gone}, {file.name: file for file in come}


def _taken_apart(sources: bytes) -> Iterator[tuple[str, ...]]:
    fields = iter(sources.decode("utf-8", "surrogateescape").split("\0"))
    return zip(*[fields] * _FIELDS)  # noqa: B905 (the last field is empty, and behind the last file)
