"""The image as a tree in memory, while layers are unpacked.

Every path of every member is resolved here and never by the kernel, and symbolic links reach the disk last. So no
archive can make us write outside of the image, whatever its links say: there is nothing to follow. The tree also
knows which layer put what, since whiteouts act on lower layers only, wherever in their own layer they stand. An archive
that is added to an image that is there already (`lower`) goes through the links and directories of that as well; these
are looked up one by one when a way leads to them, and only ever read. Source: OCI image-spec v1.1, layer.md,
"Whiteouts".
"""

import os
import stat
from collections.abc import Iterator

from chimage_core.errors import LayerError

MAX_LINKS = 40
"""Symbolic links that one path may go through, as for the kernel."""
MAX_PATH = 4095
"""Bytes of the longest path, PATH_MAX without its final NUL; also what bounds the depth."""
_MAX_NAME = 255
_MAX_LOCATED = 4096


class File:
    """A regular file. All files of a layer are one object: only the layer matters here, the rest is on the disk."""

    __slots__ = ("layer",)

    def __init__(self, layer: int) -> None:
        self.layer = layer


class Skipped:
    """A device or FIFO that was not unpacked. Nothing is on the disk, but hard links to it are no error."""

    __slots__ = ("layer",)

    def __init__(self, layer: int) -> None:
        self.layer = layer


class Symlink:
    """A symbolic link, not on the disk until the end."""

    __slots__ = ("is_lower", "layer", "mtime", "target")

    def __init__(self, layer: int, target: bytes, mtime: int, *, is_lower: bool = False) -> None:
        self.layer = layer
        self.target = target
        self.mtime = mtime
        self.is_lower = is_lower
        """Of the image that was there: to be followed, not to be made."""


class Directory:
    """A directory. On the disk only when `is_made`: most are wanted for their files at once, some never."""

    __slots__ = (
        "children",
        "fd",
        "is_declared",
        "is_dev",
        "is_made",
        "layer",
        "length",
        "lower",
        "mode",
        "mtime",
        "name",
        "parent",
        "xattrs",
    )

    def __init__(self, parent: "Directory | None", name: bytes, layer: int, mtime: int) -> None:
        self.parent = self if parent is None else parent
        """The root is its own parent, so that `..` stays in it."""
        self.name = name
        self.layer = layer
        self.mode = 0o755
        self.mtime = mtime
        """ns"""
        self.xattrs: dict[str, bytes] | None = None
        self.children: dict[bytes, Node] = {}
        self.length: int = 0 if parent is None else parent.length + len(name) + 1
        """Bytes of its path with a final slash."""
        self.is_dev = parent is not None and parent.parent is parent and name == b"dev"
        """The image's /dev, which stays empty: containers get the host's."""
        self.is_made = False
        self.lower: bytes | None = None
        """Host path of the directory of the image that was there, and that this one will be united with."""
        self.is_declared = False
        """A member of an archive says what its metadata are; else those of `lower` stay."""
        self.fd = -1
        """Open descriptor, or -1."""

    def descendants(self) -> "Iterator[Directory]":
        """Give the directory and all directories below it, each before its content."""
        pending = [self]
        while pending:
            directory = pending.pop()
            yield directory
            pending.extend(node for node in directory.children.values() if type(node) is Directory)


Node = Directory | File | Symlink | Skipped
Removed = tuple[Directory, bytes, Node]
"""What was taken out of the tree, for removal from the disk: parent, name, node."""


