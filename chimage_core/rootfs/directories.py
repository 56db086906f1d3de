"""Make directories inside a root file system, never outside, whatever symbolic links the image holds."""

import os

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
                    raise NotADirectoryError(20, f"not a directory: {os.path.relpath(here, root)}") from None
            else:
                os.chmod(here, 0o755)  # Not left to the umask: an image is for others, too.
                made = made or os.path.relpath(here, root)
    return resolved, made
