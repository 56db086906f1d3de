"""Unpack layers into a directory: members become files.

Safe by construction: every path is resolved in memory (`tree.py`), what is written is named by a single component
relative to the descriptor of a real directory, and symbolic links are made last. What an ordinary user cannot or
should not make is left out and counted: devices, FIFOs, owners, setuid and setgid bits, capabilities.

Directories are private (0700) while we work in them; their modes and times come at the end, deepest first.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, LayerError
from chimage_core.fs import xattr
from chimage_core.fs.descend import OPEN_DIRECTORY
from chimage_core.fs.remove import remove_at
from chimage_core.image.digest import Readable
from chimage_core.layer.header import Kind, Member, members
from chimage_core.layer.report import UnpackReport
from chimage_core.layer.stream import BlockStream
from chimage_core.layer.tree import Directory, File, Node, Removed, Skipped, Symlink, Tree, shown, split

_OPEN_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 256
"""Directories kept open. Archives are in the order of directories, so more than 95 % of lookups hit (measured)."""
_SLACK = 64 << 20
"""Bytes by which an archive may be larger than the free space: headers and padding are not written."""

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
"""Book-keeping of aufs, which old images contain: to be ignored."""
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackOptions:
    """How to unpack."""

    xattrs: bool = True
    """Keep `user.*` attributes."""
    whiteouts: bool = True
    """Names `.wh.*` delete what lower layers have put; else they are names like others."""
    rename: Callable[[bytes, Kind], bytes] | None = None
    """Gives the name in the image of each name in the archive; for hard links, also of their targets."""
    max_members: int = 20_000_000
    """Per layer. The largest images in the wild have a few million."""
    max_bytes: int | None = None
    """Per layer, plain; None: what is free where it is unpacked."""


def unpack(
    layers: Iterable[Readable], destination: str, options: UnpackOptions | None = None, *, cancel: CancelToken
) -> UnpackReport:
    """Unpack the layers of an image, lowest first, into `destination`, an empty directory made by the caller.

    Each layer is read to its end, so that readers that verify have checked everything when this returns. On any
    error the content of `destination` is for the caller to remove; nothing outside of it is ever written. Raises
    LayerError, IntegrityError, FileError, Cancelled.
    """
    with _Extractor(destination, options or UnpackOptions(), cancel) as extractor:
        for layer in layers:
            extractor.add(layer)
        extractor.finish()
        return extractor.report


class _Extractor:
    """One image being unpacked."""

    def __init__(self, destination: str, options: UnpackOptions, cancel: CancelToken) -> None:
        self.report = UnpackReport()
        self._destination = destination
        self._options = options
        self._cancel = cancel
        self._tree = Tree()
        self._layer = -1
        self._file = File(-1)
        self._opened: deque[Directory] = deque()
        root = self._tree.root
        root.is_made = True
        try:
            root.fd = os.open(destination, OPEN_DIRECTORY)
            self._cut = _mode_cut(root.fd)
        except OSError as error:
            raise FileError("unpack into", destination, error) from error

    def __enter__(self) -> "_Extractor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for directory in self._opened:
            self._close(directory)
        self._close(self._tree.root)

    def add(self, layer: Readable) -> None:
        """Unpack one more layer over those before."""
        self._layer += 1
        self._file = File(self._layer)
        stream = BlockStream(layer, limit=self._room(), cancel=self._cancel)
        try:
            self._add_members(stream)
        except LayerError:
            with suppress(LayerError):
                stream.drain()  # Raises IntegrityError if the archive is not the promised one, which explains more.
            raise
        stream.drain()

    def finish(self) -> None:
        """Make the symbolic links, and give directories their modes, times and attributes."""
        for directory in reversed(list(self._tree.root.descendants())):  # Deepest first.
            try:
                self._finish_directory(directory)
            except OSError as error:
                raise FileError("unpack directory", shown(directory.name), error) from error

    # Members

    def _add_members(self, stream: BlockStream) -> None:
        report, rename = self.report, self._options.rename
        first = report.members
        for member in members(stream):
            report.members += 1
            if report.members - first > self._options.max_members:
                raise LayerError(f"archive has more than {self._options.max_members} members")
            if member.name.startswith(b"/"):
                if not report.absolute:
                    report.warn(f"absolute names are taken as relative to the image, such as: {shown(member.name)}")
                report.absolute += 1
            if rename is not None:
                member = member._replace(name=rename(member.name, member.kind))
            try:
                self._add_member(member, stream)
            except OSError as error:
                raise FileError("unpack", shown(member.name), error) from error

    def _add_member(self, member: Member, stream: BlockStream) -> None:
        head, _, name = member.name.rpartition(b"/")
        if name in (b"", b".", b".."):
            parts = split(member.name)
            name = parts.pop() if parts else b""
            head = b"/".join(parts)
        if self._options.whiteouts and _WHITEOUT in member.name and self._whiteout(head, name):
            return
        parent = self._tree.locate(head, self._layer, member.mtime)
        if parent.is_dev:
            self.report.below_dev += 1
            return
        self._tree.check_name(parent, name)
        kind = member.kind
        if kind is Kind.FILE:
            self._add_file(member, parent, name, stream)
        elif kind is Kind.DIRECTORY:
            self._add_directory(member, parent, name)
        elif kind is Kind.SYMLINK:
            self._add_symlink(member, parent, name)
        elif kind is Kind.LINK:
            self._add_link(member, parent, name)
        else:
            self._skip(member, parent, name)

    def _add_file(self, member: Member, parent: Directory, name: bytes, stream: BlockStream) -> None:
        self._clear(parent, name)
        mode = member.mode & 0o777 | 0o600
        fd = os.open(name, _OPEN_FILE, mode, dir_fd=parent.fd if parent.fd >= 0 else self._open(parent))
        try:
            if member.sparse is None:
                stream.write_to(fd, member.size)
            else:
                for offset, length in member.sparse.extents:
                    os.lseek(fd, offset, os.SEEK_SET)
                    stream.write_to(fd, length)
                os.ftruncate(fd, member.sparse.size)
            if member.xattrs:
                self._write_xattrs(fd, member.xattrs)
            if mode & self._cut:
                os.fchmod(fd, mode)
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)
        parent.children[name] = self._file
        self.report.bytes += member.size
        if member.mode & 0o6000:
            self.report.setuid += 1

    def _add_directory(self, member: Member, parent: Directory, name: bytes) -> None:
        node = parent.children.get(name) if name else parent
        if type(node) is not Directory:
            self._clear(parent, name)
            node = parent.children[name] = Directory(parent, name, self._layer, member.mtime)
        node.layer = self._layer
        node.mode = member.mode & 0o1777 | 0o700
        node.mtime = member.mtime
        node.xattrs = dict(member.xattrs) if member.xattrs else None
        if member.mode & 0o6000:
            self.report.setuid += 1

    def _add_symlink(self, member: Member, parent: Directory, name: bytes) -> None:
        if not member.link:
            raise LayerError(f"archive has a symbolic link to nothing: {shown(member.name)}")
        if len(member.link) > 4095:
            raise LayerError(f"archive has a symbolic link to a path of {len(member.link)} bytes: {shown(member.name)}")
        self._clear(parent, name)
        parent.children[name] = Symlink(self._layer, member.link, member.mtime)

    def _add_link(self, member: Member, parent: Directory, name: bytes) -> None:
        """Make a hard link. Only to what an earlier member, maybe of a lower layer, has put into this image."""
        target = member.link if self._options.rename is None else self._options.rename(member.link, Kind.LINK)
        *ancestors, last = split(target) or [b""]
        source = self._tree.find(b"/".join(ancestors))
        node = source.children.get(last) if source is not None else None
        if source is not None and source.is_dev:
            self.report.below_dev += 1
        elif source is None or node is None or type(node) is Directory or (source is parent and last == name):
            raise LayerError(
                f"archive has a hard link to no earlier file of this image: {shown(member.name)} to {shown(target)}"
            )
        elif type(node) is Skipped:
            self._skip(member, parent, name)
        else:
            self._clear(parent, name)
            if type(node) is Symlink:
                parent.children[name] = Symlink(self._layer, node.target, node.mtime)
                return
            held = os.dup(self._open(source))  # Opening the other may close this one.
            try:
                os.link(last, name, src_dir_fd=held, dst_dir_fd=self._open(parent), follow_symlinks=False)
            finally:
                os.close(held)
            parent.children[name] = self._file

    def _skip(self, member: Member, parent: Directory, name: bytes) -> None:
        """Leave out a device or FIFO, or a hard link to one."""
        if member.kind in _DEVICES:
            self.report.devices += 1
        elif member.kind is Kind.FIFO:
            self.report.fifos += 1
        node = parent.children.get(name)
        if node is None or type(node) is Skipped:
            parent.children[name] = Skipped(self._layer)
        else:
            self.report.warn(f"{member.kind.value} was not unpacked, what was there before stays: {shown(member.name)}")

    # Whiteouts

    def _whiteout(self, head: bytes, name: bytes) -> bool:
        """Apply the whiteout that a member is; return False if it is none."""
        for part in head.split(b"/"):
            if part.startswith(_AUFS):
                return True
            if part.startswith(_WHITEOUT):
                raise LayerError(f"archive has a whiteout with something below it: {shown(head + b'/' + name)}")
        if not name.startswith(_WHITEOUT):
            return False
        hidden = name[len(_WHITEOUT) :]
        if name.startswith(_AUFS) and name != _OPAQUE:
            return True
        if hidden in (b"", b".", b".."):
            raise LayerError(f"archive has a whiteout of no name: {shown(head + b'/' + name)}")
        self.report.whiteouts += 1
        directory = self._tree.find(head)
        if directory is not None:
            hide_all = name == _OPAQUE
            tree, layer = self._tree, self._layer
            self._remove(tree.hide_all(directory, layer) if hide_all else tree.hide(directory, hidden, layer))
        return True

    # The disk

    def _clear(self, parent: Directory, name: bytes) -> None:
        """Free a name. What was there is unlinked and never written to: other names may link to it."""
        if not name:
            raise LayerError("archive has a member that would replace the image's root directory")
        node = self._tree.detach(parent, name)
        if node is not None:
            self._remove([(parent, name, node)])

    def _remove(self, removed: Iterable[Removed]) -> None:
        for parent, name, node in removed:
            if type(node) is Directory:
                for directory in node.descendants():
                    self._close(directory)
            if _is_on_disk(node):
                remove_at(name, self._open(parent))

    def _open(self, directory: Directory) -> int:
        """Return the descriptor of a directory, made if it is missing. Others that are opened may close it."""
        missing = []
        while directory.fd < 0:
            missing.append(directory)
            directory = directory.parent
        fd = directory.fd
        for below in reversed(missing):
            if not below.is_made:
                os.mkdir(below.name, 0o700, dir_fd=fd)
                if self._cut & 0o700:
                    os.chmod(below.name, 0o700, dir_fd=fd)
                below.is_made = True
            fd = below.fd = os.open(below.name, OPEN_DIRECTORY, dir_fd=fd)
            self._opened.append(below)
            if len(self._opened) > _KEPT_OPEN:
                self._close(self._opened.popleft())
        return fd

    @staticmethod
    def _close(directory: Directory) -> None:
        if directory.fd >= 0:
            os.close(directory.fd)
            directory.fd = -1

    def _finish_directory(self, directory: Directory) -> None:
        fd = self._open(directory)
        for name, node in directory.children.items():
            if type(node) is Symlink:
                os.symlink(node.target, name, dir_fd=fd)
                os.utime(name, ns=(node.mtime, node.mtime), dir_fd=fd, follow_symlinks=False)
        if directory.xattrs:
            self._write_xattrs(fd, directory.xattrs)
        os.fchmod(fd, directory.mode)
        os.utime(fd, ns=(directory.mtime, directory.mtime))

    def _write_xattrs(self, fd: int, attributes: Mapping[str, bytes]) -> None:
        if xattr.CAPABILITY in attributes:
            self.report.capabilities += 1
        if self._options.xattrs:
            kept = {name: value for name, value in attributes.items() if xattr.is_kept(name) and name[:5] == "user."}
            self.report.refused_xattrs += len(xattr.write(fd, kept))

    def _room(self) -> int:
        if self._options.max_bytes is not None:
            return self._options.max_bytes
        status = os.fstatvfs(self._tree.root.fd)
        return status.f_bavail * status.f_frsize + _SLACK


def _is_on_disk(node: Node) -> bool:
    return type(node) is File or (type(node) is Directory and node.is_made)


def _mode_cut(directory: int) -> int:
    """Return the permission bits that new files do not get, by the umask or the directory's default ACL.

    Found by trying: reading the umask means changing it, for all threads.
    """
    probe = ".chimage-probe"
    fd = os.open(probe, _OPEN_FILE, 0o777, dir_fd=directory)
    try:
        return 0o777 & ~os.fstat(fd).st_mode
    finally:
        os.close(fd)
        os.unlink(probe, dir_fd=directory)
