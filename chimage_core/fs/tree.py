"""One walk of a tree: what is there, in bytewise order of names.

Order matters: packing and comparing need the same one everywhere, and directory order is arbitrary.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from chimage_core.cancel import CancelToken
from chimage_core.errors import file_errors
from chimage_core.fs.descend import Descent


@dataclass(frozen=True, slots=True)
class FileInfo:
    """An entry of a tree."""

    path: str
    """Relative to the top; "" for the top itself."""
    status: os.stat_result
    """Of lstat(2)."""
    directory: int
    """Descriptor of the directory that holds the entry (for the top: the top). Valid only until the next entry is
    asked for: paths may be longer than the kernel allows, so open by this and `name`."""

    @property
    def name(self) -> str:
        """The last component, as `dir_fd` calls want it; `.` for the top."""
        return self.path.rpartition("/")[2] or "."


def walk(top: str, *, cancel: CancelToken) -> Iterator[FileInfo]:
    """Give `top` and everything below it, each directory before its content; no symbolic link is followed.

    Directories must be readable. Raises FileError, Cancelled.
    """
    with file_errors("read directory tree", top), Descent(top) as descent:
        yield FileInfo("", os.fstat(descent.fd), descent.fd)
        pending = [_listed(descent.fd)]
        prefix = ""
        while True:
            cancel.check()
            if pending[-1]:
                name, status, is_directory = pending[-1].pop()
                path = prefix + name
                yield FileInfo(path, status, descent.fd)
                if is_directory:
                    pending.append(_listed(descent.enter(name)))
                    prefix = path + "/"
            elif descent.depth:
                pending.pop()
                descent.leave()
                prefix = prefix[: prefix.rfind("/", 0, -1) + 1]
            else:
                return


def _listed(directory: int) -> list[tuple[str, os.stat_result, bool]]:
    """Return the entries of a directory, last first."""
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True)
        return [(entry.name, entry.stat(follow_symlinks=False), entry.is_dir(follow_symlinks=False)) for entry in found]
