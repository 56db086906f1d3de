"""Go down and up a directory tree of any depth, by descriptors.

Why: a program in a container can make trees deeper than PATH_MAX (4096 bytes) and deeper than any recursion or
descriptor limit, and paths with symbolic links in them lead elsewhere. So each directory is opened by its single name
relative to its parent, and only the deepest few stay open; on the way up, a closed parent is opened again as `..` and
must be the directory that we came through.
"""

import os
from types import TracebackType

_KEPT_OPEN = 64
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class MovedError(OSError):
    """A directory was moved while we were inside."""


class Descent:
    """The chain of directories from a top to the current one. Use as a context manager; closes what it opened."""

    def __init__(self, top: str | int) -> None:
        """Start at `top`: a path that is no symbolic link, or a descriptor, which is duplicated."""
        fd = os.dup(top) if isinstance(top, int) else os.open(top, OPEN_DIRECTORY)
        self._open: list[int] = [fd]
        self._closed: list[tuple[int, int]] = []
        """Device and inode of the ancestors that are closed, from the top."""

    def __enter__(self) -> "Descent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._open:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The current directory. Closed by us."""
        return self._open[-1]

    @property
    def depth(self) -> int:
        """How many directories below the top we are."""
        return len(self._closed) + len(self._open) - 1

    def enter(self, name: str | bytes) -> int:
        """Go down into a directory and return its descriptor. Raises OSError if that is not possible."""
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=self._open[-1])
        self.adopt(fd)
        return fd

    def adopt(self, fd: int) -> None:
        """Go down into a child directory that the caller has opened; it is ours from now on."""
        self._open.append(fd)
        if len(self._open) > _KEPT_OPEN:
            oldest = self._open.pop(0)
            status = os.fstat(oldest)
            self._closed.append((status.st_dev, status.st_ino))
            os.close(oldest)

    def leave(self) -> int:
        """Go up to the parent and return its descriptor. Raises MovedError if somebody moved the tree meanwhile."""
        if len(self._open) == 1:
            expected = self._closed.pop()
            parent = os.open("..", OPEN_DIRECTORY, dir_fd=self._open[0])
            self._open.insert(0, parent)
            status = os.fstat(parent)
            if (status.st_dev, status.st_ino) != expected:
                raise MovedError("directory was moved while it was being read")
        os.close(self._open.pop())
        return self._open[-1]
