"""Unpack layers into a directory: members become files.

Safe by construction: every path is resolved in memory (`tree.py`), what is written is named by a single component
relative to the descriptor of a real directory, and symbolic links are made last. What an ordinary user cannot or
should not make is left out and counted: devices, FIFOs, owners, setuid and setgid bits, capabilities.

What is on the disk, and how, is the matter of `disk.py`; the order of layers and members, and what they mean, is here.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, LayerError
from chimage_core.image.digest import Readable
from chimage_core.layer.disk import Disk
from chimage_core.layer.header import Kind, Member, members
from chimage_core.layer.report import UnpackReport
from chimage_core.layer.stream import BlockStream
from chimage_core.layer.tree import Directory, File, Skipped, Symlink, Tree, shown, split

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
    rename: Callable[[bytes, Kind], bytes | None] | None = None
    """Gives the name in the image of each name in the archive (None: leave the member out); for hard links, also of
    their targets."""
    lower: str | None = None
    """Root of an image that is there already and will be united with what is unpacked: names lead through its links,
    and its directories keep their metadata unless a member says what they are. It is only read."""
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
    options = options or UnpackOptions()
    tree, report = Tree(options.lower), UnpackReport()
    with Disk(destination, tree.root, report, xattrs=options.xattrs) as disk:
        extractor = _Extractor(tree, disk, report, options, cancel)
        for layer in layers:
            extractor.add(layer)
        disk.finish()
    return report


class _Extractor:
    """One image being unpacked."""

    def __init__(
        self, tree: Tree, disk: Disk, report: UnpackReport, options: UnpackOptions, cancel: CancelToken
    ) -> None:
        self.report = report
        self._tree = tree
        self._disk = disk
        self._options = options
        self._cancel = cancel
        self._layer = -1
        self._file = File(-1)

    def add(self, layer: Readable) -> None:
        """Unpack one more layer over those before."""
        self._layer += 1
        self._file = File(self._layer)
        limit = self._options.max_bytes
        stream = BlockStream(layer, limit=self._disk.free() + _SLACK if limit is None else limit, cancel=self._cancel)
        try:
            self._add_members(stream)
        except LayerError:
            with suppress(LayerError):
                stream.drain()  # Raises IntegrityError if the archive is not the promised one, which explains more.
            raise
        stream.drain()

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
                name = rename(member.name, member.kind)
                if name is None:
                    continue
                member = member._replace(name=name)
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
        self._disk.write_file(member, parent, name, stream)
        parent.children[name] = self._file
        self.report.bytes += member.size
        if member.mode & 0o6000:
            self.report.setuid += 1

    def _add_directory(self, member: Member, parent: Directory, name: bytes) -> None:
        node = self._tree.child(parent, name) if name else parent
        if type(node) is not Directory:
            self._clear(parent, name)
            node = parent.children[name] = Directory(parent, name, self._layer, member.mtime)
        node.layer = self._layer
        node.is_declared = True
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
        rename = self._options.rename
        target = member.link if rename is None else rename(member.link, Kind.LINK) or b""
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
            self._disk.link(source, last, parent, name, self._cancel)
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
            self._disk.remove(tree.hide_all(directory, layer) if hide_all else tree.hide(directory, hidden, layer))
        return True

    def _clear(self, parent: Directory, name: bytes) -> None:
        """Free a name. What was there is unlinked and never written to: other names may link to it."""
        if not name:
            raise LayerError("archive has a member that would replace the image's root directory")
        node = self._tree.detach(parent, name)
        if node is not None:
            self._disk.remove([(parent, name, node)])
