"""The least permissions that the owner needs on an image, and those that mean nothing without privilege.

Images come with directories nobody can enter and files nobody can read, because their builders were root. We are not:
what we cannot read cannot be cached, pushed or removed. Layers are treated so while they are unpacked; `ensure_minimum`
is for directories that are imported.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from chimage_core.cancel import CancelToken
from chimage_core.errors import file_errors
from chimage_core.fs.tree import walk

MINIMUM_DIRECTORY = 0o700
MINIMUM_FILE = 0o600
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True, slots=True)
class PermissionsReport:
    """What was changed."""

    widened: int
    """Files and directories that were given permissions."""
    setuid: int
    """Files and directories that lost setuid or setgid bits."""


@contextlib.contextmanager
def lifted(directory: str | bytes) -> Iterator[None]:
    """While in the block, have all permissions on a directory of ours: a RUN may have taken them. Raises OSError."""
    mode = stat.S_IMODE(os.lstat(directory).st_mode)
    if mode & MINIMUM_DIRECTORY == MINIMUM_DIRECTORY:
        yield
        return
    os.chmod(directory, mode | MINIMUM_DIRECTORY)
    try:
        yield
    finally:
        os.chmod(directory, mode)


def ensure_minimum(root: str, *, cancel: CancelToken) -> PermissionsReport:
    """Give the owner `rwx` on all directories and `rw` on all files below `root`, and drop setuid and setgid bits.

    Times are kept. Raises FileError, Cancelled.
    """
    widened = setuid = 0
    seen: set[tuple[int, int]] = set()
    with file_errors("change permissions in", root):
        # The walk opens the top at once, but other directories only after it has given them to us.
        os.chmod(root, stat.S_IMODE(os.lstat(root).st_mode) | MINIMUM_DIRECTORY)
        for entry in walk(root, cancel=cancel):
            status = entry.status
            if stat.S_ISDIR(status.st_mode):
                minimum = MINIMUM_DIRECTORY
            elif stat.S_ISREG(status.st_mode):
                minimum = MINIMUM_FILE
            else:
                continue
            mode = stat.S_IMODE(status.st_mode)
            wanted = (mode | minimum) & ~_PRIVILEGED
            if mode == wanted or (status.st_dev, status.st_ino) in seen:
                continue
            if status.st_nlink > 1:
                seen.add((status.st_dev, status.st_ino))
            os.chmod(entry.name, wanted, dir_fd=entry.directory)
            widened += mode & minimum != minimum
            setuid += bool(mode & _PRIVILEGED)
    return PermissionsReport(widened, setuid)
