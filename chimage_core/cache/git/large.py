"""Large files: contents that are kept beside the repository instead of in packs.

Half of an image's bytes are in a few big files. Kept as files, they are neither read twice nor deflated nor repacked,
and an image is unpacked without copying them. `cache/large/<aa>/<name>-<mode>.<mtime>.<where>` holds one content:
`name` is the content's name as a Git blob, so what is the same is there once; or `?` and a hash of path, mode, size
and mtime, for files that the user has declared large: they are not read at all (manual, "Large file threshold"). The
rest of the file name tells which file of an image it was, with path and attributes as a hash.

How a content gets in and out is a matter of safety. Sharing blocks (reflink) is always safe. A hard link is one file
with two names: who writes to one writes to the other. RUN does not where it works on an overlay, so there and only
there an image may share its files with this store, and `unshare` ends that before anything else writes in place.
Where neither is possible only declared files are kept here, as copies. A file that was written to nevertheless
(`ch-run -w`) no longer has the time in its name, and is refused.

Texts stay in packs up to some size, where versions of them take little room (see `contents`).

In one image at most one file is linked to a content, the one whose path is in the name: two would become one file.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from chimage_core.cache.git.contents import Content
from chimage_core.cache.git.differences import Found
from chimage_core.cache.git.metadata import Entry, xattr_keys
from chimage_core.cache.git.objects import BLOB
from chimage_core.cache.git.trees import ObjectSink
from chimage_core.errors import CacheBroken, file_errors
from chimage_core.fs import xattr
from chimage_core.fs.atomic import sync_files, temporary_name
from chimage_core.fs.contents import ContentCopier
from chimage_core.fs.xattr import AttributeWriter

if TYPE_CHECKING:
    from chimage_core.cache.git.engine import Options

LARGE = 16 << 10
"""Bytes from which on contents are kept here, where that takes no copying."""

_HINT = "build-cache --check tells more, and --repair mends what can be mended"
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LINK = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EMLINK,
    errno.EPERM,
    errno.EXDEV,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EACCES,
)


class LargeStore:
    """The large files of a storage directory."""

    def __init__(self, directory: str, borrowed: tuple[str, ...], options: "Options") -> None:
        """`borrowed`: directories of other stores, to be read and copied from only."""
        self.directory = directory
        self.borrowed = borrowed
        self._options = options
        self._cancel = options.cancel
        self._copier = ContentCopier(options.cancel)
        self._folders: dict[str, set[bytes]] = {}
        """Contents that were found in the directories we have put files into, by directory."""
        self._unsynced: list[str] = []
        self._unshared: set[tuple[int, int]] = set()
        """Root directories that share nothing, as long as we are at work."""

    # Into the store

    def claim(self, content: Content, path: bytes, status: os.stat_result, was: bytes, *, likewise: bool) -> None:
        """Mark the content of a file of an image, at `path` from its root, if it belongs here. Nothing is read.

        `was`: what its last content is called here, if it is here. `likewise`: as the last one, whatever would be best.
        """
        if status.st_size < LARGE or not status.st_mode & stat.S_IRUSR:  # Lifting permissions would be seen elsewhere.
            return
        is_declared = was.startswith(b"?") if likewise else 0 < self._options.declared <= status.st_size
        if is_declared:
            content.large = declared_name(path, status)
        elif was or (not likewise and self._is_cheap):
            content.is_candidate = True

    def keep(self, full: bytes, path: bytes, found: Found) -> None:
        """Put the content of a file into the store, unless it is there. `sync` has to follow.

        `full` is where the file is, `path` its path in the image. What only a borrowed store has is not there: we could
        not tell who would miss it. Raises FileError, Cancelled.
        """
        content = found.content
        assert content is not None, "a large file has a content"
        with file_errors("keep large file", os.fsdecode(full)):
            if not self._is_kept(content.large, content.size):
                keys = found.keys if self._options.xattrs else xattr_keys(xattr.read(full))
                name = _file_name(content.large, found.mode, found.mtime, path, keys)
                self._add(full, os.path.join(_folder(self.directory, content.large), name))

    def sync(self) -> None:
        """Wait until what was put into the store is on the disk, if that is asked for. Raises FileError."""
        paths, self._unsynced = self._unsynced, []
        if self._options.sync:
            with file_errors("write large files", self.directory):
                sync_files(paths)

    def _is_kept(self, name: bytes, size: int) -> bool:
        """Return whether there is a content. What others have added since we looked first is taken for missing."""
        folder = _folder(self.directory, name)
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders[folder] = {os.fsencode(each.partition("-")[0]) for each in os.listdir(folder)}
        known = self._folders[folder]
        if name in known:
            return any(_is_sound(path, size) for path in _paths(self.directory, name))
        known.add(name)
        return False

    def _add(self, full: bytes, target: str) -> None:
        if self._can_clone or not self._link(full, target):
            temporary = temporary_name(os.path.dirname(target))
            try:
                self.copy(full, temporary)
                os.rename(temporary, target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
        self._unsynced.append(target)

    # Out of the store

    def place(self, entry: Entry, path: bytes, directory: int, xattrs: AttributeWriter) -> None:
        """Make a file of an image in its open directory; `path` is that of the file, from the root of the image.

        Mode, time and attributes are complete. Raises OSError, CacheBroken, Cancelled.
        """
        if self.linkable is not None and link_large(self.linkable, entry, path, directory, xattrs) is not None:
            return
        found = self._find(entry.large, entry.size)
        if found is None:
            raise CacheBroken(f"large file is missing in the build cache: {os.fsdecode(path)}", hint=_HINT)
        attributes = dict(entry.xattrs) if xattrs.is_on else {}
        source = os.open(found, _OPEN)
        try:
            status = os.fstat(source)
            refused = self._copy(source, entry.name, status, attributes, directory=directory, entry=entry)
            xattrs.refused.update(refused)
        finally:
            os.close(source)

    @contextlib.contextmanager
    def opened(self, name: bytes, size: int) -> Iterator[int]:
        """Give a descriptor of a large file, to read from. Raises OSError, CacheBroken."""
        found = self._find(name, size)
        if found is None:
            raise CacheBroken(f"large file is missing in the build cache: {name.decode()}", hint=_HINT)
        descriptor = os.open(found, _OPEN)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def problem(self, name: bytes, size: int, *, reads: bool) -> str | None:
        """Return what is wrong with a large file, None if nothing is. `reads`: also compare the content."""
        found = self._find(name, size)
        if found is None:
            return "is missing, or was changed"
        if reads and _is_other(found, name):
            return "has another content"
        return None

    def holds(self, name: bytes) -> bool:
        """Return whether there is a file for a content, sound or not."""
        return any(_paths(directory, name) for directory in (self.directory, *self.borrowed))

    def damaged(self, name: bytes, size: int) -> list[str]:
        """Return the files of a content that are not what they should be; not those of borrowed stores."""
        return [path for path in _paths(self.directory, name) if not _is_sound(path, size) or _is_other(path, name)]

    # Sharing

    def unshare(self, root: str) -> None:
        """Let no file of an image share its inode with the store: the image is about to be written to in place.

        Raises FileError, Cancelled.
        """
        status = os.lstat(root)
        identity = status.st_dev, status.st_ino
        if identity in self._unshared:
            return
        inodes = {(status.st_dev, status.st_ino) for _, status in self._linked_files()}
        if inodes:
            from chimage_core.cache.git.unsharing import replace_by_copies

            replace_by_copies(root, inodes, self.copy, self._options.cancel)
        if not self._options.may_link():  # Nothing is linked to it by us any more.
            self._unshared.add(identity)

    def copy(self, path: bytes, target: bytes | str) -> None:
        """Copy a file with its metadata to a new name. Raises OSError, Cancelled."""
        source = os.open(path, _OPEN)
        try:
            self._copy(source, target, os.fstat(source), xattr.read(source))
        finally:
            os.close(source)

    def linked(self) -> set[tuple[int, int]]:
        """Return device and inode of the files that have other names, too, and that nobody has written to."""
        return {
            (status.st_dev, status.st_ino) for path, status in self._linked_files() if _is_sound(path, status.st_size)
        }

    def _linked_files(self) -> Iterator[tuple[str, os.stat_result]]:
        for parent, _, names in os.walk(self.directory):
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(path)
                    if status.st_nlink > 1:
                        yield path, status

    # Means

    @cached_property
    def linkable(self) -> str | None:
        """The directory whose files images may be linked to; None if that is not safe, or cloning is possible."""
        return self.directory if self._options.may_link() and not self._can_clone else None

    @cached_property
    def _is_cheap(self) -> bool:
        return self._can_clone or self._options.may_link()

    @cached_property
    def _can_clone(self) -> bool:
        """Find out whether the file system can share blocks between files."""
        os.makedirs(self.directory, exist_ok=True)
        paths = [temporary_name(self.directory) for _ in range(2)]
        try:
            with open(paths[0], "xb+") as source, open(paths[1], "xb") as target:
                source.write(bytes(4096))
                source.flush()
                return self._copier.clone(source.fileno(), target.fileno())
        finally:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def _link(self, full: bytes, target: str) -> bool:
        if not self._options.may_link():
            return False
        try:
            os.link(full, target, follow_symlinks=False)
        except FileExistsError:  # Somebody else's of the same; or one that was written to since.
            temporary = temporary_name(os.path.dirname(target))
            os.link(full, temporary, follow_symlinks=False)
            os.rename(temporary, target)
            with contextlib.suppress(FileNotFoundError):  # It does nothing between two names of the same file.
                os.unlink(temporary)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return False
        return True

    def _copy(
        self,
        source: int,
        target: str | bytes,
        status: os.stat_result,
        attributes: dict[str, bytes],
        *,
        directory: int | None = None,
        entry: Entry | None = None,
    ) -> tuple[str, ...]:
        """Copy a file with its mode and time, or those of `entry`; return the names of attributes that were refused."""
        mode, mtime = (stat.S_IMODE(status.st_mode), status.st_mtime_ns) if entry is None else (entry.mode, entry.mtime)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(target, flags, 0o600, dir_fd=directory)
        try:
            self._copier.copy(source, descriptor, status)
            # Exactly: the directory may have a default ACL.
            refused = xattr.write(descriptor, attributes, exact=True)
            os.fchmod(descriptor, mode)
            os.utime(descriptor, ns=(mtime, mtime))
        finally:
            os.close(descriptor)
        return refused

    def _find(self, name: bytes, size: int) -> str | None:
        """Return a file of the store with this content that nobody has written to since."""
        directories = (self.directory, *self.borrowed)
        paths = (path for directory in directories for path in _paths(directory, name))
        # One that we may not read is as good as none: others have opened their store for us only in part.
        return next((path for path in paths if _is_sound(path, size) and os.access(path, os.R_OK)), None)


def link_large(
    directory: str, entry: Entry, path: bytes, parent: int, xattrs: AttributeWriter
) -> os.stat_result | None:
    """Make a file of an image by a link to the file of a store that has exactly its content and metadata, if possible.

    `directory` is that of the store; `path` that of the file, from the root of the image; `parent` its open directory.
    Returns its status; None if there is no such file, or somebody has written to it. Raises OSError.
    """
    keys = xattr_keys(dict(entry.xattrs)) if xattrs.is_on and entry.xattrs else []
    wanted = _file_name(entry.large, entry.mode, entry.mtime, path, keys)
    try:
        os.link(
            os.path.join(_folder(directory, entry.large), wanted), entry.name, dst_dir_fd=parent, follow_symlinks=False
        )
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return None
    status = os.stat(entry.name, dir_fd=parent, follow_symlinks=False)
    if (status.st_mode, status.st_mtime_ns, status.st_size) == (stat.S_IFREG | entry.mode, entry.mtime, entry.size):
        return status
    os.unlink(entry.name, dir_fd=parent)
    return None


def declared_name(path: bytes, status: os.stat_result) -> bytes:
    """Return the name of a file that the user has declared large, at `path` from the root of its image."""
    identity = b"%s\0%o\0%d\0%d" % (path, status.st_mode, status.st_size, status.st_mtime_ns)
    return b"?" + hashlib.sha1(identity, usedforsecurity=False).hexdigest().encode()


def refer(content: Content, sink: ObjectSink) -> None:
    """Let a note stand for the content of a large file in its Git tree."""
    content.name = sink.add(BLOB, b"chimage-large 1\nname %s\nsize %d\n" % (content.large, content.size))


def _folder(directory: str, name: bytes) -> str:
    return os.path.join(directory, os.fsdecode(name.removeprefix(b"?")[:2]))


def _paths(directory: str, name: bytes) -> list[str]:
    """Return all files of a store, sound or not, that hold a content."""
    folder, prefix = _folder(directory, name), os.fsdecode(name) + "-"
    try:
        return sorted(os.path.join(folder, each) for each in os.listdir(folder) if each.startswith(prefix))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _file_name(name: bytes, mode: int, mtime: int, path: bytes, keys: list[bytes]) -> str:
    where = hashlib.sha256(b"\0".join([path, *keys])).hexdigest()[:8]
    return f"{os.fsdecode(name)}-{mode:04o}.{mtime}.{where}"


def _is_sound(path: str, size: int) -> bool:
    """Return whether nobody has written to a file of the store since it got its name.

    Its mode may be another one: who offers a store to others may have closed it for writing.
    """
    try:
        status = os.lstat(path)
        mtime = int(os.path.basename(path).partition("-")[2].split(".")[1])
    except (OSError, ValueError, IndexError):
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_mtime_ns, status.st_size) == (mtime, size)


def _is_other(path: str, name: bytes) -> bool:
    """Return whether a file of the store has another content than its name says; it says nothing of declared ones."""
    return not name.startswith(b"?") and _content_name(path) != name


def _content_name(path: str) -> bytes:
    from chimage_core.cache.git.packs import identify_file

    descriptor = os.open(path, _OPEN)
    try:
        size = os.fstat(descriptor).st_size
        return identify_file(descriptor, size, [(0, size)]).hex().encode()
    finally:
        os.close(descriptor)
