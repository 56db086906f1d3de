"""What COPY does to a root file system.

Semantics are those of Docker's legacy builder: of a directory, the contents are copied; the destination is a directory
if it ends in a slash, or there are several sources, or the source is a directory; symlinks named as source or
destination are followed, deeper ones are copied. Source: ch-image manual, "COPY".
"""

import os
import stat
from typing import TYPE_CHECKING

from chimage_core.build.context import Source
from chimage_core.build.modes import parse_mode
from chimage_core.build.step import Tools
from chimage_core.errors import ContextError, file_errors
from chimage_core.events import Warned
from chimage_core.fs.copy import copy_file, copy_tree
from chimage_core.fs.deferred import Delegate
from chimage_core.fs.filecopy import Chmod
from chimage_core.fs.paths import clean, resolve_in_root
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.xattr import warn_left_out
from chimage_core.rootfs.changes import Changes, PathsChanged
from chimage_core.rootfs.directories import accessible, make_directories
from chimage_core.rootfs.place import ImagePlace

if TYPE_CHECKING:
    from chimage_core.build.instructions.copy import CopyFiles, Document

_NEW_FILE = stat.S_IFREG | 0o644


def copy_files(copy: "CopyFiles", place: ImagePlace, tools: Tools) -> Changes:
    """Carry out a COPY; return what was copied to. Raises ContextError, FileError, Cancelled."""
    sources = copy.find()
    _refuse_storage(sources, place)
    tools.opening(place)
    chmod = None if copy.chmod is None else parse_mode(copy.chmod)
    with accessible(place.root, copy.target):
        target = copy.target if copy.follows_links else _without_links(place.root, copy.target)
        return _Copy(place, tools, chmod).to(target, sources, copy.documents)


def _without_links(root: str, target: str) -> str:
    """Return the target, after removing the symlinks on the way to it and at it."""
    here = root
    path = clean(target)
    for part in path.split("/"):
        here = f"{here}/{part}"
        if os.path.islink(here):
            with file_errors("replace symlink in image", here):
                os.unlink(here)
    return f"/{path}/" if target.endswith(("/", "/.", "/..")) else f"/{path}"


