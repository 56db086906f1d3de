"""What an archive of an image is made of: entries of a tree, wherever they come from, in the order they are written in.

An unpacked image gives them (`layer/rootfs.py`), and so does the difference between two snapshots of the build cache,
which no directory holds. Who gives an entry keeps its content open until the next one is asked for.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})


class EntryKind(enum.Enum):
    """What an entry is."""

    FILE = "file"
    LINK = "hard link"
    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    FIFO = "FIFO"
    REMOVED = "whiteout"
    """What a lower layer has put here is gone."""


class Entry(NamedTuple):
    """An entry of a tree."""

    path: bytes
    """Relative to the root of the image."""
    kind: EntryKind
    mode: int = 0
    """Permission bits with setuid, setgid and sticky."""
    mtime: int = 0
    """ns"""
    size: int = 0
    """Of a file, with its holes."""
    target: bytes = b""
    """Of a symbolic link, as it stands; of a hard link, the path of an earlier entry."""
    xattrs: Mapping[str, bytes] = _NO_XATTRS
    extents: tuple[tuple[int, int], ...] | None = None
    """Offset and length of what is no hole; None: all is data."""
    content: int | bytes = b""
    """Of a file: an open descriptor, or, if it has no extents, the bytes. Of the latter, data of all extents alone."""
