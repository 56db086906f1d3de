"""Replace files that an image shares with the store of large files by copies, and change nothing else of the image.

Its hard links stay together, closed directories stay closed, and the times of directories are put back.
"""

import contextlib
import os
from collections.abc import Callable

from chimage_core.cancel import CancelToken
from chimage_core.errors import file_errors
from chimage_core.fs.atomic import TEMPORARY_PREFIX
from chimage_core.rootfs.permissions import MINIMUM_DIRECTORY, lifted

Inode = tuple[int, int]
"""Device and number."""
Copy = Callable[[bytes, bytes], None]
"""Copies a file, by its path, with its metadata to a new path."""


def replace_by_copies(root: str, inodes: set[Inode], copy: Copy, cancel: CancelToken) -> None:
    """Replace all files below a directory that are one of these inodes. Raises FileError, Cancelled."""
    copied: dict[Inode, bytes] = {}
    with file_errors("copy large files of image", root), contextlib.ExitStack() as opened:
        pending = [os.fsencode(root)]
        while pending:
            cancel.check()
            directory = pending.pop()
            status = os.lstat(directory)
            # Until the end: what is below has to be reached, and its other names may be anywhere.
            if status.st_mode & MINIMUM_DIRECTORY != MINIMUM_DIRECTORY:
                opened.enter_context(lifted(directory))
            folders, shared = _shared_files(directory, inodes)
            for inode, path in shared:
                _replace(path, copied.setdefault(inode, path), copy)
            if shared:
                os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))
            pending += folders


def _replace(path: bytes, first: bytes, copy: Copy) -> None:
    """Replace a file by a copy, or by a link to what `first`, another name of it, was replaced by."""
    temporary = os.path.join(os.path.dirname(path), os.fsencode(f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"))
    try:
        if path != first:
            os.link(first, temporary, follow_symlinks=False)
        else:
            copy(path, temporary)
        os.rename(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _shared_files(directory: bytes, inodes: set[Inode]) -> tuple[list[bytes], list[tuple[Inode, bytes]]]:
    """Return the subdirectories of a directory, and the files that are one of these inodes (device, number)."""
    folders, shared = [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                inode = found.st_dev, found.st_ino
                if found.st_nlink > 1 and inode in inodes:
                    shared.append((inode, entry.path))
    return folders, shared
