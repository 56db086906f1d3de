"""Make files from the cache: a whole image into a new directory, by several processes.

The order matters: first all directories, writable for us; then files, FIFOs and symbolic links; then hard links, which
may span directories and workers, and large files that cannot be linked; last the metadata of directories, from the
deepest up, since making an entry changes the time of its directory. The new directory is private until it is complete,
and every file is made with O_EXCL and O_NOFOLLOW relative to an open directory, so no symbolic link of the image can
lead us elsewhere.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from chimage_core.cache.git import metadata, statcache, workers
from chimage_core.cache.git.large import LargeStore, link_large
from chimage_core.cache.git.metadata import Entry
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.statcache import DIRECTORY_NUMBERS, Record, numbers_of, own_numbers, pack_numbers
from chimage_core.cache.git.trees import Directory, RawDirectory, decode_directory, join, load_raw
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, file_errors
from chimage_core.fs.xattr import AttributeWriter

_PART_FILES = 96
_FEW_FILES = 200
_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_YET = pack_numbers((0, 0, 0, 0))


@dataclass(slots=True)
class _Folder:
    """A directory to be made."""

    path: bytes
    raw: RawDirectory
    files: int


@dataclass(frozen=True, slots=True)
class Filled:
    """A tree whose directories still lack their metadata."""

    target: str
    folders: list[_Folder]
    """Parents first; paths are relative to `target`."""
    records: dict[bytes, Record]


@dataclass(frozen=True, slots=True)
class Materializer:
    """Makes directories of a repository's trees."""

    objects: str
    """The `objects` directory of the repository."""
    store: ObjectStore
    large: LargeStore
    xattrs: AttributeWriter
    workers: int
    cancel: CancelToken

    def make(self, tree: bytes, target: str) -> dict[bytes, Record]:
        """Make the tree as `target`, an existing empty directory; return its stat records.

        Raises FileError, CacheBroken, NotInCache, Cancelled; what was made so far stays, for the caller to remove.
        """
        return self.finish(self.fill(tree, target, {}))

    def fill(self, tree: bytes, target: str, first: dict[int, bytes], top: bytes = b"") -> "Filled":
        """Do what `make` does but for the metadata of directories: until `finish`, all of them can be entered.

        The tree is that of the empty directory `top` in the image `target`. `first` has, by hard link group, a file
        outside of the tree that belongs to the group; it is completed.
        """
        root = os.fsencode(target)
        with file_errors("write image", target):
            folders = self._make_folders(tree, root, top)
            records, late = self._make_files(folders, root)
            if late:
                self._make_late(root, [folder for folder in folders if folder.path in late], records, first)
        return Filled(target, folders, records)

    def finish(self, filled: "Filled") -> dict[bytes, Record]:
        """Give all directories their metadata; return the stat records. Raises as `make` does."""
        records, root = filled.records, os.fsencode(filled.target)
        with file_errors("write image", filled.target):
            for folder in reversed(filled.folders):
                own = finish_directory(root + b"/" + folder.path, folder.raw.own, self.xattrs)
                _, names, numbers = records[folder.path]
                records[folder.path] = own, names, numbers
        return records

    def _make_folders(self, tree: bytes, root: bytes, top: bytes) -> list[_Folder]:
        """Make all directories; return them, parents first."""
        folders = []
        pending = [(top, tree)]
        while pending:
            path, folder_tree = pending.pop()
            raw, below, files = load_raw(self.store, folder_tree)
            if path != top:
                os.mkdir(root + b"/" + path, 0o700)
            folders.append(_Folder(path, raw, files))
            pending += [(join(path, name), child) for name, child in below.items()]
        return folders

    def _make_files(self, folders: list[_Folder], root: bytes) -> tuple[dict[bytes, Record], set[bytes]]:
        """Make what can be made by workers; return the records, and the directories that still lack something."""
        parts: list[list[tuple[bytes, ...]]] = [[]]
        total = sum(folder.files for folder in folders)
        size = max(_PART_FILES, total // (workers.MAXIMUM_PARTS // 2))
        count = 0
        for folder in folders:
            if count >= size and len(parts) < workers.MAXIMUM_PARTS:
                parts.append([])
                count = 0
            parts[-1].append((folder.path, *folder.raw))
            count += folder.files + 1
        processes = 1 if total < _FEW_FILES else self.workers
        links = self.large.linkable if any(folder.raw.has_large for folder in folders) else None
        payload = (self.objects, root, self.xattrs.is_on, links, parts)
        answers = workers.run(make_files, payload, len(parts), processes, self.cancel)
        for _, _, refused in answers:
            self.xattrs.refused.update(refused)
        made = {path: (b"", names, numbers) for records, _, _ in answers for path, names, numbers in records}
        return made, {path for _, late, _ in answers for path in late}

    def _make_late(
        self, root: bytes, folders: list[_Folder], records: dict[bytes, Record], first: dict[int, bytes]
    ) -> None:
        """Make what is missing in some directories, and put its numbers into the records."""
        made: list[tuple[bytes, list[bytes]]] = []
        for folder in sorted(folders, key=lambda folder: folder.path):
            directory = decode_directory(folder.raw)
            names = [name for name, numbers in statcache.entries(records[folder.path]).items() if numbers == _NOT_YET]
            for name in names:
                self.cancel.check()
                entry = metadata.parse_line(directory.lines[name])
                make_late(self, root, folder.path, entry, directory.contents.get(name), first)
            made.append((folder.path, names))
        # Only now, since every further link changes the ctime of all.
        for path, names in made:
            listing = statcache.entries(records[path])
            for name in names:
                listing[name] = pack_numbers(numbers_of(os.lstat(root + b"/" + join(path, name))))
            records[path] = statcache.make_record(records[path][0], listing)


def make_late(
    maker: Materializer, root: bytes, folder: bytes, entry: Entry, content: bytes | None, first: dict[int, bytes]
) -> None:
    """Make any entry of a directory: of a hard link group, a link to the first of them, or that first one."""
    full = root + b"/" + join(folder, entry.name)
    if entry.link is not None and entry.link in first:
        os.link(first[entry.link], full, follow_symlinks=False)
        return
    parent = root + b"/" + folder
    descriptor = os.open(parent, OPEN_DIRECTORY)
    try:
        if entry.large:
            maker.large.place(entry, join(folder, entry.name), descriptor, maker.xattrs)
        else:
            make_entry(maker.store, descriptor, parent, entry, content, maker.xattrs)
    finally:
        os.close(descriptor)
    if entry.link is not None:
        first[entry.link] = full


def make_files(payload: Any, numbers: Iterator[int]) -> Any:
    """Make the files of some directories (a task of `workers`).

    Returns their stat records, as lists, the directories that lack something, and the names of attributes that were
    refused.
    """
    objects, root, is_on, links, parts = payload
    filler = _Filler(ObjectStore(objects), root, AttributeWriter(is_on=is_on), links)
    records, late = [], []
    for number in numbers:
        for path, *raw in parts[number]:
            with file_errors("write image directory", os.fsdecode(root + b"/" + path)):
                listing = filler.fill(path, decode_directory(RawDirectory(*raw)))
            records.append((path, *statcache.make_record(b"", listing)[1:]))
            if _NOT_YET in listing.values():
                late.append(path)
        filler.store.release()
    return records, late, list(filler.xattrs.refused)


class _Filler(NamedTuple):
    """Makes the entries of directories."""

    store: ObjectStore
    root: bytes
    xattrs: AttributeWriter
    links: str | None
    """Directory of the large files that may be linked; None: none may."""

    def fill(self, path: bytes, directory: Directory) -> dict[bytes, bytes]:
        """Make the entries of a directory but for what is made earlier or later; return the numbers of all."""
        listing = dict.fromkeys(directory.folders, _DIRECTORY)
        full = self.root + b"/" + path
        descriptor = os.open(full, OPEN_DIRECTORY)
        try:
            for name, line in directory.lines.items():
                entry = metadata.parse_line(line)
                status = None
                if entry.link is None:
                    if not entry.large:
                        content = directory.contents.get(name)
                        status = make_entry(self.store, descriptor, full, entry, content, self.xattrs)
                    elif self.links is not None:
                        status = link_large(self.links, entry, join(path, name), descriptor, self.xattrs)
                listing[name] = _NOT_YET if status is None else pack_numbers(numbers_of(status))
        finally:
            os.close(descriptor)
        return listing


_DIRECTORY = pack_numbers(DIRECTORY_NUMBERS)


def make_entry(
    store: ObjectStore, directory: int, full: bytes, entry: Entry, content: bytes | None, xattrs: AttributeWriter
) -> os.stat_result:
    """Make a file, symbolic link or FIFO in an open directory (whose path is `full`); return its status."""
    name = entry.name
    if entry.kind == "f":
        return _make_file(store, directory, entry, content or b"", xattrs)
    times = (entry.mtime, entry.mtime)
    if entry.kind == "l":
        target = b"".join(store.chunks(content or b""))
        if not target or b"\0" in target:
            raise CacheBroken(f"malformed symbolic link in the build cache: {os.fsdecode(full + b'/' + name)}")
        os.symlink(target, name, dir_fd=directory)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
    else:
        os.mkfifo(name, 0o600, dir_fd=directory)
        if xattrs.is_on and entry.xattrs:
            xattrs.write(full + b"/" + name, entry.xattrs)
        os.chmod(name, entry.mode, dir_fd=directory)
        os.utime(name, ns=times, dir_fd=directory)
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def finish_directory(full: bytes, own: bytes, xattrs: AttributeWriter, *, exact: bool = False) -> bytes:
    """Give a directory its metadata; return its own stat numbers.

    `exact`: it was there before, and may have attributes that it must not have.
    """
    entry = metadata.parse_line(own)
    if xattrs.is_on and (entry.xattrs or exact):
        xattrs.write(full, entry.xattrs, exact=exact)
    os.chmod(full, entry.mode)  # Always: a new directory inherits the setgid bit.
    os.utime(full, ns=(entry.mtime, entry.mtime))
    return own_numbers(os.lstat(full))


def _make_file(
    store: ObjectStore, directory: int, entry: Entry, content: bytes, xattrs: AttributeWriter
) -> os.stat_result:
    attributes = entry.xattrs if xattrs.is_on else ()
    # Attributes can only be set while the file is writable; the right mode from the start saves a system call.
    mode = 0o600 if attributes else entry.mode & 0o777
    descriptor = os.open(entry.name, _OPEN_NEW, mode, dir_fd=directory)
    try:
        if entry.extents is None:
            data = store.small(content)
            for chunk in store.chunks(content) if data is None else (data,):
                write_all(descriptor, chunk)
        else:
            write_extents(descriptor, store.chunks(content), entry.extents, entry.size)
        if attributes:
            xattrs.write(descriptor, attributes)
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) != entry.mode:
            os.fchmod(descriptor, entry.mode)
            status = os.fstat(descriptor)
        return status
    finally:
        os.close(descriptor)


def write_extents(descriptor: int, chunks: Iterator[bytes], extents: tuple[tuple[int, int], ...], size: int) -> None:
    """Write the parts of a sparse file where they belong, and leave holes between."""
    os.ftruncate(descriptor, size)
    data = memoryview(b"")
    for offset, length in extents:
        end = offset + length
        while offset < end:
            data = data or memoryview(next(chunks, b""))
            count = os.pwrite(descriptor, data[: end - offset], offset)
            if count == 0:
                raise CacheBroken("a sparse file in the build cache lacks data")
            data = data[count:]
            offset += count


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data` to a descriptor. Raises OSError."""
    written = os.write(descriptor, data) if data else 0
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])
