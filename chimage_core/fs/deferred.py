"""Files that a copy of a tree leaves for later, when its directories are there: somebody may copy them side by side.

Directories are opened again by path, and must then be those that were walked through: who may write to a source could
put a symbolic link in the place of one meanwhile.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chimage_core.fs.descend import OPEN_DIRECTORY, MovedError
from chimage_core.fs.filecopy import CopyOptions

_LONGEST_PATH = 4096 - 256 - 1
"""Bytes: with a name behind it, a path must still be one for the kernel."""


class Folder(NamedTuple):
    """A directory that was open once."""

    path: str
    device: int
    inode: int

    def open(self) -> int:
        """Open it again. Raises MovedError if another one is there now, OSError."""
        descriptor = os.open(self.path, OPEN_DIRECTORY)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            os.close(descriptor)
            raise MovedError("directory was moved while it was being read")
        return descriptor


class Deferred(NamedTuple):
    """A directory that was walked through, and its files that are still to be copied."""

    prefix: str
    """Its path relative to the tree, with a slash at the end; empty for the top."""
    source: Folder
    target: Folder
    is_new: bool
    """There was nothing in the target before."""
    names: list[str]
    """Most likely regular files. Nothing has these names in the target."""


class Delegated(NamedTuple):
    """What became of deferred files."""

    left: list[Deferred]
    """Those that were not copied, for whatever reason; the others were, with all their metadata."""
    bytes: int
    """Sizes of the copied files together."""
    refused_xattrs: set[str]


class Delegate(Protocol):
    """Copies files for a copy of a tree."""

    def copy(self, deferred: Sequence[Deferred], options: CopyOptions) -> Delegated:
        """Copy files, but only such as have a single name. An error with one of them is a reason to leave it.

        Raises ChimageError for what has nothing to do with the files themselves; Cancelled.
        """

    def forget(self) -> None:
        """Know nothing any more of what was copied: something in the target was removed, perhaps a copy."""


def defer(top: str, target_top: str, prefix: str, descriptors: tuple[int, int], *, is_new: bool) -> Deferred | None:
    """Return the directories that are open at these descriptors, at `prefix` in two trees; None if that is too deep."""
    # Without a slash at the end: with one, a symbolic link would be followed.
    path, target = f"{top}/{prefix}"[:-1], f"{target_top}/{prefix}"[:-1]
    if max(len(os.fsencode(path)), len(os.fsencode(target))) > _LONGEST_PATH:
        return None
    source_status, status = map(os.fstat, descriptors)
    source = Folder(path, source_status.st_dev, source_status.st_ino)
    return Deferred(prefix, source, Folder(target, status.st_dev, status.st_ino), is_new, [])
