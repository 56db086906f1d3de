"""Who works in the storage directory, so that what a killed process left behind is noticed.

Each command that changes something has a file in `sessions`, locked as long as it lives and removed when it ends well.
A file that nobody locks was left by a process that was killed: time to sweep. Where the file system has no flock(2),
no file ever counts as left, and nothing is swept by itself.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from chimage_core.errors import file_errors
from chimage_core.storage.layout import Layout
from chimage_core.storage.lockfile import FLOCK_MISSING


@contextlib.contextmanager
def session(layout: Layout) -> Iterator[None]:
    """Be known as working, while in the block. Raises FileError."""
    path = os.path.join(layout.sessions, f"{os.getpid()}-{os.urandom(4).hex()}")
    with file_errors("write session file", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in FLOCK_MISSING:
                raise
        yield
    finally:
        # Also after an error: it was cleaned up after. Only who is killed leaves the file.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def killed_sessions(layout: Layout) -> tuple[str, ...]:
    """Return the session files of processes that were killed: to be unlinked after sweeping."""
    try:
        names = os.listdir(layout.sessions)
    except FileNotFoundError:
        return ()
    return tuple(path for path in (os.path.join(layout.sessions, name) for name in names) if _is_orphan(path))


def _is_orphan(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
