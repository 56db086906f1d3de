"""Directories of `RUN --mount=type=cache`: kept between builds, by an ID, until the build cache is reset.

Each has a directory of its own, named by a hash of its ID. In there are: `id`, a text file whose mtime says when the
cache was last used; and numbered copies, each with a lock file. All but `private` ones that meet use number 0.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from chimage_core.errors import StorageBusy, file_errors
from chimage_core.fs.atomic import temporary_directory, write_file
from chimage_core.fs.remove import remove_aside
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks

_LONGEST_ID = 65536
"""Bytes that are read of one."""

Fill = Callable[[str], None]
"""Makes the directory of a new cache at a path where nothing is."""


class CacheMount(NamedTuple):
    """One cache."""

    key: str
    id: str
    used: float
    """When it was last used: seconds since the epoch."""


class CacheMounts:
    """The caches of one storage directory."""

    def __init__(self, layout: Layout, locks: Locks) -> None:
        self._layout = layout
        self._locks = locks

    @contextlib.contextmanager
    def shared(self, name: str, fill: Fill) -> Iterator[str]:
        """Give the directory of a cache by its ID, others may use it at the same time. Raises FileError."""
        yield self._ready(name, 0, fill)

    @contextlib.contextmanager
    def locked(self, name: str, fill: Fill) -> Iterator[str]:
        """Give the directory of a cache when nobody else has it locked. Raises FileError, StorageBusy, Cancelled."""
        with self._locks.cache_mount(self._directory(name), "0", name):
            yield self._ready(name, 0, fill)

    @contextlib.contextmanager
    def private(self, name: str, fill: Fill) -> Iterator[str]:
        """Give the first copy of a cache that nobody has locked, perhaps a new one. Raises FileError."""
        at_once = self._locks.at_once()
        number = 0
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(at_once.cache_mount(self._directory(name), str(number), name))
                    break
                except StorageBusy:
                    number += 1
            yield self._ready(name, number, fill)

    def all(self) -> Iterator[CacheMount]:
        """Yield all caches. Raises FileError."""
        with file_errors("read", self._layout.mounts):
            try:
                keys = sorted(os.listdir(self._layout.mounts))
            except FileNotFoundError:
                return
        for key in keys:
            path = os.path.join(self._layout.cache_mount(key), "id")
            try:
                with open(path, "rb") as file:
                    name, used = file.read(_LONGEST_ID), os.fstat(file.fileno()).st_mtime
            except OSError:  # Whoever was making it has been killed.
                name, used = b"", 0.0
            yield CacheMount(key, name.decode("utf-8", "surrogateescape"), used)

    def clear(self) -> None:
        """Remove all. The storage directory is locked exclusively. Raises FileError."""
        for cache in self.all():
            self.remove(cache.key)

    def remove(self, key: str) -> None:
        """Remove one by the name of its directory. Raises FileError."""
        remove_aside(self._layout.cache_mount(key), self._layout.trash)

    def _directory(self, name: str) -> str:
        """Return the directory of a cache; make it if needed."""
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        path = self._layout.cache_mount(key)
        with file_errors("make cache directory", path):
            os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def _ready(self, name: str, number: int, fill: Fill) -> str:
        directory = self._directory(name)
        path = os.path.join(directory, str(number))
        with file_errors("make cache directory", path):
            # At each use: its mtime says when that was.
            write_file(os.path.join(directory, "id"), name.encode("utf-8", "surrogateescape"), sync=False)
        if not os.path.isdir(path):
            with self._locks.cache_mount(directory, "new", name):
                _make(directory, path, fill)
        return path


def _make(directory: str, path: str, fill: Fill) -> None:
    """Make a cache, unless somebody was faster. What uses it has it under its eyes, so it may not be replaced."""
    with file_errors("make cache directory", path):
        if not os.path.isdir(path):
            with temporary_directory(directory) as aside:
                fill(f"{aside}/new")
                os.rename(f"{aside}/new", path)
