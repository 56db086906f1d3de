"""Changes that are there as a whole or not at all: write and rename, private temporary directories, exchange.

A reader never sees half a file, and a process that dies leaves at most a temporary name behind, recognisable by
`TEMPORARY_PREFIX`.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator

from chimage_core.fs.remove import remove_tree

TEMPORARY_PREFIX = ".tmp-"
"""What the names of our temporary files and directories start with."""

_SYNCS = 16
"""Files that are waited for at once."""
_QUICK = 0.000_2
"""Seconds for one, up to which nobody waits."""
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def write_file(path: str, data: bytes, *, mode: int = 0o666, sync: bool = True) -> None:
    """Replace the content of `path`, or create it; a symbolic link at `path` is replaced, not followed.

    `mode` is cut by the umask, as for open(2). With `sync`, the content is on the disk before the name changes and
    the name before we return: needed for what must survive a power failure. Raises OSError; `path` is then
    unchanged.
    """
    parent = os.path.dirname(path) or "."
    temporary = temporary_name(parent)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            if sync:
                os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if sync:
        sync_directory(parent)


def temporary_name(parent: str) -> str:
    """Return an unused path in `parent`, recognisable as temporary."""
    return os.path.join(parent, TEMPORARY_PREFIX + os.urandom(8).hex())


@contextlib.contextmanager
def temporary_directory(parent: str, prefix: str = "") -> Iterator[str]:
    """Make a private directory (0700) in `parent` and give its path; remove what is left of it at the end.

    To keep the result, rename it away inside the block. `prefix` makes the name tell what it was for.
    """
    path = os.path.join(parent, f"{TEMPORARY_PREFIX}{prefix}{os.urandom(8).hex()}")
    os.mkdir(path, 0o700)
    try:
        yield path
    finally:
        remove_tree(path)


def exchange(one: str, other: str) -> None:
    """Swap two existing names of one file system. Raises OSError.

    Where the kernel or file system cannot do this in one step (NFS, before Linux 3.15), two renames are used: a crash
    between them leaves `one` missing and its old content under a temporary name beside it.
    """
    if _exchange_at_once(one, other):
        return
    aside = temporary_name(os.path.dirname(one) or ".")
    os.stat(other, follow_symlinks=False)  # Fail before anything has moved.
    os.rename(one, aside)
    try:
        os.rename(other, one)
    except OSError:
        os.rename(aside, one)
        raise
    os.rename(aside, other)


def sync_directory(path: str) -> None:
    """Wait until the names in the directory are on the disk. Does nothing where the file system cannot do that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_files(paths: Iterable[str]) -> None:
    """Wait until the contents of files, and then the names in their directories, are on the disk. Raises OSError.

    Where that takes time, several at once: a file system with a journal writes it once for all who wait, and a server
    over the network need not be waited for one by one. Where it takes none, threads would cost more than they save.
    """
    files = list(paths)
    began = time.monotonic()
    for path in files[:_SYNCS]:
        _sync_file(path)
    is_quick = time.monotonic() - began < _QUICK * _SYNCS
    _for_all(_sync_file, files[_SYNCS:], 1 if is_quick else _SYNCS)
    directories = list({os.path.dirname(path) for path in files})
    _for_all(sync_directory, directories, 1 if is_quick else _SYNCS)


def _for_all(function: Callable[[str], None], arguments: list[str], threads: int) -> None:
    def some(first: int) -> None:
        for argument in arguments[first::threads]:
            function(argument)

    if threads == 1:
        some(0)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(some, range(threads)):  # Raises what any of them raised.
            pass


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange_at_once(one: str, other: str) -> bool:
    """Return False where there is no renameat2(2) with RENAME_EXCHANGE."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):  # glibc before 2.28
        return False
    if library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), one, None, other)
