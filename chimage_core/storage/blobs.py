"""Blobs by their digests: layers, manifests and configurations that were downloaded, whole or so far.

A blob has its name only when it is whole and was checked; what is on its way is `….part`, which its downloader holds
locked, and which the next one goes on with after a break. Two commands never download the same blob at the same time.
Files that ADD fetched by their digests are blobs, too. What is kept may be gone, or damaged, the next time.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from chimage_core.cancel import CancelToken
from chimage_core.errors import StorageError, file_errors
from chimage_core.fs.atomic import write_file
from chimage_core.image.digest import Digest

_PART = ".part"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_PAUSE = 0.1
"""Seconds between attempts to get a lock that another process has."""
_UNLIMITED = 1 << 62


class Blobs:
    """The blobs of one storage directory. Several threads and processes may use it."""

    def __init__(self, directory: str) -> None:
        """`directory` exists."""
        self._directory = directory

    def path(self, digest: Digest) -> str:
        """Return where a blob is, if it is there."""
        return os.path.join(self._directory, f"{digest.algorithm}-{digest.hex}")

    def find(self, digest: Digest, size: int | None) -> str | None:
        """Return the path of a blob that is there in its whole size, None if it is not. Its content is not read."""
        path = self.path(digest)
        with file_errors("use downloaded blob", path):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                return None
            if size is not None and found.st_size != size:
                return None
            with contextlib.suppress(OSError):
                os.utime(path, (time.time(), found.st_mtime))  # Pruning goes by the last use.
        return path

    def read(self, digest: Digest, limit: int) -> bytes | None:
        """Return the content of a small blob, checked; None if it is not there, or damaged. Raises FileError."""
        path = self.find(digest, None)
        if path is None:
            return None
        with file_errors("read downloaded blob", path), open(path, "rb") as file:
            data = file.read(limit + 1)
        return data if Digest.of(data, digest.algorithm) == digest else None

    def write(self, digest: Digest, data: bytes) -> None:
        """Keep a small blob, which the caller has checked. Raises FileError."""
        with file_errors("write downloaded blob", self.path(digest)):
            write_file(self.path(digest), data, mode=0o600, sync=False)

    def discard(self, digest: Digest) -> None:
        """Remove a blob that turned out not to be what its name says. Raises FileError."""
        with file_errors("remove damaged blob", self.path(digest)), contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    @contextlib.contextmanager
    def partial(self, digest: Digest, cancel: CancelToken) -> Iterator["PartialBlob"]:
        """Give the file that a blob is to be written to, when nobody else writes there. Raises FileError, Cancelled."""
        path = self.path(digest) + _PART
        with file_errors("write downloaded blob", path):
            descriptor = _open_locked(path, cancel)
        try:
            yield PartialBlob(descriptor, path, self.path(digest))
        finally:
            os.close(descriptor)


class PartialBlob:
    """A blob on its way."""

    def __init__(self, descriptor: int, path: str, final: str) -> None:
        self.descriptor = descriptor
        """For reading and writing."""
        self._path = path
        self._final = final

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return os.fstat(self.descriptor).st_size

    def require_room(self, size: int) -> None:
        """Raise StorageError if there is no room for a blob of `size` bytes in all."""
        status = os.fstatvfs(self.descriptor)
        # File systems without a size say 0 to everything.
        free = status.f_bavail * status.f_frsize if status.f_blocks else _UNLIMITED
        if size - self.size > free:
            raise StorageError(
                f"no room for a download of {size} bytes, {free} are free: {os.path.dirname(self._path)}",
                hint="free disk space (build-cache --prune), or choose another storage directory with --storage",
            )

    def finish(self) -> None:
        """Give the blob its name: it is whole and was checked. Raises FileError."""
        with file_errors("keep downloaded blob", self._final):
            os.rename(self._path, self._final)

    def discard(self) -> None:
        """Remove it: what came is not what was promised. Raises FileError."""
        with file_errors("remove damaged download", self._path), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _open_locked(path: str, cancel: CancelToken) -> int:
    """Open the file that is at `path` once it is ours alone: who had it before may have renamed it away."""
    while True:
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            while not _is_locked(descriptor):
                cancel.check()
                time.sleep(_PAUSE)
            opened = os.fstat(descriptor)
            with contextlib.suppress(FileNotFoundError):
                named = os.lstat(path)
                if (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Try to lock; where locks do not work, go without: what comes is checked in any case."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
