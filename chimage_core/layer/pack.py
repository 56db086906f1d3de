"""Pack an image into a layer: one reproducible archive, compressed, with its digests, in one pass and bounded memory.

The same tree gives the same bytes, whoever packs it and whenever: names are in bytewise order, a directory is before
what is in it, and nothing of owners, inode numbers or access times gets in. What has no place in a layer is left out
and counted: sockets, devices, and names `.wh.*`, which would delete something.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError
from chimage_core.events import Sink, Warned
from chimage_core.fs import xattr
from chimage_core.fs.contents import data_extents
from chimage_core.fs.entry import Entry, EntryKind
from chimage_core.fs.tree import FileInfo, walk
from chimage_core.layer.compress import BlockCompressor, Compression, PackedStream
from chimage_core.layer.write import WHITEOUT, TarWriter, changed
from chimage_core.rootfs.metadata import PRIVATE, PRIVATE_TOPS

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PACKED = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO)
_NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})
_NAMED = 5


@dataclass(slots=True)
class PackReport:
    """What was left out."""

    sockets: int = 0
    devices: int = 0
    whiteouts: int = 0
    """Names that would be whiteouts."""
    named: list[str] = field(default_factory=list)
    """The first of these."""

    def leave_out(self, path: str) -> None:
        """Remember a name, if it is one of the first."""
        if len(self.named) < _NAMED:
            self.named.append(path)


def tell(report: PackReport, emit: Sink) -> None:
    """Say what was left out."""
    if report.sockets or report.devices:
        emit(Warned(text=f"sockets and devices left out: {report.sockets + report.devices} ({_named(report)})"))
    if report.whiteouts:
        emit(Warned(text=f"files that would be whiteouts left out: {report.whiteouts} ({_named(report)})"))


def _named(report: PackReport) -> str:
    return ", ".join(report.named)


def pack(
    entries: Iterable[Entry],
    write: Callable[[bytes], object],
    compression: Compression,
    *,
    latest: int | None = None,
    cancel: CancelToken,
) -> PackedStream:
    """Write entries as one archive; `write` takes the compressed bytes. `latest`: as for TarWriter.

    Raises LayerError for a file that changes meanwhile, FileError, DependencyMissing, Cancelled, and what `write`
    raises.
    """
    with BlockCompressor(write, compression, cancel=cancel) as compressor:
        writer = TarWriter(compressor.add, compressor.block_size, latest=latest)
        for entry in entries:
            writer.write(entry)
        writer.finish()
        return compressor.finish()


def without_whiteouts(entries: Iterable[Entry], report: PackReport) -> Iterator[Entry]:
    """Give the entries but those whose names would be whiteouts in a layer; these are reported."""
    for entry in entries:
        if WHITEOUT in entry.path and _has_whiteout(entry.path):
            report.whiteouts += 1
            report.leave_out(os.fsdecode(entry.path))
        else:
            yield entry


def rootfs_entries(
    root: str, report: PackReport, *, xattrs: bool, is_layer: bool = True, cancel: CancelToken
) -> Iterator[Entry]:
    """Give what a layer of the image in `root` has: all but the root itself, what is PRIVATE, and what is reported.

    What is no layer, but an archive of files, keeps what is private, and names like whiteouts. With `xattrs`, files and
    directories have their `user.*` attributes. Raises LayerError for a file that changes while it is the last one
    given, FileError, Cancelled.
    """
    source = _Rootfs(root, report, xattrs=xattrs, is_layer=is_layer)
    private = _private(root) if is_layer else frozenset()
    for info in walk(root, cancel=cancel):
        path = os.fsencode(info.path)
        if not path or path in private:
            continue
        try:
            entry = source.entry(path, info)
        except OSError as error:
            raise FileError("pack", os.path.join(root, info.path), error) from error
        if entry is None:
            continue
        if isinstance(entry.content, bytes):
            yield entry
            continue
        try:
            yield entry
            _verify(entry, entry.content, info)
        finally:
            os.close(entry.content)


def _verify(entry: Entry, descriptor: int, info: FileInfo) -> None:
    """Raise LayerError unless a file is still what it was when the directory was read."""
    before, now = info.status, os.fstat(descriptor)
    # Not its ctime, which others change who make hard links to it.
    if (now.st_size, now.st_mtime_ns, now.st_ino) != (entry.size, entry.mtime, before.st_ino):
        raise changed(entry.path)


def _private(root: str) -> frozenset[bytes]:
    """Return what a layer leaves out. The directory goes, too, if nothing else is in it: it is as new as its files."""
    names = {os.path.basename(path) for path in PRIVATE}
    directory = os.path.join(os.fsencode(root), b"ch")
    with contextlib.suppress(OSError):
        if not os.path.islink(directory) and names.issuperset(os.listdir(directory)):
            return PRIVATE | PRIVATE_TOPS
    return PRIVATE


class _Rootfs:
    """An unpacked image that is being read."""

    def __init__(self, root: str, report: PackReport, *, xattrs: bool, is_layer: bool) -> None:
        self._root = root
        self._report = report
        self._xattrs = xattrs
        self._is_layer = is_layer
        self._linked: dict[tuple[int, int], bytes] = {}
        """By inode, the first path of what has several."""

    def entry(self, path: bytes, info: FileInfo) -> Entry | None:
        """Return the entry, if it has a place in a layer; its descriptor is for the caller to close. Raises OSError."""
        status, report = info.status, self._report
        kind, mode, mtime = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if self._is_layer and WHITEOUT in path and _has_whiteout(path):
            report.whiteouts += 1
        elif kind == stat.S_IFDIR:
            return Entry(path, EntryKind.DIRECTORY, mode, mtime, xattrs=self._directory_xattrs(info))
        elif kind in _PACKED:
            if status.st_nlink > 1:
                first = self._linked.setdefault((status.st_dev, status.st_ino), path)
                if first is not path:
                    return Entry(path, EntryKind.LINK, mode, mtime, target=first)
            if kind == stat.S_IFREG:
                return self._file(path, info)
            if kind == stat.S_IFLNK:
                target = os.fsencode(os.readlink(info.name, dir_fd=info.directory))
                return Entry(path, EntryKind.SYMLINK, 0o777, mtime, target=target)
            return Entry(path, EntryKind.FIFO, mode, mtime)
        elif kind == stat.S_IFSOCK:
            report.sockets += 1
        else:
            report.devices += 1
        report.leave_out(info.path)
        return None

    def _file(self, path: bytes, info: FileInfo) -> Entry:
        status = info.status
        size = status.st_size
        descriptor = os.open(info.name, _OPEN, dir_fd=info.directory)
        try:
            attributes = _user_xattrs(descriptor) if self._xattrs else _NO_XATTRS
            extents = None
            if status.st_blocks * 512 < size:
                extents = tuple(_lengths(descriptor, size))
                os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        mode = stat.S_IMODE(status.st_mode)
        return Entry(path, EntryKind.FILE, mode, status.st_mtime_ns, size, b"", attributes, extents, descriptor)

    def _directory_xattrs(self, info: FileInfo) -> Mapping[str, bytes]:
        if not self._xattrs:
            return _NO_XATTRS
        descriptor = os.open(info.name, _OPEN | os.O_DIRECTORY, dir_fd=info.directory)
        try:
            return _user_xattrs(descriptor)
        finally:
            os.close(descriptor)


def _has_whiteout(path: bytes) -> bool:
    return any(part.startswith(WHITEOUT) for part in path.split(b"/"))


def _user_xattrs(descriptor: int) -> Mapping[str, bytes]:
    attributes = xattr.read(descriptor)
    return {name: value for name, value in attributes.items() if name.startswith("user.")} if attributes else attributes


def _lengths(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    for start, end in data_extents(descriptor, size):
        yield start, end - start
