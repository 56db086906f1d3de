"""Unpacked images: finished ones in `img`, unfinished ones in `work`.

An image is made in `work` and then put in place by one rename; to change a finished one, it is first taken back to
`work`. So what is in `img` is always whole. An image whose tag is `latest` can also be found without it, by a relative
symbolic link, for programs that write `foo` for `foo:latest`.

Names are the file form of references (`team%tool+1.2`). Whoever changes an image holds the lock of its name.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from chimage_core.errors import ImageNotFound, file_errors
from chimage_core.fs.atomic import TEMPORARY_PREFIX, exchange, temporary_directory, temporary_name
from chimage_core.fs.remove import remove_aside, remove_tree
from chimage_core.image.reference import Reference, references
from chimage_core.rootfs.place import ImagePlace
from chimage_core.storage.layout import Layout

_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
"""How rename(2) of a directory says that something is at the new name."""


class Images:
    """The images of one storage directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def references(self) -> tuple[Reference, ...]:
        """Return the finished images, sorted by name. Needs no lock."""
        return _references(self._layout.images)

    def names(self) -> tuple[str, ...]:
        """Return the names of the finished images, sorted. Needs no lock."""
        return tuple(reference.file_name for reference in self.references())

    def interrupted(self) -> tuple[str, ...]:
        """Return the names of the images being made, and of those whose maker died, sorted."""
        return tuple(reference.file_name for reference in _references(self._layout.works))

    def exists(self, name: str) -> bool:
        """Tell whether there is such a finished image."""
        return _is_directory(self._layout.published(name).root)

    def published(self, name: str) -> ImagePlace:
        """Return where the finished image is."""
        return self._layout.published(name)

    def workplace(self, name: str) -> ImagePlace:
        """Return where the image is while it is made. The notes beside it are the same as those of the finished one."""
        return self._layout.workplace(name)

    def modified(self, name: str) -> int:
        """Return when the image was last changed: ns since the epoch. Raises ImageNotFound."""
        root = self._layout.published(name).root
        try:
            return os.lstat(os.path.join(root, "ch", "metadata.json")).st_mtime_ns
        except OSError:
            pass
        try:
            # The time of the root directory itself comes from the image; what changed last is its name.
            return os.lstat(root).st_ctime_ns
        except OSError:
            raise _not_found(name) from None

    def take(self, name: str) -> bool:
        """Take a finished image back to its workplace, so that it can be changed; tell whether there is one.

        What was at the workplace is deleted. Raises FileError.
        """
        source, target = self._layout.published(name).root, self._layout.workplace(name).root
        alias = self._alias_path(name)
        if not _is_directory(source):
            return False
        self.discard_work(name)
        with file_errors("take image back to work", source):
            _make_movable(source)
            os.rename(source, target)
            self._unlink_alias(alias, name)
        return True

    def publish(self, name: str) -> ImagePlace:
        """Put what is at the workplace into its place, in one step; what was there before is deleted.

        Raises ImageNotFound if the workplace is empty, FileError.
        """
        source, place = self._layout.workplace(name).root, self._layout.published(name)
        alias = self._alias_path(name)
        if not _is_directory(source):
            raise _not_found(name)
        with file_errors("publish image", place.root):
            # Before the image: a link that leads nowhere does no harm, but nobody would add one that is missing.
            if alias is not None:
                self._link_alias(alias, name)
            _make_movable(source)
            try:
                os.rename(source, place.root)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
                _make_movable(place.root)
                exchange(source, place.root)
        remove_aside(source, self._layout.trash)
        return place

    @contextlib.contextmanager
    def aside(self, name: str) -> Iterator[ImagePlace]:
        """Give an empty place for files of an image, which nobody else sees and which is removed at the end."""
        with temporary_directory(self._layout.works) as path:
            yield ImagePlace(name, os.path.join(path, "root"), os.path.join(path, "side"))

    def discard_work(self, name: str) -> None:
        """Delete what is at the workplace. The notes stay: they may be about the finished image. Raises FileError."""
        remove_aside(self._layout.workplace(name).root, self._layout.trash)

    def delete(self, name: str) -> None:
        """Delete an image, finished or not, with all that belongs to it, or what is left of that.

        Raises ImageNotFound if there is nothing, FileError.
        """
        place, work = self._layout.published(name), self._layout.workplace(name)
        alias = self._alias_path(name)
        traces = [place.side, place.root, work.root]
        if not any(map(os.path.lexists, traces)) and (alias is None or _link_target(alias) != name):
            raise _not_found(name)
        # The notes go first: an image without notes is merely unknown to the cache, notes without it could mislead.
        remove_aside(place.side, self._layout.trash)
        with file_errors("delete image", place.root):
            self._unlink_alias(alias, name)
        remove_aside(place.root, self._layout.trash)
        remove_aside(work.root, self._layout.trash)

    def pack_away(self, name: str) -> None:
        """Remove the directory of a finished image, which can be made again; what remains is the note that it was here.

        Raises ImageNotFound, FileError.
        """
        place, alias = self._layout.published(name), self._alias_path(name)
        modified = self.modified(name)
        with file_errors("remove image directory", place.root):
            os.makedirs(place.side, exist_ok=True)
            self._unlink_alias(alias, name)
        remove_aside(place.root, self._layout.trash)
        for path in _entries(place.side):
            remove_aside(path, self._layout.trash)
        with file_errors("write note about image", place.side):
            os.utime(place.side, ns=(modified, modified))

    def note(self, name: str) -> None:
        """Make it known that there is an image of this name, though only in the build cache. Raises FileError."""
        side = self._layout.published(name).side
        with file_errors("write note about image", side):
            os.makedirs(side, exist_ok=True)

    def packed_away(self) -> tuple[str, ...]:
        """Return the names of images without a directory that once had one, or of which there is a `note`, sorted:
        those that have a head in the build cache can be unpacked. Needs no lock."""
        names = _directories(self._layout.sides) - _directories(self._layout.images) - _directories(self._layout.works)
        return tuple(reference.file_name for reference in references(sorted(names)))

    def belongings(self, name: str) -> tuple[str, ...]:
        """Return all paths of a finished image that `pack_away` removes. They need not exist."""
        place, alias = self._layout.published(name), self._alias_path(name)
        aliases = (alias,) if alias is not None and _link_target(alias) == name else ()
        return (place.root, *_entries(place.side), *aliases)

    def sweep_trash(self) -> None:
        """Delete what killed processes left behind. The caller holds the storage lock exclusively. Raises FileError."""
        for path in _entries(self._layout.trash):
            remove_tree(path)
        for directory in (self._layout.images, self._layout.works, self._layout.root):
            for path in _entries(directory):
                if os.path.basename(path).startswith(TEMPORARY_PREFIX):
                    remove_tree(path)

    def _link_alias(self, path: str, name: str) -> None:
        """Make or replace the link, but nothing that is no link."""
        if _link_target(path) == name or (os.path.lexists(path) and not os.path.islink(path)):
            return
        temporary = temporary_name(self._layout.images)
        os.symlink(name, temporary)
        os.rename(temporary, path)

    @staticmethod
    def _unlink_alias(path: str | None, name: str) -> None:
        if path is not None and _link_target(path) == name:
            os.unlink(path)

    def _alias_path(self, name: str) -> str | None:
        """Return where the link to an image is, None if it has none. Raises InvalidReference for what is no name."""
        alias = Reference.from_file_name(name).alias
        return None if alias is None else self._layout.alias(alias)


def _references(directory: str) -> tuple[Reference, ...]:
    """Return the references that directories in `directory` are called after, sorted; ignore everything else."""
    return references(sorted(_directories(directory)))


def _directories(directory: str) -> set[str]:
    """Return the names of the directories in a directory."""
    try:
        with os.scandir(directory) as entries:
            return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    except FileNotFoundError:
        return set()


def _entries(directory: str) -> list[str]:
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory)]
    except FileNotFoundError:
        return []


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _make_movable(path: str) -> None:
    """Give us write permission on a directory: its entry `..` changes when it moves to another one."""
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU)


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _not_found(name: str) -> ImageNotFound:
    return ImageNotFound(f"image not found: {Reference.from_file_name(name)}")
