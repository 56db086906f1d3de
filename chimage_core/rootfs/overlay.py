"""An overlay's upper directory is exactly what a RUN changed: merge it into the root file system by rename.

What the kernel leaves in an upper directory (user name space, mount option `userxattr`):
- a deleted entry is a whiteout: a character device 0:0;
- a directory that hides the lower one of its name has the attribute `user.overlay.opaque`;
- a changed file is a whole copy, also if only its mode changed; a changed directory is there with its metadata;
- `user.overlay.*` attributes on all of them are the overlay's books, and no part of the image.
A directory that is new, or that replaces something, can hold both kinds of marks too, without meaning.
Source: Documentation/filesystems/overlayfs.rst of Linux.

The merge moves names and copies nothing, so its cost is the number of changed entries. A crash leaves a mixture, which
the build cache puts right: the place is marked as being merged before.
"""

import os
import stat

from chimage_core.errors import file_errors
from chimage_core.fs import xattr
from chimage_core.fs.remove import remove_aside, remove_tree
from chimage_core.rootfs.touched import Touched

_PRIVATE = "user.overlay."
_OPAQUE = "user.overlay.opaque"


def prepare(upper: str, work: str) -> None:
    """Make empty upper and work directories for an overlay; what was there is removed."""
    with file_errors("make overlay directory", upper):
        for path in (upper, work):
            remove_tree(path)
            os.makedirs(path, mode=0o700)


def discard(upper: str, work: str) -> None:
    """Remove an overlay's directories with all that is in them."""
    remove_tree(upper)
    remove_tree(work)


def merge(upper: str, work: str, root: str) -> Touched:
    """Move the changes in `upper` into `root`, and remove both overlay directories. Return what was touched.

    All are on one file system. Raises FileError; `root` then holds a part of the changes.
    """
    trash = os.path.join(os.path.dirname(work), "trash")
    with file_errors("merge changes into image", root):
        touched = _Merge(os.fsencode(trash)).run(os.fsencode(upper), os.fsencode(root))
    discard(upper, work)
    remove_tree(trash)
    return touched


class _Merge:
    """One merge under way."""

    def __init__(self, trash: bytes) -> None:
        self._trash = trash

    def run(self, upper: bytes, root: bytes) -> Touched:
        """Merge a directory into one that was there; return the names that were touched."""
        touched: Touched = {}
        pending = [(upper, root, touched)]
        united = []
        while pending:
            source, target, names = pending.pop()
            status = os.lstat(source)
            _allow(source, status)
            _allow(target, os.lstat(target))
            united.append((source, status, target))
            for entry in _listed(source):
                place = target + b"/" + entry.name
                if self._move(entry, place):
                    names[entry.name] = None
                else:
                    below = names[entry.name] = {}
                    pending.append((entry.path, place, below))
        # After the entries: moving them has changed the times, and permissions may not suffice for it.
        for source, status, target in reversed(united):
            _finish(source, status, target)
        return touched

    def _move(self, entry: "os.DirEntry[bytes]", target: bytes) -> bool:
        """Put an entry into its place; return False for a directory that has to be united with the one there."""
        status = entry.stat(follow_symlinks=False)
        below = _status(target)
        was_directory = below is not None and stat.S_ISDIR(below.st_mode)
        if _is_whiteout(status):
            self._clear(target, was_directory)
        elif not stat.S_ISDIR(status.st_mode):
            if was_directory:
                self._clear(target, was_directory)
            _strip_file(entry.path, status)
            os.rename(entry.path, target)
        elif was_directory and not _is_opaque(entry.path):
            return False
        else:
            if below is not None:
                self._clear(target, was_directory)
            self._move_new(entry.path, status, target)
        return True

    def _move_new(self, path: bytes, status: os.stat_result, target: bytes) -> None:
        """Move a directory that replaces what was there, with all below it."""
        _strip_directory(path, status)
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o200:
            os.rename(path, target)
            return
        # A directory can be moved only by who may write it: its entry `..` changes.
        os.chmod(path, mode | 0o700)
        os.rename(path, target)
        os.chmod(target, mode)

    def _clear(self, target: bytes, is_directory: bool) -> None:
        if is_directory:
            remove_aside(os.fsdecode(target), os.fsdecode(self._trash))
        else:
            try:
                os.unlink(target)
            except FileNotFoundError:
                pass


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _allow(path: bytes, status: os.stat_result) -> None:
    """Give us all permissions on a directory of ours."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(path, mode | 0o700)


def _listed(path: bytes) -> "list[os.DirEntry[bytes]]":
    with os.scandir(path) as listing:
        return list(listing)


def _finish(source: bytes, status: os.stat_result, target: bytes) -> None:
    """Give a directory the metadata of the one that was merged into it."""
    attributes = xattr.read(source)
    if attributes or xattr.read(target):
        xattr.write(target, attributes, exact=True)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _strip_directory(top: bytes, status: os.stat_result) -> None:
    """Remove the overlay's marks from a new directory and all below it; times and modes stay."""
    pending = [(top, status)]
    visited = []
    while pending:
        path, status = pending.pop()
        _allow(path, status)
        is_changed = False
        for entry in _listed(path):
            entry_status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(entry_status.st_mode):
                pending.append((entry.path, entry_status))
            elif _is_whiteout(entry_status):
                os.unlink(entry.path)
                is_changed = True
            else:
                _strip_file(entry.path, entry_status)
        visited.append((path, status, is_changed))
    for path, status, is_changed in reversed(visited):
        _strip(path)
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(path, mode)
        if is_changed:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _strip_file(path: bytes, status: os.stat_result) -> None:
    """Remove the overlay's attributes from an entry that is no directory."""
    if stat.S_ISLNK(status.st_mode):
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o600 == 0o600 or not _private_names(path):
        _strip(path)
        return
    # Attributes can be removed only from what we may write.
    os.chmod(path, mode | 0o600)
    _strip(path)
    os.chmod(path, mode)


def _strip(path: bytes) -> None:
    for name in _private_names(path):
        os.removexattr(path, name, follow_symlinks=False)


def _private_names(path: bytes) -> list[str]:
    return [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(_PRIVATE)]
