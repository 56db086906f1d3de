"""What every image directory has, so that containers can be started from it: mount points, and our own `/ch`.

Images are data from strangers: `/etc` or `/mnt` may be a symbolic link, even to somewhere on the host. Whatever stands
at a name is left alone, and what is missing is made at the place that the name leads to *inside* the image.
"""

import os
import stat

from chimage_core.errors import FileError, file_errors
from chimage_core.fs.paths import resolve_in_root

STANDARD_DIRECTORIES = ("bin", "ch", "dev", "etc", "mnt", "proc", "sys", "tmp", "usr")
MOUNT_POINTS = tuple(f"mnt/{number}" for number in range(10))
"""For `ch-run --bind`, as its manual promises."""
MOUNTED_FILES = ("etc/hosts", "etc/resolv.conf")
"""The host's files are mounted on these."""
METADATA_FILES = ("ch/environment",)
_STICKY = ("tmp",)


def ensure(root: str) -> None:
    """Make what is missing of the standard directories, mount points and files. Modes do not depend on the umask.

    A symbolic link that leads nowhere (`/etc/resolv.conf` of a system with systemd) gets its target, inside the
    image, or there would be nothing to mount on. Where that is impossible (a loop, a file in the way), the name is
    left as it is. Raises FileError when the disk refuses.
    """
    with file_errors("prepare image directory", root):
        for name in (*STANDARD_DIRECTORIES, *MOUNT_POINTS):
            if (path := _place(root, name)) is not None:
                _make_directories(root, path)
                if name in _STICKY:
                    os.chmod(path, 0o1777)
        for name in (*MOUNTED_FILES, *METADATA_FILES):
            if (path := _place(root, name)) is not None and _make_directories(root, os.path.dirname(path)):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
                os.fchmod(fd, 0o644)
                os.close(fd)


def _place(root: str, name: str) -> str | None:
    """Return the host path where `name` has to be made; None if something is there, or nothing can be."""
    try:
        path = resolve_in_root(root, name)
    except FileError:
        return None
    return None if os.path.lexists(path) else path


def _make_directories(root: str, path: str) -> bool:
    """Make a directory inside the image and those above it; return whether it is there."""
    missing = []
    while path != root:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            missing.append(path)
        except NotADirectoryError:
            return False
        else:
            if not stat.S_ISDIR(mode):
                return False
            break
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory)
        os.chmod(directory, 0o755)
    return True
