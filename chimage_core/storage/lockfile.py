"""One lock file: taken by flock(2), or where the file system has none, by link(2).

flock is right almost always: the kernel frees it when its holder dies, and a closed descriptor elsewhere in the process
does not lose it (as with fcntl(2) locks). Some Lustre and NFS mounts refuse it. There, files beside the lock file say
who holds it, made by link(2), which is atomic on every file system. Nobody frees those when their holder is killed, so
whoever waits removes them once the holder is surely gone.

A lock file is never deleted: somebody may be about to lock it.
"""

import contextlib
import errno
import fcntl
import os
from typing import Protocol

from chimage_core.storage.holder import Holder

FLOCK_MISSING = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""How flock(2) says that the file system has none."""

_LONGEST_FILE = 16384
"""Bytes of holders' lines after which a lock file starts anew: shared holders cannot remove theirs."""


class LockFile(Protocol):
    """A lock that many can hold shared, or one exclusively. An object holds it at most once."""

    def acquire(self, holder: Holder, *, exclusive: bool) -> bool:
        """Take the lock if that is possible now; tell whether it was. Raises OSError."""

    def release(self) -> None:
        """Give the lock back, or stop trying to get it."""

    def holders(self) -> tuple[Holder, ...]:
        """Return who seems to hold it, as far as known: best effort, for messages only."""


class FlockFile:
    """A lock by flock(2). Holders write who they are into the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._exclusive = False

    def acquire(self, holder: Holder, *, exclusive: bool) -> bool:
        """See LockFile. Raises OSError with an errno of FLOCK_MISSING where there is no flock."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._exclusive = descriptor, exclusive
        # The lock holds without the line, too, say on a full disk.
        with contextlib.suppress(OSError):
            if exclusive or os.fstat(descriptor).st_size > _LONGEST_FILE:
                os.ftruncate(descriptor, 0)
            os.write(descriptor, holder.to_line())
        return True

    def release(self) -> None:
        """See LockFile."""
        if self._descriptor < 0:
            return
        if self._exclusive:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def holders(self) -> tuple[Holder, ...]:
        """See LockFile. A shared holder that lives on after giving the lock back is still named."""
        found = {}
        for line in _read(self._path).splitlines():
            holder = Holder.from_line(line)
            if holder is not None and not holder.is_gone():
                found[holder.host, holder.namespace, holder.pid] = holder
        return tuple(found.values())


class LinkFile:
    """A lock by link(2): `PATH~x` names the exclusive holder, each `PATH~s…` a shared one (no image name has a `~`).

    Everybody makes the own mark first and looks for others' afterwards, so of two that come at once at least one sees
    the other. Who wants the lock exclusively keeps its mark while shared holders finish, so that no new ones come.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._mark = ""

    def acquire(self, holder: Holder, *, exclusive: bool) -> bool:
        """See LockFile."""
        return self._acquire_exclusive(holder) if exclusive else self._acquire_shared(holder)

    def release(self) -> None:
        """See LockFile."""
        if self._mark:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._mark)
            self._mark = ""

    def holders(self) -> tuple[Holder, ...]:
        """See LockFile."""
        marks = (mark for mark in (self._exclusive_mark, *self._shared_marks()) if mark != self._mark)
        return tuple(holder for holder in map(_marked_by, marks) if holder is not None)

    @property
    def _exclusive_mark(self) -> str:
        return f"{self._path}~x"

    def _shared_marks(self) -> list[str]:
        directory, name = os.path.split(self._path)
        return [os.path.join(directory, entry) for entry in os.listdir(directory) if entry.startswith(f"{name}~s")]

    def _acquire_exclusive(self, holder: Holder) -> bool:
        mark = self._exclusive_mark
        if not self._mark:
            if not _mark(mark, holder) and not (self._removed(mark, holder) and _mark(mark, holder)):
                return False
            self._mark = mark
        return all(self._removed(other, holder) for other in self._shared_marks())

    def _acquire_shared(self, holder: Holder) -> bool:
        mark = f"{self._path}~s{os.urandom(4).hex()}"
        if not _mark(mark, holder):
            return False
        self._mark = mark
        other = self._exclusive_mark
        if os.path.lexists(other) and not self._removed(other, holder):
            self.release()
            return False
        return True

    def _removed(self, mark: str, remover: Holder) -> bool:
        """Tell whether a mark is gone, after removing it if its holder is.

        Only one process at a time may remove, or the second could hit the mark of the dead one's heir.
        """
        holder = _marked_by(mark)
        if holder is None:
            return not os.path.lexists(mark)
        if not holder.is_gone():
            return False
        removing = f"{self._path}~b"
        if not _mark(removing, remover):
            self._unblock(removing)
            return False
        try:
            if _marked_by(mark) == holder:
                os.unlink(mark)
        finally:
            os.unlink(removing)
        return not os.path.lexists(mark)

    @staticmethod
    def _unblock(removing: str) -> None:
        """Remove the mark of somebody who died while removing one."""
        remover = _marked_by(removing)
        if remover is not None and remover.is_gone():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(removing)


def _mark(path: str, holder: Holder) -> bool:
    """Make a file that names `holder` appear at `path` as a whole; return False if there is one already."""
    temporary = os.path.join(os.path.dirname(path), f"~{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:
            file.write(holder.to_line())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def _marked_by(path: str) -> Holder | None:
    return Holder.from_line(_read(path))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
