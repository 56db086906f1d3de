"""`packed-refs`: all references in one file, so that a hundred thousand of them are neither files nor slow.

It is written under Git's own lock for it, so that git(1) may be at work as well.
Source: git-pack-refs(1), gitrepository-layout(5).
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from chimage_core.cache.git.refs import DELETED, References
from chimage_core.errors import CacheError, file_errors
from chimage_core.fs.atomic import sync_directory

_HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"
_VALUE = 41
"""Bytes in front of each name."""
_LOCK_SECONDS = 10


def pack_references(repository: str, dropped: Mapping[str, bytes], *, sync: bool) -> None:
    """Put all references into `packed-refs`, but for those to be dropped, and remove their files.

    A reference that points elsewhere by now is not dropped, and a file that changed meanwhile is left alone. Raises
    CacheBroken if a reference is malformed, CacheError if another program keeps the lock, FileError.
    """
    references = References(repository, sync=sync)
    packed = os.path.join(repository, "packed-refs")
    with file_errors("write build cache", packed):
        with replacing(packed, sync=sync) as file:
            values = references.below("refs/")
            kept = {name: commit for name, commit in values.items() if dropped.get(name) != commit}
            lines = [b"%s %s\n" % (commit.hex().encode(), name.encode()) for name, commit in kept.items()]
            file.writelines([_HEADER, *lines])
        if sync:
            sync_directory(repository)
        _remove_loose(repository, values)


def packed_size(names: Iterable[str]) -> int:
    """Return the size of the file when it holds these references and no others."""
    return len(_HEADER) + sum(_VALUE + len(name) + 1 for name in names)


@contextlib.contextmanager
def replacing(packed: str, *, sync: bool) -> Iterator[BinaryIO]:
    """Give the file that takes the place of `packed-refs` at the end, under Git's lock.

    Raises OSError; CacheError if another program keeps the lock.
    """
    lock = packed + ".lock"
    with open(_locked(lock), "wb") as file:
        try:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.rename(lock, packed)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)
            raise


def _locked(lock: str) -> int:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            if time.monotonic() > deadline:
                raise CacheError(
                    f"build cache is locked by another program: {lock}",
                    hint="if no git command is running there, delete that file",
                ) from None
            time.sleep(0.05)


def _remove_loose(repository: str, values: Mapping[str, bytes]) -> None:
    """Remove the files of references that still have these values."""
    for name, commit in values.items():
        path = os.path.join(repository, name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            with open(path, "rb") as file:
                is_unchanged = file.read(64).strip() == commit.hex().encode()
            if is_unchanged:
                os.unlink(path)
                if name.startswith(DELETED):
                    with contextlib.suppress(OSError):
                        os.rmdir(os.path.dirname(path))
