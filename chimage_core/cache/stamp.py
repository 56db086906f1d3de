"""The stamp of a place: which snapshot its directory holds, as far as anybody can know without looking.

One small file in the side directory, replaced by rename. It names the directory by device and inode, so a stamp
never speaks of another directory that took the place; and the boot in which it was written, because what was written
before a power failure may be half on the disk. So it need not wait for the disk itself.

Some file systems (NFS, the overlays that containers live in) give the number of a removed directory to the next one,
and do not tell them apart. So the stamp of a clean directory counts only if its modification time is the same, too:
that of a new one is not.
"""

import contextlib
import enum
import fcntl
import os
from typing import NamedTuple

from chimage_core.errors import file_errors
from chimage_core.rootfs.place import ImagePlace

_FORMAT = "chimage-stamp 1"
_GET_GENERATION = 0x80087601
"""FS_IOC_GETVERSION of <linux/fs.h>."""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class PlaceState(enum.Enum):
    """What is known of a directory."""

    CLEAN = "clean"
    """It holds the commit."""
    DIRTY = "dirty"
    """It held the commit, and has been changed since, or is being changed."""
    MERGING = "merging"
    """As dirty: an overlay's changes are being merged into it."""


class Stamp(NamedTuple):
    """What is known of a place."""

    status: PlaceState
    cache: str
    """Which cache repository the commit is in."""
    commit: str
    """Hexadecimal."""
    state: str
    """State ID of the commit, hexadecimal."""
    same_boot: bool = True
    """Written since this machine was started."""


def read(place: ImagePlace) -> Stamp | None:
    """Return what is known of the directory now at the place, or None."""
    try:
        with open(_path(place), encoding="ascii") as file:
            lines = file.read().splitlines()
        identity, mtime = _look(place.root)
    except (OSError, UnicodeDecodeError):
        return None
    fields = dict(line.partition(" ")[::2] for line in lines[1:])
    if lines[:1] != [_FORMAT] or fields.get("root") != identity:
        return None
    try:
        status = PlaceState(fields["status"])
        if status is PlaceState.CLEAN and int(fields["mtime"]) != mtime:
            status = PlaceState.DIRTY
        return Stamp(status, fields["cache"], fields["commit"], fields["state"], fields["boot"] == _boot())
    except (KeyError, ValueError):
        return None


def write(place: ImagePlace, stamp: Stamp) -> int:
    """Replace the stamp of a place, whose root directory exists. Return the file system's time (ns) meanwhile.

    Raises FileError.
    """
    with file_errors("write image stamp", _path(place)):
        identity, mtime = _look(place.root)
        text = (
            f"{_FORMAT}\nstatus {stamp.status.value}\ncache {stamp.cache}\ncommit {stamp.commit}\nstate {stamp.state}\n"
            f"root {identity}\nmtime {mtime}\nboot {_boot()}\n"
        )
        # Always the same name, so that killed processes leave at most one. Who writes here holds the lock of the name.
        temporary = f"{_path(place)}.new"
        descriptor = _open_new(temporary, place.side)
        try:
            os.write(descriptor, text.encode("ascii"))
            now = os.fstat(descriptor).st_ctime_ns
        finally:
            os.close(descriptor)
        os.rename(temporary, _path(place))
        return now


def forget(place: ImagePlace) -> None:
    """Remove the stamp of a place, but not one that is about another directory.

    The finished image and the one that is to replace it share their notes, and the second may come to nothing.
    """
    if read(place) is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_path(place))


def _path(place: ImagePlace) -> str:
    return os.path.join(place.side, "stamp")


def _open_new(path: str, directory: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)
        return os.open(path, flags, 0o666)


def _look(root: str) -> tuple[str, int]:
    """Return what tells the directory from all others, and when it was modified (ns).

    On most file systems, also from one that gets its inode number later.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:  # Of an image with a strange root directory.
        status = os.lstat(root)
        return f"{status.st_dev} {status.st_ino} -", status.st_mtime_ns
    try:
        status = os.fstat(descriptor)
        try:
            generation = fcntl.ioctl(descriptor, _GET_GENERATION, bytes(8)).hex()
        except OSError:
            generation = "-"
    finally:
        os.close(descriptor)
    return f"{status.st_dev} {status.st_ino} {generation}", status.st_mtime_ns


def _boot() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
