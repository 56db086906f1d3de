"""Remove directory trees as `rm -rf` does, and more surely.

Images hold directories without permissions (mode 000, or the work directory of an overlay), names that are no UTF-8,
and trees deeper than PATH_MAX. Everything goes by directory descriptors: no symbolic link is followed and no path is
built. Another file system mounted inside is never emptied: the removal stops there with an error.
"""

import errno
import os
import stat

from chimage_core.errors import file_errors
from chimage_core.fs.descend import OPEN_DIRECTORY, Descent


def remove_tree(path: str) -> bool:
    """Remove a file, symbolic link or directory with all that is in it; return whether there was one.

    Directories of ours that lack permissions are given them. Raises FileError; part of the tree may then be gone.
    """
    with file_errors("remove", path):
        return remove_at(path, None)


def remove_at(name: str | bytes, directory: int | None) -> bool:
    """Do what `remove_tree` does to an entry of an open directory; return whether there was one. Raises OSError."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=directory)
            return True
        top = _open_directory(name, directory)
    except FileNotFoundError:
        return False
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)
    return True


def remove_aside(path: str, trash: str) -> None:
    """Rename `path` into the directory `trash` (made if missing, same file system), then remove it there.

    So the name is free at once, and what a crash leaves is in one place. Nothing to do if `path` is missing. Raises
    FileError.
    """
    aside = os.path.join(trash, os.urandom(8).hex())
    with file_errors("remove", path):
        os.makedirs(trash, mode=0o700, exist_ok=True)
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return
        except PermissionError:
            # A directory can be moved only by who may write it: its entry `..` changes.
            os.close(_open_directory(path, None, writable=True))
            os.rename(path, aside)
    remove_tree(aside)


def _empty(top: int) -> None:
    """Remove everything below an open directory."""
    device = os.fstat(top).st_dev
    with Descent(top) as descent:
        pending = [_remove_files(descent.fd)]
        entered: list[str] = []
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    child = _open_directory(name, descent.fd)
                except FileNotFoundError:
                    continue
                descent.adopt(child)
                if os.fstat(child).st_dev != device:
                    raise OSError(errno.EXDEV, "another file system is mounted inside", name)
                entered.append(name)
                pending.append(_remove_files(child))
            elif entered:
                pending.pop()
                _remove_entry(descent.leave(), entered.pop(), is_directory=True)
            else:
                return


def _remove_files(directory: int) -> list[str]:
    """Remove all entries but directories; return the names of those."""
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            _remove_entry(directory, name, is_directory=False)
    return [name for name, is_directory in listed if is_directory]


def _remove_entry(directory: int, name: str, *, is_directory: bool) -> None:
    remove = os.rmdir if is_directory else os.unlink
    try:
        remove(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except PermissionError:
        os.fchmod(directory, 0o700)
        remove(name, dir_fd=directory)


def _open_directory(name: str | bytes, parent: int | None, *, writable: bool = False) -> int:
    """Open a directory, after giving us all permissions on it if it cannot be read, or if it is to be `writable`."""
    if not writable:
        try:
            return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        except PermissionError:
            pass
    # chmod(2) follows symbolic links, and what is at this name may have changed: hold it, then change what we hold.
    held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{held}", 0o700)
        return os.open(".", OPEN_DIRECTORY, dir_fd=held)
    finally:
        os.close(held)
