"""Descriptions of source files, taken apart: needed only where something is explained."""

import json
import stat
from typing import NamedTuple

_FIELDS = 4
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "FIFO"}


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
            size, mtime = self.detail.split(" ")
            found.update(size=int(size), mtime=int(mtime))
        xattrs = json.loads(self.extra) if self.extra else {}
        return {**found, **{f"xattr {name}": f"0x{value}" for name, value in xattrs.items()}}


def source_files(sources: bytes) -> list[SourceFile]:
    """Take descriptions of source files apart."""
    fields = sources.decode("utf-8", "surrogateescape").split("\0")
    return [SourceFile._make(fields[at : at + _FIELDS]) for at in range(0, len(fields) - 1, _FIELDS)]
