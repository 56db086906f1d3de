"""Copy one regular file: content, mode, times, attributes. What every way of copying files shares."""

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from chimage_core.cancel import CancelToken
from chimage_core.fs import xattr
from chimage_core.fs.contents import ContentCopier, Room

OPEN_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_TARGET = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Readable, too: who wants to know what was copied reads the copy, which nobody else writes to."""

Chmod = Callable[[int], int]
"""From `st_mode` of a source to the permission bits of its copy."""


class CopyOptions(NamedTuple):
    """How to copy."""

    xattrs: bool
    cancel: CancelToken
    chmod: Chmod | None = None
    """None: copies get the permissions of their sources."""


class FileCopier:
    """Copies files, and remembers what could not be kept."""

    def __init__(self, options: CopyOptions, room: Room | None = None) -> None:
        """`room`: where contents go on their way, if nothing better can be done; None: anywhere."""
        self._xattrs = options.xattrs
        self._mode = options.chmod or stat.S_IMODE
        self._contents = ContentCopier(options.cancel, room)
        self.refused: set[str] = set()
        """Names of attributes that the target's file system does not take."""

    def copy(self, name: str, origin: int | None, target_name: str, destination: int | None) -> int:
        """Copy a file between directories (None: names are paths) and return its size.

        Raises OSError, also if the source is no regular file or the target exists; Cancelled.
        """
        source = os.open(name, OPEN_SOURCE, dir_fd=origin)
        try:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            target = self.create(target_name, destination, status)
            try:
                self.copy_content(source, target, status)
                self.copy_metadata(source, target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return status.st_size

    def create(self, name: str, directory: int | None, status: os.stat_result) -> int:
        """Make the empty file for a copy of something, and open it. Raises OSError."""
        mode = self._mode(status.st_mode)
        # Mostly it has the right permissions at once, as far as the umask allows. But not too few to be written to, as
        # its attributes are, and no special ones before it is what deserves them.
        return os.open(name, _OPEN_TARGET, mode if mode & 0o7600 == 0o600 else 0o600, dir_fd=directory)

    def copy_content(self, source: int, target: int, status: os.stat_result) -> memoryview | None:
        """Fill an empty file; return what it holds, if that went through a `room`. Raises OSError, Cancelled."""
        return self._contents.copy(source, target, status)

    def copy_metadata(self, source: int, target: int, status: os.stat_result) -> tuple[os.stat_result, bool]:
        """Give a file or directory the metadata of its source, whose fstat(2) is `status`.

        Returns the fstat(2) of the copy, and whether its source has attributes. Raises OSError.
        """
        attributes = xattr.read(source) if self._xattrs else {}
        if attributes:
            self.refused.update(xattr.write(target, attributes))
        os.utime(target, ns=times(status))
        copied, mode = os.fstat(target), self._mode(status.st_mode)
        if stat.S_IMODE(copied.st_mode) != mode:
            os.fchmod(target, mode)
            copied = os.fstat(target)
        return copied, bool(attributes)

    def mode(self, status: os.stat_result) -> int:
        """Return the permission bits of the copy of something."""
        return self._mode(status.st_mode)


def times(status: os.stat_result) -> tuple[int, int]:
    """Return the times that a copy gets, as os.utime() wants them."""
    return status.st_atime_ns, status.st_mtime_ns
