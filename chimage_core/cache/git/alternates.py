"""Objects that are read from other repositories and never written there: Git's alternates.

The file `objects/info/alternates` names their `objects` directories, so that git(1) finds the objects, too, and we find
them also when nobody names the shared cache any more. Those directories belong to other people, who may change, move or
remove them at any time: whatever cannot be read there is said once, and counts as not there.
Source: gitrepository-layout(5).
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from chimage_core.cache.git.packdirectory import ATTEMPTS, PackDirectory
from chimage_core.cache.git.packfile import Pack
from chimage_core.errors import CacheBroken, FileError, file_errors
from chimage_core.fs.atomic import sync_directory


class Alternates:
    """The objects of other repositories."""

    def __init__(self, directories: Iterable[str], complain: Callable[[str], None]) -> None:
        """Take over `objects` directories, searched in this order. Nothing is opened yet.

        `complain` gets, as text, what cannot be read: at most one complaint per directory.
        """
        self.directories = tuple(directories)
        self._packs = [PackDirectory(directory) for directory in self.directories]
        self._complain = complain
        self._blamed: set[str] = set()
        self._is_listed = False

    def find(self, name: bytes) -> tuple[Pack, int] | None:
        """Return the pack that an object is in, and its offset there, as far as we know the packs."""
        if not self._is_listed:
            self.refresh()
        for packs in self._packs:
            location = packs.find(name)
            if location is not None:
                return location
        return None

    def refresh(self) -> None:
        """Take note of packs that were added since."""
        self._is_listed = True
        for packs in self._packs:
            for _ in range(ATTEMPTS):
                if self._open_unseen(packs):
                    break

    def _open_unseen(self, packs: PackDirectory) -> bool:
        """Open the new packs of a directory; return False if one has vanished meanwhile."""
        try:
            indexes = packs.unseen()
        except OSError as error:
            self._blame(packs, f"{packs.path}: {error.strerror}")
            return True
        is_complete = True
        for index in indexes:
            try:
                is_complete &= packs.open(index)
            except (FileError, CacheBroken) as error:
                packs.ignore(index)
                self._blame(packs, error.message)
        return is_complete

    def packs(self) -> Iterator[Pack]:
        """Give the packs that we know."""
        for packs in self._packs:
            yield from packs.packs

    def release(self) -> None:
        """Give the memory of what was read back to the system."""
        for packs in self._packs:
            packs.release()

    def _blame(self, packs: PackDirectory, problem: str) -> None:
        if packs.path not in self._blamed:
            self._blamed.add(packs.path)
            self._complain(f"can’t read shared build cache, going on without: {problem}")


def named_by(objects: str) -> tuple[str, ...]:
    """Return the `objects` directories that one names itself, absolute. Raises OSError."""
    try:
        with open(alternates_file(objects), "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return ()
    return tuple(os.path.join(objects, os.fsdecode(line)) for line in lines if line and not line.startswith(b"#"))


def reached_from(objects: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return all directories that one names, and `more`, and those that they name in turn; each once, never itself.

    Raises FileError for what the directory itself says; what others say counts only if it can be read.
    """
    with file_errors("read build cache", alternates_file(objects)):
        pending = [*named_by(objects), *more]
    if not pending:
        return ()
    found = {os.path.realpath(objects): objects}
    for directory in pending:
        real = os.path.realpath(directory)
        if real not in found:
            found[real] = directory
            with contextlib.suppress(OSError):
                pending += named_by(directory)
    return tuple(found.values())[1:]


def add(objects: str, others: Iterable[str], *, sync: bool) -> None:
    """Name other `objects` directories (absolute paths without line feed), unless they are named already.

    Several processes may do this at once: a line is added by one write, and one that is there twice does no harm.
    Raises FileError.
    """
    with file_errors("write build cache", alternates_file(objects)):
        named = named_by(objects)
        missing = [other for other in others if other not in named]
        if not missing:
            return
        # The line feed in front ends a line that a crash, or somebody's editor, left open.
        data = b"".join([b"\n%s\n" % os.fsencode(other) for other in missing])
        descriptor = os.open(alternates_file(objects), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, data)
            if sync:
                os.fsync(descriptor)
                sync_directory(os.path.dirname(alternates_file(objects)))
        finally:
            os.close(descriptor)


def alternates_file(objects: str) -> str:
    """Return the file in which an `objects` directory names others."""
    return os.path.join(objects, "info", "alternates")