class _Copy:
    """One copy under way."""

    def __init__(self, place: ImagePlace, tools: Tools, chmod: Chmod | None) -> None:
        self._place = place
        self._root = place.root
        self._tools = tools
        self._chmod = chmod
        self._parents: dict[str, str] = {}
        """Directories that were made after those above a source: path → where their metadata come from."""
        self._unpacked: list[str] = []
        """What archives have changed, relative to the root: their links may lead anywhere in the image."""
        self._copier: Delegate | None = None
        """Has copied files of directories."""

    def to(self, target: str, sources: list[Source], documents: "tuple[Document, ...]") -> Changes:
        """Copy everything; return what changed."""
        paths = self._to(target, sources, documents)
        return PathsChanged(tuple(paths), self._copier)

    def _to(self, target: str, sources: list[Source], documents: "tuple[Document, ...]") -> list[str]:
        existing = resolve_in_root(self._root, target)
        several = len(sources) + len(documents) > 1
        is_directory = bool(sources) and _is_directory(sources[0])
        if not (target.endswith("/") or several or is_directory or os.path.isdir(existing)):
            # A symlink at the target is followed, also to where nothing is yet.
            _, made = make_directories(self._root, os.path.relpath(os.path.dirname(existing), self._root))
            for source in sources:
                self._file(source.path, existing)
            for document in documents:
                self._document(document, existing)
            return [made or os.path.relpath(existing, self._root)]
        directory, made = make_directories(self._root, target)
        changed = []
        for source in sources:
            if source.is_archive:
                self._unpack(source, directory, is_new=made is not None)
            else:
                changed += self._into(directory, source)
        for document in documents:
            self._document(document, f"{directory}/{document.name}")
            changed.append(document.name)
        self._finish_parents()
        inside = os.path.relpath(directory, self._root)
        # All of it is below what was made.
        copied = [made] if made else [os.path.normpath(f"{inside}/{name}") for name in dict.fromkeys(changed)]
        return copied + self._unpacked

    def _into(self, directory: str, source: Source) -> list[str]:
        """Copy one source into a directory; return the names of what changed there."""
        here = directory
        for name, origin in source.parents:
            here = f"{here}/{name}"
            self._parent(here, origin)
        if os.path.isdir(source.path):
            self._tree(source, here)
            return [source.parents[0][0]] if source.parents else os.listdir(source.path)
        name = os.path.basename(source.name)
        self._file(source.path, f"{here}/{name}")
        return [source.parents[0][0] if source.parents else name]

    def _unpack(self, source: Source, directory: str, *, is_new: bool) -> None:
        """Unpack an archive into a directory. Permissions are its own."""
        from chimage_core.layer.added import add_tarball
        from chimage_core.layer.report import tell

        tools = self._tools
        inside = os.path.relpath(directory, self._root)
        self._has_removed()
        report, changed = add_tarball(
            source.path,
            self._place,
            "" if inside == "." else inside,
            is_new=is_new,
            xattrs=tools.with_xattrs,
            cancel=tools.cancel,
        )
        tell(report, tools.emit)
        self._unpacked += changed

    def _parent(self, path: str, origin: str) -> None:
        """Make one of the directories above a source. It is at the second level or deeper: anything else gives way."""
        if path in self._parents:
            return
        with file_errors("make directory in image", path):
            if not stat.S_ISDIR(_mode(path)):
                if remove_tree(path):
                    self._has_removed()
                os.mkdir(path, 0o700)
            else:
                os.chmod(path, _mode(path) | stat.S_IRWXU)
        self._parents[path] = origin

    def _finish_parents(self) -> None:
        """Give the directories above sources their metadata, the deepest first: each changes what is above it."""
        from chimage_core.fs import xattr

        for path, origin in reversed(self._parents.items()):
            with file_errors("copy directory", origin):
                status = os.stat(origin)
                if self._tools.with_xattrs:
                    warn_left_out(set(xattr.write(path, xattr.read(origin))), self._tools.emit)
                os.chmod(path, (self._chmod or stat.S_IMODE)(status.st_mode))
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _tree(self, source: Source, directory: str) -> None:
        tools = self._tools
        self._copier = self._copier or tools.copier(self._place)
        report = copy_tree(
            source.path,
            directory,
            xattrs=tools.with_xattrs,
            cancel=tools.cancel,
            merge=True,
            skip_devices=False,
            exclude=source.exclusion(),
            chmod=self._chmod,
            delegate=self._copier,
        )
        warn_left_out(report.refused_xattrs, tools.emit)
        if report.sockets:
            tools.emit(Warned(text=f"sockets left out of {source.name}: {', '.join(report.skipped)}"))

    def _file(self, source: str, target: str) -> None:
        self._clear(target)
        tools = self._tools
        report = copy_file(source, target, xattrs=tools.with_xattrs, cancel=tools.cancel, chmod=self._chmod)
        warn_left_out(report.refused_xattrs, tools.emit)

    def _document(self, document: "Document", target: str) -> None:
        self._clear(target)
        with file_errors("write file in image", target):
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(document.content.encode("utf-8", "surrogateescape"))
                os.fchmod(descriptor, (self._chmod or stat.S_IMODE)(_NEW_FILE))

    def _clear(self, target: str) -> None:
        if stat.S_ISDIR(_mode(target)):
            name = os.path.relpath(target, self._root)
            raise ContextError(f"a directory of the image is in the way: /{name}")
        if remove_tree(target):  # Replaced, never written into: it may share its inode with another name.
            self._has_removed()

    def _has_removed(self) -> None:
        """Take note that something in the image was removed, perhaps what was copied before."""
        if self._copier is not None:
            self._copier.forget()


def _is_directory(source: Source) -> bool:
    """Return whether a source needs a directory as target, even alone."""
    return os.path.isdir(source.path) or source.is_archive or bool(source.parents)


def _mode(path: str) -> int:
    """Return the mode of what is at a path, symlinks not followed; 0 if there is nothing."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def _refuse_storage(sources: list[Source], place: ImagePlace) -> None:
    """Raise ContextError if the image itself is inside a source: it would be copied into itself without end."""
    image = os.path.realpath(place.root)
    for source in sources:
        if os.path.commonpath((source.path, image)) == source.path and not _leaves_out(source, image):
            raise ContextError(
                f"the storage directory is inside the source: {source.path}",
                hint="choose another directory with --storage, or exclude it with .dockerignore",
            )


def _leaves_out(source: Source, path: str) -> bool:
    excludes = source.exclusion()
    parts = os.path.relpath(path, source.path).split("/")
    names = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    return excludes is not None and any(excludes(name, True) for name in names)
