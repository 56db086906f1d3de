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

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
"""To make an encoder for each key would cost more than to use it."""


REMOTE = "remote"
"""Parameter that says by what files and repositories of other machines are known, by URL."""
CACHE_BY = "--cache-by"
"""Parameter that says how sources are described; missing: by metadata."""


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
        return b"%s\0%s" % (_ENCODE((self.instruction, self.parameters)).encode("ascii"), self.sources)

    @classmethod
    def from_key(cls, text: str, key: bytes) -> "StepInputs":
        """Return the inputs that a key was made of. Raises ValueError."""
        document, _, sources = key.partition(b"\0")
        instruction, parameters = json.loads(document)
        return cls(instruction, text, parameters, sources)


def describe_source(
    name: str, status: stat_result, target: str | None, xattrs: Mapping[str, bytes], content: str | None = None
) -> str:
    """Return what a copy of a file depends on; `target` is that of a symbolic link, `content` stands for the content of
    a regular file: None lets size and mtime do so.

    A directory's own size and mtime do not count: they say nothing that its entries do not say, but change with every
    temporary file of an editor.
    """
    if target is not None:
        detail = target
    elif stat.S_ISDIR(status.st_mode):
        detail = ""
    elif content is not None:
        detail = f"{status.st_size} {content}"
    else:
        detail = f"{status.st_size} {status.st_mtime_ns}"
    extra = json.dumps({name: xattrs[name].hex() for name in sorted(xattrs)}) if xattrs else ""
    # No field can hold a NUL, and each file has the same number of fields: so `sources` can take it apart again.
    return f"{name}\0{status.st_mode:o}\0{detail}\0{extra}\0"
