"""How much of the disk files take: what adding them up finds, and what removing them gives back.

All sizes are those of blocks (`st_blocks`), so sparse files count for what they take, and small ones for a whole block.
A file with several names is one file: it takes its room once, and gives it back with its last name. So removing an
image gives nothing back for files that the build cache holds under another name.

Nothing is changed while looking, hence what is in a directory that even its owner may not read stays unknown.
"""

import os
import stat
from collections.abc import Container, Iterator

from chimage_core.cancel import CancelToken
from chimage_core.errors import file_errors

_BLOCK = 512
"""The unit of `st_blocks`, whatever the file system's own blocks are."""


class Sum:
    """Adds up the room that files take."""

    def __init__(self, cancel: CancelToken) -> None:
        """Begin with nothing."""
        self._cancel = cancel
        self._seen: set[tuple[int, int]] = set()

    def add(self, path: str, *, directories: bool = True, apart: Container[str] = ()) -> tuple[int, int]:
        """Take in a file, or a directory with all below it (none if it is missing) but the paths in `apart`.

        `directories`: these count themselves. Returns the bytes that are new, and those of files that were taken in
        before under other names. Raises FileError, Cancelled.
        """
        new = again = 0
        here: set[tuple[int, int]] = set()
        for status in statuses(path, self._cancel, apart):
            if stat.S_ISDIR(status.st_mode) and not directories:
                continue
            inode = status.st_dev, status.st_ino
            if inode in here:
                continue
            if _has_more_names(status):
                here.add(inode)
            if inode in self._seen:
                again += on_disk(status)
            else:
                new += on_disk(status)
        self._seen |= here
        return new, again


class Removal:
    """Counts what removing files one after the other gives back."""

    def __init__(self, cancel: CancelToken) -> None:
        """Begin with nothing removed."""
        self._cancel = cancel
        self._removed: dict[tuple[int, int], int] = {}
        """By inode, how many of its names are gone."""

    def of(self, path: str) -> int:
        """Return the bytes that removing `path`, with all below it, gives back now.

        What was given to this method before counts as gone. Raises FileError, Cancelled.
        """
        freed = 0
        for status in statuses(path, self._cancel):
            if _has_more_names(status):
                inode = status.st_dev, status.st_ino
                gone = self._removed[inode] = self._removed.get(inode, 0) + 1
                if gone < status.st_nlink:
                    continue
            freed += on_disk(status)
        return freed


def on_disk(status: os.stat_result) -> int:
    """Return the bytes that a file takes on the disk."""
    return status.st_blocks * _BLOCK


def blocks(size: int, directory: str) -> int:
    """Return the bytes that a file of this size would take on the file system of a directory. Raises OSError."""
    unit = os.statvfs(directory).f_frsize
    return -(-size // unit) * unit


def free_space(path: str) -> int:
    """Return the bytes that we may still write to the file system that `path` is on, or would be. Raises FileError."""
    with file_errors("look at file system", path):
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def is_open(path: str, cancel: CancelToken) -> bool:
    """Return whether everything below a directory can be seen: we may read all directories. Raises FileError."""
    if os.geteuid() == 0:
        return True
    found = (status.st_mode for status in statuses(path, cancel))
    return all(mode & 0o500 == 0o500 for mode in found if stat.S_ISDIR(mode))


def statuses(path: str, cancel: CancelToken, apart: Container[str] = ()) -> Iterator[os.stat_result]:
    """Give the status of `path` and, of a directory, of everything below it; nothing if it is missing.

    Paths in `apart` are left out, with all below them.
    Other file systems mounted inside are not entered, and neither are directories that we may not read. What vanishes
    meanwhile is left out. Raises FileError, Cancelled.
    """
    with file_errors("look at", path):
        try:
            top = os.lstat(path)
        except FileNotFoundError:
            return
        yield top
        pending = [path] if stat.S_ISDIR(top.st_mode) else []
        while pending:
            cancel.check()
            for entry, status in _listed(pending.pop()):
                if entry.path in apart:
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    yield status
                elif status.st_dev == top.st_dev:
                    yield status
                    pending.append(entry.path)


def _listed(directory: str) -> "list[tuple[os.DirEntry[str], os.stat_result]]":
    found = []
    try:
        with os.scandir(directory) as listing:
            for entry in listing:
                try:
                    found.append((entry, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    return found


def _has_more_names(status: os.stat_result) -> bool:
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
