"""Resolve paths inside a root directory, as if that were `/`.

An image is data from strangers: its symbolic links may be absolute, climb above the root, or chase each other. The
kernel would follow them out of the image, so each component is looked up here. `open_in_root` does the same by
descriptors, for whoever needs to be sure that what was resolved is what is opened.
"""

import errno
import os
import stat

from chimage_core.errors import FileError

MAX_LINKS = 40
"""How many symbolic links one path may go through: what the kernel allows, path_resolution(7)."""


def clean(path: str) -> str:
    """Return `path` as seen from a root, without `.`, `..` and doubled slashes: `/a//b/../c/` is `a/c`; the root is
    ``.

    This is text only: use it where no symbolic link can be involved, else `resolve_in_root`.
    """
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def resolve_in_root(root: str, path: str, *, follow_last: bool = True) -> str:
    """Return the host path of what `path` names inside `root`; neither links nor `..` lead out of `root`.

    Components that do not exist are taken as they stand, so the result may be a path to create. With `follow_last`
    false, a symbolic link as the last component is the result itself. Raises FileError for more than `MAX_LINKS`
    links (a loop), for a file where a directory is needed, and for directories that cannot be searched.
    """
    pending = _parts(path)
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            if resolved:
                resolved.pop()
            continue
        here = "/".join((root, *resolved, part))
        try:
            target = os.readlink(here) if follow_last or pending else None
        except OSError as error:
            # EINVAL: exists and is no symbolic link.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise FileError("resolve path in image", path, error) from error
            target = None
        if target is None:
            resolved.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise FileError("resolve path in image", path, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
        if target.startswith("/"):
            resolved.clear()
        pending.extend(_parts(target))
    return "/".join((root, *resolved))


def open_in_root(root: str, path: str, flags: int, mode: int = 0o666, *, follow_last: bool = True) -> int:
    """Open what `path` names inside `root` and return the descriptor, which the caller closes.

    Like open(2), but nothing outside `root` can be reached, whatever changes in the tree meanwhile. With O_CREAT,
    missing parent directories are an error. Raises OSError as open(2) does; ELOOP also for a last link that is not
    to be followed.
    """
    pending = _parts(path)
    chain = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == "..":
                if len(chain) > 1:
                    os.close(chain.pop())
                continue
            held = _hold(part, chain[-1])
            target = _link_target(held) if held is not None and (follow_last or pending) else None
            if target is not None and held is not None:
                os.close(held)
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    while len(chain) > 1:
                        os.close(chain.pop())
                pending.extend(_parts(target))
            elif not pending:
                if held is not None:
                    os.close(held)
                return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=chain[-1])
            elif held is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            else:
                chain.append(held)
        return os.open(".", flags | os.O_CLOEXEC, mode, dir_fd=chain[-1])
    finally:
        for fd in chain:
            os.close(fd)


def _parts(path: str) -> list[str]:
    """Return the components that matter, last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _hold(name: str, parent: int) -> int | None:
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return None


def _link_target(held: int) -> str | None:
    if not stat.S_ISLNK(os.fstat(held).st_mode):
        return None
    # An empty path means the descriptor itself, readlink(2).
    return os.readlink("", dir_fd=held)
