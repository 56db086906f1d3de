"""Extended attributes, or a file system that has none.

Which attributes are ours to keep: what an ordinary user can read and set again (`user.*`, POSIX ACLs), and
`security.capability`, which can be read but not set without privilege. Everything else is the kernel's or the
administrator's. `user.overlay.*` is how an unprivileged overlay keeps its books and must never enter an image.

Errors are the hard part: tmpfs before Linux 6.6, NFS before 4.2 and many cluster file systems say ENOTSUP, and a kept
name may be refused for this one file (`user.*` on a symbolic link gives EPERM). Neither is a reason to fail a build,
so writing returns the names that could not be kept. Source: xattr(7).

`user.*` needs read or write permission on the file itself, so a file is given its attributes *before* its final mode.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Set

from chimage_core.events import Notice, Sink, Warned

Target = int | str | bytes
"""An open descriptor, or a path whose last component is not followed."""

CAPABILITY = "security.capability"
DEFAULT_ACL = "system.posix_acl_default"
"""What a directory gives to all that is made in it."""
_ACLS = ("system.posix_acl_access", DEFAULT_ACL)
_PRIVATE = "user.overlay."
_UNSUPPORTED = (errno.ENOTSUP, errno.ENOSYS)
# What a file system answers when it has attributes, but not this one here: not permitted, too long, no room, no such
# name space, not for this type of file, an ACL with identifiers that this user namespace does not know.
_REFUSED = (
    *_UNSUPPORTED,
    errno.EPERM,
    errno.EACCES,
    errno.E2BIG,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ERANGE,
    errno.EINVAL,
)


def is_kept(name: str) -> bool:
    """Return whether the attribute is part of an image."""
    if name.startswith("user."):
        return not name.startswith(_PRIVATE)
    return name == CAPABILITY or name in _ACLS


def read(target: Target) -> dict[str, bytes]:
    """Return the attributes that are part of an image, in the order of their names; none where there is no support.

    Raises OSError as listxattr(2) and getxattr(2) do, except for missing support and attributes that vanish
    meanwhile.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return {}
        raise
    if not names:
        return {}
    attributes = {}
    for name in sorted(filter(is_kept, names)):
        try:
            attributes[name] = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.ENODATA, *_UNSUPPORTED):
                raise
    return attributes


def write(target: Target, attributes: Mapping[str, bytes], *, exact: bool = False) -> tuple[str, ...]:
    """Set attributes; with `exact`, also remove those that `read` would return and that are not among them.

    Returns the names that this file system, or the lack of privilege, does not let us set or remove. Raises OSError
    for other reasons (no such file, input/output error).
    """
    follow = isinstance(target, int)
    refused = []
    if exact:
        refused += [name for name in read(target) if name not in attributes and not _remove(target, name, follow)]
    # ACLs last: one can take the permission to write from its owner, and with it that to set the others.
    for name, value in sorted(attributes.items(), key=_is_acl):
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            refused.append(name)
    return tuple(refused)


class AttributeWriter:
    """Writes the attributes of many files, and remembers which names were refused."""

    __slots__ = ("is_on", "refused")

    def __init__(self, *, is_on: bool) -> None:
        """`is_on`: attributes are wanted; else who has this writes none."""
        self.is_on = is_on
        self.refused: set[str] = set()

    def write(self, target: Target, attributes: Iterable[tuple[str, bytes]], *, exact: bool = False) -> None:
        """Set attributes as the function `write` does."""
        self.refused.update(write(target, dict(attributes), exact=exact))


def warn_left_out(names: Set[str], emit: Sink) -> None:
    """Say that attributes with these names were refused somewhere. The text is always the same, to be said once.

    Capabilities do not count: without privilege they have no meaning, and can nowhere be set.
    """
    lost = sorted(names - {CAPABILITY})
    if lost:
        emit(
            Warned(
                text="extended attributes or ACLs that the storage directory’s file system does not keep are left out; "
                "with --no-xattrs nobody asks for them"
            )
        )
        emit(Notice(level="verbose", text=f"left out: {', '.join(lost)}"))


def remove_default_acl(directory: str | bytes) -> None:
    """Let what is made in a directory inherit no ACL. Does nothing where that is impossible, or already so."""
    with contextlib.suppress(OSError):
        os.removexattr(directory, DEFAULT_ACL)


def gives_acl(directory: int) -> bool:
    """Return whether what is made in an open directory inherits an ACL. Raises OSError."""
    return DEFAULT_ACL in read(directory)


def is_supported(directory: Target) -> bool:
    """Return whether `user.*` attributes can be kept on this directory, found by setting and removing one."""
    probe = "user.chimage.probe"
    if write(directory, {probe: b""}):
        return False
    return _remove(directory, probe, isinstance(directory, int))


def _is_acl(attribute: tuple[str, bytes]) -> bool:
    return attribute[0] in _ACLS


def _remove(target: Target, name: str, follow: bool) -> bool:
    try:
        os.removexattr(target, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return True
        if error.errno not in _REFUSED:
            raise
        return False
    return True
