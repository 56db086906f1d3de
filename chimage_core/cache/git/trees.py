"""Image directories as Git trees, each with its `%` blob (see `metadata`)."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from chimage_core.cache.git.metadata import FORMAT_LINE, METADATA_NAME, git_name, line_name, plain_name
from chimage_core.cache.git.objects import (
    BLOB,
    DIRECTORY_MODE,
    FILE_MODE,
    PROGRAM_MODE,
    SYMLINK_MODE,
    TREE,
    decode_tree,
    encode_tree,
)
from chimage_core.errors import CacheBroken

_REMEMBERED_ENTRIES = 20_000


class ObjectReader(Protocol):
    """Where objects come from."""

    def read_kind(self, name: bytes, kind: int) -> bytes:
        """Return the content of an object of this type."""


class ObjectSink(Protocol):
    """Where new objects go."""

    def add(self, kind: int, data: bytes) -> bytes:
        """Take an object; return its name."""

    def add_file(self, descriptor: int, size: int, extents: list[tuple[int, int]] | None = None) -> bytes:
        """Take the content of an open file as a blob; return its name."""


@dataclass(slots=True)
class Directory:
    """A directory of an image, as it is in the cache."""

    own: bytes = b""
    """The line of the directory itself."""
    lines: dict[bytes, bytes] = field(default_factory=dict)
    """By name, the lines of all entries but directories."""
    contents: dict[bytes, bytes] = field(default_factory=dict)
    """By name, the blobs of files and symbolic links."""
    folders: dict[bytes, bytes] = field(default_factory=dict)
    """By name, the trees of subdirectories."""


class RawDirectory(NamedTuple):
    """The objects of a directory, not yet checked."""

    name: bytes
    """Of the tree."""
    tree: bytes
    metadata: bytes

    @property
    def own(self) -> bytes:
        """The line of the directory itself."""
        start = self.metadata.find(b"\n") + 1
        return self.metadata[start : self.metadata.find(b"\n", start)]

    @property
    def has_large(self) -> bool:
        """Whether some of its files may be large ones."""
        return b" big=" in self.metadata


def load_directory(store: ObjectReader, tree: bytes) -> Directory:
    """Read a directory. Raises NotInCache; CacheBroken as `decode_directory` does."""
    return decode_directory(load_raw(store, tree)[0])


def load_raw(store: ObjectReader, tree: bytes) -> tuple[RawDirectory, dict[bytes, bytes], int]:
    """Return the objects of a directory, its subdirectories, and the number of other entries.

    Nothing but the names of subdirectories is checked. Raises NotInCache, CacheBroken.
    """
    folders, blob, files = {}, b"", 0
    data = store.read_kind(tree, TREE)
    for mode, name, object_name in decode_tree(data):
        if mode == DIRECTORY_MODE:
            folders[plain_name(name)] = object_name
        elif name == METADATA_NAME:
            blob = object_name
        else:
            files += 1
    if not blob:
        raise _broken(tree, "no metadata")
    return RawDirectory(tree, data, store.read_kind(blob, BLOB)), folders, files


def decode_directory(raw: RawDirectory) -> Directory:
    """Return a directory from its objects. Raises CacheBroken for anything that is not exactly of our format.

    What we read may have come from elsewhere: names that could lead out of the image, names that are there twice,
    files without metadata or metadata without a file are refused.
    """
    directory, tree = Directory(), raw.name
    modes: dict[bytes, bytes] = {}
    is_described = False
    for mode, name, object_name in decode_tree(raw.tree):
        if name == METADATA_NAME and not is_described:
            is_described = True
            continue
        plain = plain_name(name)
        if plain in modes:
            raise _broken(tree, f"name {plain!r} twice")
        modes[plain] = mode
        (directory.folders if mode == DIRECTORY_MODE else directory.contents)[plain] = object_name
    _take_lines(directory, tree, raw.metadata.split(b"\n"))
    _check_lines(directory, tree, modes)
    return directory


def store_directory(sink: ObjectSink, directory: Directory) -> bytes:
    """Write a directory; return its tree."""
    names = sorted(directory.lines)
    blob = b"\n".join([FORMAT_LINE, directory.own, *[directory.lines[name] for name in names], b""])
    entries = [(FILE_MODE, METADATA_NAME, sink.add(BLOB, blob))]
    for name, content in directory.contents.items():
        entries.append((_git_mode(directory.lines[name]), git_name(name), content))
    for name, tree in directory.folders.items():
        entries.append((DIRECTORY_MODE, git_name(name), tree))
    return sink.add(TREE, encode_tree(entries))


class Trees:
    """The directories of an image in the cache, by path. They are values: nobody changes them."""

    def __init__(self, store: ObjectReader, root: bytes, memory: "TreeMemory") -> None:
        self._store = store
        self._memory = memory
        self._known: dict[bytes, Directory | None] = {}
        self._root = root

    def get(self, path: bytes) -> Directory | None:
        """Return the directory at a path relative to the root (empty: the root), or None if there is none."""
        missing = []
        while path not in self._known:
            parent, _, name = path.rpartition(b"/")
            missing.append((path, name))
            if not path:
                break
            path = parent
        directory = self._known.get(path)
        for path, name in reversed(missing):
            tree = self._root if not path else None if directory is None else directory.folders.get(name)
            directory = self._known[path] = None if tree is None else self._load(tree)
        return directory

    def remember(self, tree: bytes, directory: Directory) -> None:
        """Keep a directory that was just written: the next commit will ask for it."""
        self._memory.put(tree, directory)

    def _load(self, tree: bytes) -> Directory:
        directory = self._memory.get(tree)
        if directory is None:
            directory = load_directory(self._store, tree)
            self._memory.put(tree, directory)
        return directory


class TreeMemory:
    """The directories read or written last, by tree: consecutive steps change the same ones again and again."""

    def __init__(self) -> None:
        self._directories: dict[bytes, Directory] = {}
        self._entries = 0

    def get(self, tree: bytes) -> Directory | None:
        """Return a directory, or None if it has to be read."""
        return self._directories.get(tree)

    def put(self, tree: bytes, directory: Directory) -> None:
        """Keep a directory for a while."""
        self._entries += len(directory.lines) + len(directory.folders) + 1
        if self._entries > _REMEMBERED_ENTRIES:
            self._directories.clear()
            self._entries = 0
        self._directories[tree] = directory


def walk(store: ObjectReader, root: bytes, excluded: Container[bytes] = ()) -> Iterator[tuple[bytes, Directory]]:
    """Give (path, directory) for all directories of an image, parents first, but not what is `excluded`."""
    pending = [(b"", root)]
    while pending:
        path, tree = pending.pop()
        if path not in excluded:
            directory = load_directory(store, tree)
            yield path, directory
            pending += [(join(path, name), child) for name, child in directory.folders.items()]


def beneath(paths: Iterable[bytes], tops: Container[bytes]) -> list[bytes]:
    """Return those of the paths that are one of `tops`, or below one."""
    found = []
    for path in paths:
        ancestor = path
        while ancestor and ancestor not in tops:
            ancestor = ancestor.rpartition(b"/")[0]
        if ancestor:
            found.append(path)
    return found


def join(path: bytes, name: bytes) -> bytes:
    """Return the path of an entry; the root is the empty path."""
    return path + b"/" + name if path else name


def _take_lines(directory: Directory, tree: bytes, lines: list[bytes]) -> None:
    if lines[0] != FORMAT_LINE or len(lines) < 3 or lines[-1]:
        raise _broken(tree, "metadata of an unknown format")
    directory.own = lines[1]
    if not directory.own.startswith(b"d") or directory.own.split(b" ")[2:3] != [b"."]:
        raise _broken(tree, "no metadata of the directory itself")
    try:
        directory.lines = {line_name(line): line for line in lines[2:-1]}
    except IndexError:
        raise _broken(tree, "malformed metadata") from None
    if len(directory.lines) != len(lines) - 3:
        raise _broken(tree, "an entry twice in the metadata")


def _check_lines(directory: Directory, tree: bytes, modes: dict[bytes, bytes]) -> None:
    """Refuse a tree whose entries are not those of its metadata."""
    described = 0
    for name, line in directory.lines.items():
        kind = line[:1]
        if kind == b"p":
            if name in modes or b"/" in name or name in (b".", b"..", b"") or b"\0" in name:
                raise _broken(tree, f"entry {name!r}")
            continue
        mode = modes.get(name)
        if mode is None or kind not in b"fl" or mode != _git_mode(line):
            raise _broken(tree, f"entry {name!r} does not match its metadata")
        described += 1
    if described != len(directory.contents):
        raise _broken(tree, "a file without metadata")


def _git_mode(line: bytes) -> bytes:
    if line[:1] == b"l":
        return SYMLINK_MODE
    # The owner's execute bit, as git does: the last bit of the hundreds digit.
    return PROGRAM_MODE if line[2:3] in b"1357" and line[2:3] else FILE_MODE


def _broken(tree: bytes, what: str) -> CacheBroken:
    return CacheBroken(f"tree {tree.hex()} in the build cache is malformed: {what}")
