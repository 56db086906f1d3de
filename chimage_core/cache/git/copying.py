"""Copy many files into an image and store their contents at the same time: every file is opened and read once.

What was stored is known by the numbers that the copies had in stat(2) when they were finished. A file with the same
inode, ctime, size and mode is the same file, unchanged (see `statcache`), so the commit need not look into it. As
nothing names the objects before that, a copy that fails, or is never committed, leaves only garbage.
"""

import contextlib
import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chimage_core.cache.git import workers
from chimage_core.cache.git.contents import MANY_FILES, Content, content_of, is_text, read_open
from chimage_core.cache.git.engine import Options
from chimage_core.cache.git.known import Known
from chimage_core.cache.git.large import LARGE
from chimage_core.cache.git.objects import BLOB, identify
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.statcache import ENTRY, numbers_of, pack_numbers
from chimage_core.cancel import CancelToken
from chimage_core.fs import xattr
from chimage_core.fs.deferred import Deferred, Delegated, Folder
from chimage_core.fs.filecopy import OPEN_SOURCE, Chmod, CopyOptions, FileCopier

_LONGEST = 1 << 20
"""Bytes up to which a file is ordinary. Longer ones are few, and are read in parts of equal size afterwards."""
_PART_FILES = 64
_NAME = 20
_MODES = 1 << 12

Extents = list[tuple[int, int]]


class Copied(NamedTuple):
    """What is known of the content of a copy."""

    name: bytes
    """The blob."""
    is_large: bool = False
    """It is only named, and not stored."""
    has_attributes: bool = False
    extents: Extents | None = None
    """The parts that the blob holds, as in `Content`."""


class StoringCopier:
    """Copies files into one image, stores their contents, and remembers which are where: a `Delegate`."""

    def __init__(self, objects: str, parent: bytes, options: Options) -> None:
        """Store below the directory `objects`; `parent` is the commit that the image holds, empty if none."""
        self._objects = objects
        self._parent = parent
        self._options = options
        self.packs: list[str] = []
        """Indexes of the packs that hold the contents."""
        self._names: dict[bytes, bytes] = {}
        """Blobs of plain files, by the numbers of the copies."""
        self._others: dict[bytes, Copied] = {}

    def find(self, numbers: bytes) -> Copied | None:
        """Return what is known of a file by what the stat cache records of it."""
        name = self._names.get(numbers)
        return self._others.get(numbers) if name is None else Copied(name)

    def forget(self) -> None:
        """Know nothing of what was copied: files of new content may get the inodes of those that are gone."""
        self._names.clear()
        self._others.clear()

    def copy(self, deferred: Sequence[Deferred], options: CopyOptions) -> Delegated:
        """Copy files if they are many; see the protocol."""
        if sum(len(folder.names) for folder in deferred) <= MANY_FILES:
            return Delegated([folder for folder in deferred if folder.names], 0, set())
        parts = _divide(deferred)
        payload = (
            (self._objects, self._parent, self._options.deflate, self._options.sync),
            (options.xattrs, None if options.chmod is None else _table(options.chmod)),
            [(tuple(folder.source), tuple(folder.target)) for folder in deferred],
            parts,
        )
        left: dict[int, list[str]] = {}
        size = 0
        refused: set[str] = set()
        for answer in workers.run(copy_files, payload, len(parts), self._options.workers, options.cancel):
            index, numbers, names, others, not_copied, copied_bytes, names_refused = answer
            if index is not None:
                self.packs.append(index)
            self._names.update(zip(_cut(numbers, ENTRY), _cut(names, _NAME), strict=True))
            for key, value in others:
                self._others[key] = Copied(*value)
            for folder, name in not_copied:
                left.setdefault(folder, []).append(name)
            size += copied_bytes
            refused.update(names_refused)
        return Delegated([deferred[number]._replace(names=names) for number, names in left.items()], size, refused)


def copy_files(payload: Any, numbers: Iterator[int]) -> Any:
    """Copy parts of the files, with their contents into one pack (a task of `workers`)."""
    (objects, parent, deflated, sync), (xattrs, modes), folders, parts = payload
    known = Known(ObjectStore(objects), parent)
    table = None if modes is None else array("H", modes)
    chmod = None if table is None else lambda mode: table[mode % _MODES]
    with PackWriter(os.path.join(objects, "pack"), known, deflated=deflated, sync=sync) as pack:
        worker = _Worker(pack, CopyOptions(xattrs, CancelToken(), chmod))
        for number in numbers:
            for folder, names in parts[number]:
                source, target = folders[folder]
                worker.copy_names(folder, Folder(*source), Folder(*target), names.split("/"))
        return (pack.finish(), *worker.outcome())


