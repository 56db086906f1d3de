"""What a layer has that leads from one snapshot to a later one: read from the cache, without any directory.

Two trees are compared, and where their objects are the same, nothing is read: the cost is that of what differs, not of
the image. A file of several names is a layer's own with all its names, or not in it: a layer that made a hard link to a
file of a lower one would be unpacked differently by different programs. So if one name changed, all are given.
"""

import contextlib
import os
import tempfile
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from chimage_core.cache.git import metadata
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.materialize import write_all, write_extents
from chimage_core.cache.git.trees import Directory, join, load_directory, walk
from chimage_core.cache.protocol import Snapshot
from chimage_core.errors import CacheBroken
from chimage_core.fs.entry import Entry, EntryKind

_KINDS = {"f": EntryKind.FILE, "l": EntryKind.SYMLINK, "p": EntryKind.FIFO}


def layer_entries(
    engine: Engine, before: Snapshot | None, after: Snapshot, *, without: Container[bytes] = (), xattrs: bool = True
) -> Iterator[Entry]:
    """Give what has changed from `before` (None: from nothing) to `after`, in the order of an archive.

    What is gone is given as such; the root itself and the paths in `without` are not given (what is below these may
    be). With `xattrs`, entries have their `user.*` attributes. Nothing at all: the two differ in nothing that a layer
    has. Raises NotInCache, CacheBroken, FileError, Cancelled.
    """
    target = engine.root_tree(after.token)
    comparison = _Comparison(engine, target, xattrs=xattrs)
    source = None if before is None else engine.root_tree(before.token)
    changed = comparison.changed(source)
    yield from (entry for entry in comparison.entries(changed) if entry.path not in without)


class _Changed(NamedTuple):
    """What is different in one place."""

    path: bytes
    line: bytes | None
    """Of what is there now; None: nothing is."""
    content: bytes | None = None
    """Blob"""


class _Comparison:
    """Compares trees with one that is the newer."""

    def __init__(self, engine: Engine, target: bytes, *, xattrs: bool) -> None:
        self._engine = engine
        self._store = engine.store
        self._target = target
        self._xattrs = xattrs

    def changed(self, source: bytes | None) -> list[_Changed]:
        """Return what is different from a tree, or from nothing; of hard links, all names of what is different."""
        found = list(self._differences(b"", source, self._target))
        groups = {metadata.link_number(each.line) for each in found if each.line is not None} - {None}
        if groups:
            given = {each.path for each in found}
            found += [each for each in self._members(groups) if each.path not in given]
        # As `walk` of an unpacked image goes: a directory, what is in it, and then the next name.
        return sorted(found, key=lambda each: each.path.split(b"/"))

    def entries(self, changed: list[_Changed]) -> Iterator[Entry]:
        """Give the entries of what is different."""
        first: dict[int, bytes] = {}
        for path, line, content in changed:
            self._engine.options.cancel.check()
            if line is None:
                yield Entry(path, EntryKind.REMOVED)
                continue
            described = metadata.parse_line(line)
            if described.link is not None and first.setdefault(described.link, path) != path:
                yield Entry(path, EntryKind.LINK, described.mode, described.mtime, target=first[described.link])
                continue
            yield from self._entry(path, described, content)

    def _differences(self, path: bytes, source: bytes | None, target: bytes) -> Iterator[_Changed]:
        """Give what is different in a directory and below, in any order."""
        pending = [(path, source, target)]
        while pending:
            path, source, target = pending.pop()
            if source == target:
                continue
            old = Directory() if source is None else load_directory(self._store, source)
            new = load_directory(self._store, target)
            if path and old.own != new.own:
                yield _Changed(path, new.own)
            for name in (old.lines.keys() | old.folders.keys()) - new.lines.keys() - new.folders.keys():
                yield _Changed(join(path, name), None)
            for name, line in new.lines.items():
                content = new.contents.get(name)
                if line != old.lines.get(name) or content != old.contents.get(name):
                    yield _Changed(join(path, name), line, content)
            for name, tree in new.folders.items():
                pending.append((join(path, name), old.folders.get(name), tree))

    def _members(self, groups: Container[int | None]) -> Iterator[_Changed]:
        """Give all names of hard link groups."""
        for path, directory in walk(self._store, self._target):
            self._engine.options.cancel.check()
            for name, line in directory.lines.items():
                if b" hl=" in line and metadata.link_number(line) in groups:
                    yield _Changed(join(path, name), line, directory.contents.get(name))

    def _entry(self, path: bytes, described: metadata.Entry, content: bytes | None) -> Iterator[Entry]:
        mode, mtime = described.mode, described.mtime
        attributes = self._attributes(described)
        if described.kind == "d":
            yield Entry(path, EntryKind.DIRECTORY, mode, mtime, xattrs=attributes)
        elif described.kind == "p":
            yield Entry(path, EntryKind.FIFO, mode, mtime)
        elif described.kind == "f" and described.large:
            with self._engine.large.opened(described.large, described.size) as descriptor:
                yield Entry(path, EntryKind.FILE, mode, mtime, described.size, b"", attributes, None, descriptor)
        else:
            if content is None:
                raise CacheBroken(f"a file in the build cache has no content: {path!r}")
            data = self._store.small(content)
            if described.kind == "l":
                yield Entry(path, EntryKind.SYMLINK, 0o777, mtime, target=data or b"".join(self._store.chunks(content)))
                return
            if data is None:
                with self._spilled(described, content) as descriptor:
                    size = os.fstat(descriptor).st_size
                    yield Entry(path, EntryKind.FILE, mode, mtime, size, b"", attributes, described.extents, descriptor)
                return
            size = len(data) if described.extents is None else described.size
            yield Entry(path, EntryKind.FILE, mode, mtime, size, b"", attributes, described.extents, data)

    @contextlib.contextmanager
    def _spilled(self, described: metadata.Entry, content: bytes) -> Iterator[int]:
        """Give a big content as a file without a name, so that it is never in memory."""
        with tempfile.TemporaryFile(dir=self._engine.repository.path, buffering=0) as file:
            extents = described.extents
            if extents is None:
                for chunk in self._store.chunks(content):
                    write_all(file.fileno(), chunk)
            else:
                write_extents(file.fileno(), self._store.chunks(content), extents, described.size)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            yield file.fileno()

    def _attributes(self, described: metadata.Entry) -> Mapping[str, bytes]:
        if not self._xattrs or not described.xattrs:
            return {}
        return {name: value for name, value in described.xattrs if name.startswith("user.")}
