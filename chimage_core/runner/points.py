"""Find mount targets inside an image, and make those that are missing without leaving a trace.

An image is data from strangers: a symbolic link in it must not lead a mount out of it. Every component is therefore
looked up here, relative to a descriptor and never following; the kernel's own openat2(RESOLVE_IN_ROOT) would not tell
which components are missing, and is absent before Linux 5.6.

A missing target is made in the image, and removed afterwards if it is still empty; directories get their times back. On
an overlay it is made in a directory that becomes the overlay's lowest layer, so that neither the image nor the recorded
changes ever contain it.

Part of the fork server: standard library only.
"""

import errno
import os
import stat

_MAX_LINKS = 40
_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Located:
    """Where a path inside a root leads to."""

    __slots__ = ("fd", "found", "missing")

    def __init__(self, fd: int, found: list[bytes], missing: list[bytes]) -> None:
        self.fd = fd
        """O_PATH descriptor of the last component that exists. To be closed by the caller."""
        self.found = found
        """Names from the root to it. None of them is a symbolic link."""
        self.missing = missing
        """Names below it that do not exist."""


def locate(root: int, path: bytes) -> Located:
    """Follow `path` inside the directory `root` (a descriptor); links and `..` never lead out of it.

    Raises OSError: ELOOP for more than 40 links, ENOTDIR for a file where a directory is needed.
    """
    pending = _parts(path)
    chain = [os.open(b".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)]
    found: list[bytes] = []
    missing: list[bytes] = []
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == b"..":
                if missing:
                    missing.pop()
                elif found:
                    found.pop()
                    os.close(chain.pop())
                continue
            held = None if missing else _hold(part, chain[-1])
            if held is None:
                missing.append(part)
                continue
            if not stat.S_ISLNK(os.fstat(held).st_mode):
                chain.append(held)
                found.append(part)
                continue
            target = _read_and_close(held)
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith(b"/"):
                found.clear()
                while len(chain) > 1:
                    os.close(chain.pop())
            pending.extend(_parts(target))
        return Located(chain.pop(), found, missing)
    finally:
        for fd in chain:
            os.close(fd)


class MountPoints:
    """Mount targets that had to be made."""

    def __init__(self) -> None:
        self._made: list[tuple[int, bytes, bool]] = []

    def make(self, root: int, path: bytes, is_directory: bool, beside: int | None = None) -> None:
        """Make what is missing of `path` inside `root`; `beside` (a directory descriptor): there instead of in `root`.

        Raises OSError.
        """
        located = locate(root, path)
        if not located.missing:
            os.close(located.fd)
            return
        names = located.missing
        parent = located.fd
        if beside is not None:
            os.close(parent)
            parent = os.dup(beside)
            names = located.found + names
        for name in names[:-1]:
            self._make_one(parent, name, True)
            parent = os.open(name, _HOLD, dir_fd=parent)
        self._make_one(parent, names[-1], is_directory)

    def _make_one(self, parent: int, name: bytes, is_directory: bool) -> None:
        before = os.fstat(parent)
        try:
            if is_directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except FileExistsError:
            return
        _restore_times(parent, before)
        self._made.append((parent, name, is_directory))

    def remove(self) -> None:
        """Remove what was made and is still empty, last first. What is not stays: then the command made it its own."""
        for parent, name, is_directory in reversed(self._made):
            before = os.fstat(parent)
            try:
                if is_directory:
                    os.rmdir(name, dir_fd=parent)
                elif os.stat(name, dir_fd=parent, follow_symlinks=False).st_size == 0:
                    os.unlink(name, dir_fd=parent)
            except OSError:
                continue
            _restore_times(parent, before)
        self._made.clear()


def _restore_times(directory: int, before: os.stat_result) -> None:
    # By name, because utimensat(2) does not take an O_PATH descriptor itself.
    os.utime(b".", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=directory)


def _parts(path: bytes) -> list[bytes]:
    """Return the components that matter, last first."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def _hold(name: bytes, parent: int) -> int | None:
    try:
        return os.open(name, _HOLD, dir_fd=parent)
    except FileNotFoundError:
        return None


def _read_and_close(link: int) -> bytes:
    try:
        # An empty path means the descriptor itself, readlink(2).
        return os.readlink(b"", dir_fd=link)
    finally:
        os.close(link)