class Tree:
    """The image so far."""

    def __init__(self, lower: str | None = None) -> None:
        """`lower`: the root of an image that is there already, and that nobody changes meanwhile."""
        self.root = Directory(None, b"", 0, 0)
        self.root.lower = None if lower is None else os.fsencode(lower)
        self._located: dict[bytes, Directory] = {}
        """Members come in the order of directories, so most parents have just been looked up."""

    def locate(self, path: bytes, layer: int, mtime: int) -> Directory:
        """Return the directory that `path` leads to, following links and making what is missing, with `mtime`.

        Ways into the image's /dev end there. Raises LayerError for paths with `..`, through files, in loops, or too
        long.
        """
        try:
            return self._located[path]
        except KeyError:
            pass
        if len(self._located) >= _MAX_LOCATED:
            self._located.clear()
        directory = self._walk(path, layer, mtime)
        assert directory is not None  # With a layer, what is missing is made.
        self._located[path] = directory
        return directory

    def find(self, path: bytes) -> Directory | None:
        """Return the directory that `path` leads to, or None if there is none."""
        return self._walk(path, None, 0)

    def child(self, directory: Directory, name: bytes) -> "Node | None":
        """Return what is under a name, also if only the image that was there has it."""
        node = directory.children.get(name)
        if node is None and directory.lower is not None:
            node = _looked_up(directory, name)
            if node is not None and type(node) is not File:  # A file is replaced as if it were not there.
                directory.children[name] = node
        return node

    def check_name(self, directory: Directory, name: bytes) -> None:
        """Raise LayerError for a name that is too long there."""
        if len(name) > _MAX_NAME:
            raise LayerError(f"archive has a name of {len(name)} bytes, more than {_MAX_NAME}: {shown(name[:40])}...")
        if directory.length + len(name) > MAX_PATH:
            raise LayerError(f"archive has a path of more than {MAX_PATH} bytes, ending in: {shown(name)}")

    def detach(self, directory: Directory, name: bytes) -> Node | None:
        """Take what is under a name out of the tree and return it; None if there is nothing."""
        node = directory.children.pop(name, None)
        if node is not None and type(node) is not File:
            self._located.clear()  # Ways may have led through it.
        return node

    def hide(self, directory: Directory, name: bytes, layer: int) -> list[Removed]:
        """Apply the whiteout of `name` in `layer`: take out what lower layers have put there.

        What this layer has put below stays, and so do the directories that hold it.
        """
        node = directory.children.get(name)
        if node is None:
            return []
        if type(node) is not Directory:
            return self._take(directory, name, node) if node.layer < layer else []
        removed = self.hide_all(node, layer)
        if node.layer < layer:
            if node.children:
                node.layer = layer
            else:
                removed += self._take(directory, name, node)
        return removed

    def hide_all(self, directory: Directory, layer: int) -> list[Removed]:
        """Apply an opaque whiteout: take out all that lower layers have put into a directory."""
        removed: list[Removed] = []
        for below in reversed(list(directory.descendants())):  # Deepest first.
            for name, node in list(below.children.items()):
                if type(node) is Directory and node.children:
                    node.layer = layer
                elif node.layer < layer:
                    removed += self._take(below, name, node)
        return removed

    def _take(self, directory: Directory, name: bytes, node: Node) -> list[Removed]:
        self.detach(directory, name)
        return [(directory, name, node)]

    def _walk(self, path: bytes, layer: int | None, mtime: int) -> Directory | None:
        """`layer` None: make nothing, and return None when something is missing."""
        pending = split(path)[::-1]
        here = self.root
        links = 0
        while pending and not here.is_dev:
            part = pending.pop()
            if part == b"..":  # Of a link: names of members have none.
                here = here.parent
                continue
            node = self.child(here, part)
            if type(node) is Directory:
                here = node
            elif type(node) is Symlink:
                links += 1
                if links > MAX_LINKS:
                    raise LayerError(f"archive has a loop of symbolic links, or too many in a row: {shown(path)}")
                if node.target.startswith(b"/"):
                    here = self.root
                pending += [part for part in reversed(node.target.split(b"/")) if part not in (b"", b".")]
            elif node is not None:
                raise LayerError(f"archive has a file where it needs a directory: {shown(path)}")
            elif layer is None:
                return None
            else:
                self.check_name(here, part)
                directory = Directory(here, part, layer, mtime)
                here.children[part] = directory
                here = directory
        return here


def _looked_up(directory: Directory, name: bytes) -> Node | None:
    """Return an entry of the image that was there."""
    assert directory.lower is not None
    path = directory.lower + b"/" + name
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return Symlink(-1, os.readlink(path), status.st_mtime_ns, is_lower=True)
    if not stat.S_ISDIR(status.st_mode):
        return File(-1)
    found = Directory(directory, name, -1, status.st_mtime_ns)
    found.lower = path
    return found


def split(path: bytes) -> list[bytes]:
    """Return the components of a member's name. Raises LayerError if one is `..`: honest archives have none."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise LayerError(f'archive has a name with "..", which could lead out of the image: {shown(path)}')
    return parts


def shown(name: bytes) -> str:
    """Return a name for a message."""
    return os.fsdecode(name)
