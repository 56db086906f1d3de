"""Make directories inside a root file system, never outside, whatever symbolic links the image holds."""

import contextlib
import os
import stat
from collections.abc import Iterator

from chimage_core.errors import file_errors
from chimage_core.fs.paths import resolve_in_root


def make_directories(root: str, path: str) -> tuple[str, str | None]:
    """Make the directory that `path` names inside `root`, and those above it, as far as they are missing.

    Returns its host path, and the topmost directory that was made, relative to `root` (None: all were there). Raises
    FileError where a file is in the way.
    """
    resolved = resolve_in_root(root, path)
    made: str | None = None
    here = root
    with file_errors("make directory in image", path):
        for part in os.path.relpath(resolved, root).split("/"):
            here = f"{here}/{part}"
            try:
                os.mkdir(here)
            except FileExistsError:
                if not os.path.isdir(here):
                    raise NotADirectoryError(20, f"/{os.path.relpath(here, root)} is not a directory") from None
            else:
                os.chmod(here, 0o755)  # Not left to the umask: an image is for others, too.
                made = made or os.path.relpath(here, root)
    return resolved, made


@contextlib.contextmanager
def accessible(root: str, path: str) -> Iterator[None]:
    """While in the block, have all permissions on the directories of the image that lead to `path`, and on itself.

    A RUN is root in its own world and may take permissions from directories that it can use all the same (`/` of some
    distributions is 0555). What works on the image from outside needs them. Afterwards they are as they were.
    Raises FileError.
    """
    taken: list[tuple[str, int]] = []
    names = [name for name in path.split("/") if name]
    try:
        with file_errors("use directory in image", path):
            for count in range(len(names) + 1):
                here = resolve_in_root(root, "/".join(names[:count]))
                if not os.path.isdir(here):
                    break
                mode = stat.S_IMODE(os.stat(here).st_mode)
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    os.chmod(here, mode | stat.S_IRWXU)
                    taken.append((here, mode))
        yield
    finally:
        with file_errors("use directory in image", path):
            for here, mode in reversed(taken):
                os.chmod(here, mode)
