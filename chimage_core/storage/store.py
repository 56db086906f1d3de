"""The storage directory as a whole: make it, recognise it, upgrade it, move it, empty it.

The file `version` makes a directory ours; it is written first and never goes away. So a process that dies while it
makes a directory leaves an empty one, or ours with something missing, which the next one adds; and several that make
the same directory at once all succeed. A directory that is neither empty nor ours is never touched.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping

from chimage_core.errors import FileError, StorageInvalid, StorageVersion, file_errors
from chimage_core.events import Notice, Sink, Warned
from chimage_core.fs.atomic import TEMPORARY_PREFIX, write_file
from chimage_core.fs.remove import remove_aside, remove_tree
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks

VERSION = 1
"""Format of storage directories that this program makes and works with."""

UPGRADES: Mapping[int, Callable[[Layout], None]] = {}
"""What turns a directory of version N into one of version N + 1. Each must be able to go on after its own crash."""

_MARK = "chimage "
_CHOOSE = "choose another directory with --storage or $CH_IMAGE_STORAGE"
# ch-run mounts images here if told nothing else, perhaps before we ever ran.
_NOT_OURS_BUT_WELCOME = frozenset({"mnt"})
_CHARLIECLOUD_DIRECTORIES = frozenset({"img", "dlcache"})


def validate(layout: Layout) -> None:
    """Check that the directory is ours and of the current version; changes nothing.

    Raises StorageInvalid (also if it is missing), StorageVersion, FileError.
    """
    version = _read_version(layout)
    if version is None:
        _refuse_others(layout)
        raise StorageInvalid(f"no storage directory: {layout.root}", hint="build, pull and import make one")
    if version != VERSION:
        raise _wrong_version(layout, version)


def check_ours(layout: Layout) -> None:
    """Check that the directory is ours, of whatever version; changes nothing. Raises StorageInvalid, FileError."""
    if _read_version(layout) is None:
        _refuse_others(layout)
        raise StorageInvalid(f"no storage directory: {layout.root}")


def prepare(
    layout: Layout,
    locks: Locks,
    *,
    emit: Sink,
    old: Layout | None = None,
    upgrades: Mapping[int, Callable[[Layout], None]] = UPGRADES,
) -> None:
    """Make sure that there is a storage directory of ours and of the current version.

    `old`, given if this is the default directory, is where the default was in earlier versions: a storage directory
    there is moved here. Who then takes the storage lock has to `validate` again, since a newer program may have been in
    between. Raises StorageInvalid, StorageVersion, FileError; StorageBusy and Cancelled while waiting to
    upgrade.
    """
    if old is not None:
        refuse_strangers(layout)
        _move(old, layout, locks, emit)
    version = _read_version(layout)
    if version is None:
        _refuse_others(layout)
        _create(layout)
    else:
        _refuse_foreign(layout)
        if version != VERSION:
            _upgrade(layout, locks, version, emit, upgrades)
    _complete(layout)


def reset(layout: Layout) -> None:
    """Delete all images and caches, of whatever version; jobs stay. The caller holds the storage lock exclusively.

    A crash leaves a storage directory with less in it. Raises StorageInvalid if the directory is not ours, FileError.
    """
    check_ours(layout)
    for path in layout.contents:
        if path != layout.trash:
            remove_aside(path, layout.trash)
    remove_tree(layout.trash)
    _write_version(layout, VERSION)
    _complete(layout)


def _read_version(layout: Layout) -> int | None:
    """Return the version of a directory of ours; None for anything else, also if it is missing."""
    try:
        with open(layout.version, encoding="utf-8", errors="replace") as file:
            text = file.read(64)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileError("read storage directory version", layout.version, error) from error
    number = text.removeprefix(_MARK).strip()
    return int(number) if text.startswith(_MARK) and number.isascii() and number.isdecimal() else None


def _write_version(layout: Layout, version: int) -> None:
    with file_errors("write storage directory version", layout.version):
        write_file(layout.version, f"{_MARK}{version}\n".encode("ascii"))


def _refuse_others(layout: Layout) -> None:
    """Raise StorageInvalid unless the directory is missing or (nearly) empty."""
    try:
        entries = frozenset(os.listdir(layout.root))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise StorageInvalid(f"storage directory is not a directory: {layout.root}", hint=_CHOOSE) from None
    except OSError as error:
        raise FileError("read storage directory", layout.root, error, hint=_CHOOSE) from error
    if entries >= _CHARLIECLOUD_DIRECTORIES:
        raise StorageInvalid(
            f"storage directory belongs to Charliecloud’s ch-image: {layout.root}",
            hint=f"it is left as it is; {_CHOOSE}, or delete it with Charliecloud’s ch-image",
        )
    strange = [name for name in sorted(entries - _NOT_OURS_BUT_WELCOME) if not name.startswith(TEMPORARY_PREFIX)]
    if strange:
        raise StorageInvalid(f"not a storage directory, and not empty: {layout.root} (has {strange[0]})", hint=_CHOOSE)


def _refuse_foreign(layout: Layout) -> None:
    """Raise StorageInvalid if another user made the directory: who writes there, root too, locks its owner out."""
    owner = os.stat(layout.root).st_uid
    if owner != os.geteuid():
        raise StorageInvalid(f"storage directory belongs to user {owner}: {layout.root}", hint=_CHOOSE)


def refuse_strangers(layout: Layout) -> None:
    """Raise StorageInvalid if the default directory is somebody else's.

    Its name can be guessed and its parent is writable for all: who made it first could make us delete our own files.
    """
    for follow in (False, True):
        try:
            found = os.stat(layout.root, follow_symlinks=follow)
        except FileNotFoundError:
            return
        if found.st_uid != os.geteuid():
            kind = "symbolic link" if stat.S_ISLNK(found.st_mode) else "directory"
            raise StorageInvalid(f"default storage {kind} belongs to user {found.st_uid}: {layout.root}", hint=_CHOOSE)


def _create(layout: Layout) -> None:
    try:
        os.mkdir(layout.root)
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        hint = f"make {os.path.dirname(layout.root)} first, or {_CHOOSE}"
        raise FileError("create storage directory", layout.root, error, hint=hint) from error
    except OSError as error:
        raise FileError("create storage directory", layout.root, error, hint=_CHOOSE) from error
    _write_version(layout, VERSION)


def _complete(layout: Layout) -> None:
    """Make the directories that are missing.

    They inherit no ACL, as project directories of clusters have: it would become a part of every image.
    """
    for path in layout.directories:
        with file_errors("create directory", path):
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            from chimage_core.fs.xattr import remove_default_acl

            remove_default_acl(path)


def _upgrade(
    layout: Layout, locks: Locks, version: int, emit: Sink, upgrades: Mapping[int, Callable[[Layout], None]]
) -> None:
    if any(step not in upgrades for step in range(version, VERSION)) or version > VERSION:
        raise _wrong_version(layout, version)
    with locks.storage(exclusive=True):
        # Another process may have done it while we waited.
        current = _read_version(layout) or version
        if current < VERSION:
            emit(Notice(level="info", text=f"upgrading storage directory: version {current} to {VERSION}"))
        for step in range(current, VERSION):
            upgrades[step](layout)
            _write_version(layout, step + 1)


def _wrong_version(layout: Layout, version: int) -> StorageVersion:
    return StorageVersion(
        f"storage directory has version {version}, this program needs version {VERSION}: {layout.root}",
        hint=f"delete and re-initialize it with reset, or {_CHOOSE}",
    )


def _move(old: Layout, new: Layout, locks: Locks, emit: Sink) -> None:
    """Move a storage directory from the old default path, if there is one and the new path is free."""
    if _read_version(old) is None:
        return
    if _read_version(new) is not None:
        emit(
            Warned(text=f"there is also a storage directory at the old default path, consider deleting it: {old.root}")
        )
        return
    try:
        with (
            locks.elsewhere(old).storage(exclusive=True),
            file_errors(f"move storage directory to {new.root}", old.root),
        ):
            # Replaces an empty directory, and no other.
            os.rename(old.root, new.root)
    except FileError as error:
        # Missing: another process was faster.
        if error.errno != errno.ENOENT:
            emit(Warned(text=error.message))
        return
    emit(Notice(level="info", text=f"moved storage directory from its old default path {old.root} to {new.root}"))
