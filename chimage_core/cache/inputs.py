"""What a step is computed from: all that its result depends on, besides the state before it.

The cache key is made of it, and so is every explanation of a hit or miss: there is one source of truth. Source files
are described by one run of bytes, because a hit must not pay for an object per file; it is taken apart only where
something has to be explained.
"""

import json
import stat
from collections.abc import Mapping
from os import stat_result
from typing import Any, NamedTuple


class StepInputs(NamedTuple):
    """What a step is computed from."""

    instruction: str
    """The keyword: `RUN`."""
    text: str
    """As announced, for people: what matters of it is in the parameters."""
    parameters: dict[str, Any]
    """By label: strings, numbers, None, lists of strings, or values by name (for ARG, ENV and LABEL)."""
    sources: bytes = b""
    """Files that are copied, each as `describe_source` has it."""

    def key(self) -> bytes:
        """Return the cache key: equal only for equal inputs, whatever the text."""
        document = json.dumps((self.instruction, self.parameters), separators=(",", ":"))
        return b"%s\0%s" % (document.encode("ascii"), self.sources)

    @classmethod
    def from_key(cls, text: str, key: bytes) -> "StepInputs":
        """Return the inputs that a key was made of. Raises ValueError."""
        document, _, sources = key.partition(b"\0")
        instruction, parameters = json.loads(document)
        return cls(instruction, text, parameters, sources)


_FIELDS = 4


def describe_source(name: str, status: stat_result, target: str | None, xattrs: Mapping[str, bytes]) -> str:
    """Return what a copy of a file depends on, its content left out; `target` is that of a symbolic link.

    A directory's own size and mtime do not count: they say nothing that its entries do not say, but change with every
    temporary file of an editor.
    """
    if target is not None:
        detail = target
    elif stat.S_ISDIR(status.st_mode):
        detail = ""
    else:
        detail = f"{status.st_size} {status.st_mtime_ns}"
    extra = json.dumps({name: xattrs[name].hex() for name in sorted(xattrs)}) if xattrs else ""
    # No field can hold a NUL, and each file has the same number of fields: so it can be taken apart again.
    return f"{name}\0{status.st_mode:o}\0{detail}\0{extra}\0"


class SourceFile(NamedTuple):
    """A description, taken apart."""

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


_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "FIFO"}


def source_files(sources: bytes) -> list[SourceFile]:
    """Take descriptions of source files apart."""
    fields = sources.decode("utf-8", "surrogateescape").split("\0")
    return [SourceFile._make(fields[at : at + _FIELDS]) for at in range(0, len(fields) - 1, _FIELDS)]