class _Worker:
    """Copies files, one after the other."""

    def __init__(self, pack: PackWriter, options: CopyOptions) -> None:
        self._pack = pack
        self._files = FileCopier(options, pack.room)
        self._xattrs = options.xattrs
        self._numbers: list[int] = []
        self._names: list[bytes] = []
        self._others: list[tuple[bytes, tuple[Any, ...]]] = []
        self._left: list[tuple[int, str]] = []
        self._bytes = 0

    def outcome(self) -> tuple[Any, ...]:
        """Return what became of the files, as `StoringCopier.copy` takes it apart."""
        numbers, names = pack_numbers(self._numbers), b"".join(self._names)
        return numbers, names, self._others, self._left, self._bytes, list(self._files.refused)

    def copy_names(self, folder: int, source: Folder, target: Folder, names: list[str]) -> None:
        """Copy files of one directory. What fails is left to our parent, who will see why, and can tell."""
        try:
            with _opened(source) as origin, _opened(target) as destination:
                inherits = self._xattrs and xattr.gives_acl(destination)
                self._left += [(folder, name) for name in names if not self._copy(name, origin, destination, inherits)]
        except OSError:
            self._left += [(folder, name) for name in names]

    def _copy(self, name: str, origin: int, destination: int, inherits: bool) -> bool:
        """Copy a file, if it is an ordinary one; return whether that was possible."""
        try:
            source = os.open(name, OPEN_SOURCE, dir_fd=origin)
        except OSError:
            return False
        try:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > _LONGEST:
                return False
            target = self._files.create(name, destination, status)
            try:
                self._fill(source, target, status, inherits)
            except OSError:
                os.unlink(name, dir_fd=destination)
                return False
            finally:
                os.close(target)
        except OSError:
            return False
        finally:
            os.close(source)
        return True

    def _fill(self, source: int, target: int, status: os.stat_result, inherits: bool) -> None:
        data = self._files.copy_content(source, target, status)
        copied, has_attributes = self._files.copy_metadata(source, target, status)
        has_attributes = has_attributes or inherits
        if data is not None and len(data) < LARGE:
            blob = self._pack.add_in_room(data)
            other = Copied(blob, has_attributes=True) if has_attributes else None
        else:
            other = self._stored(target, data, copied)._replace(has_attributes=has_attributes)
            blob = other.name
        # Not before all has gone well.
        self._bytes += status.st_size
        if other is None:
            self._numbers += numbers_of(copied)
            self._names.append(blob)
        else:
            self._others.append((pack_numbers(numbers_of(copied)), tuple(other)))

    def _stored(self, target: int, data: memoryview | None, status: os.stat_result) -> Copied:
        """Store a content that may be a large one, or is not at hand."""
        content = content_of(status)
        # Who claims large files comes later: those that would be, are only named, and if need be read again.
        content.is_candidate = status.st_size >= LARGE and bool(status.st_mode & stat.S_IRUSR)
        if data is None:
            read_open(target, content, self._pack)
        elif content.is_candidate and not is_text(data):
            content.name = content.large = identify(BLOB, data)
        else:
            content.name = self._pack.add_in_room(data)
        return Copied(content.name, bool(content.large), extents=content.extents)


def adopt(copied: Copied, content: Content) -> None:
    """Take over what is known of a copy."""
    content.name, content.extents = copied.name, copied.extents
    if copied.is_large:
        content.large = copied.name.hex().encode()


@contextlib.contextmanager
def _opened(folder: Folder) -> Iterator[int]:
    descriptor = folder.open()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _divide(deferred: Sequence[Deferred]) -> list[list[tuple[int, str]]]:
    """Divide files into parts: for each directory the names that belong to it, joined by slashes."""
    total = sum(len(folder.names) for folder in deferred)
    limit = max(_PART_FILES, -(-total // workers.MAXIMUM_PARTS))
    parts: list[list[tuple[int, str]]] = [[]]
    room = limit
    for number, folder in enumerate(deferred):
        start = 0
        while start < len(folder.names):
            if not room:
                parts.append([])
                room = limit
            names = folder.names[start : start + room]
            parts[-1].append((number, "/".join(names)))
            start += len(names)
            room -= len(names)
    return parts


def _table(chmod: Chmod) -> bytes:
    """Return the permissions of copies for all that regular files can have: workers cannot be given a function."""
    return array("H", [chmod(stat.S_IFREG | bits) for bits in range(_MODES)]).tobytes()


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]
