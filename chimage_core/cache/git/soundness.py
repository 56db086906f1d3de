"""Which snapshots are whole: all their directories, contents, metadata, configuration, and their ancestors.

Objects were verified before. Here they are followed from commits, each tree once, however many snapshots share it.
"""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from chimage_core.cache.git import metadata
from chimage_core.cache.git.objects import BLOB, COMMIT, DIRECTORY_MODE, TREE, Commit, decode_tree
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.trees import Directory, join, load_directory
from chimage_core.cache.git.verify import Objects
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, CacheError
from chimage_core.image.config import ImageConfig

_MOST = 20
"""Problems that are kept of one tree: who has more needs no list."""


class Problem(NamedTuple):
    """Why a snapshot is not whole."""

    subject: str
    """What is missing or damaged: an object, hexadecimal, or a large file."""
    path: bytes
    """Where in the image it is needed; empty: the root, or the snapshot itself."""
    text: str
    size: int | None = None
    """Of a large file; None: it is none."""


class Examined(NamedTuple):
    """A commit that a reference leads to."""

    commit: Commit | None
    """None: it cannot be read."""
    problems: tuple[Problem, ...]
    """Its own; those of its ancestors come in addition."""


LargeProblem = Callable[[bytes, int], str | None]
"""What is wrong with the large file of this name and size; None if nothing is."""


class Soundness:
    """Examines snapshots."""

    def __init__(self, store: ObjectStore, objects: Objects, large: LargeProblem, cancel: CancelToken) -> None:
        """`objects` were verified, and are read from `store`."""
        self._store = store
        self._kinds = objects.kinds
        self._damaged = {name for damage in objects.damaged for name in damage.objects}
        self._large = large
        self._cancel = cancel
        self._trees: dict[bytes, tuple[Problem, ...]] = {}

    @property
    def directories(self) -> int:
        """Number of different directories that were looked at."""
        return len(self._trees)

    def examine(self, heads: Iterable[bytes]) -> dict[bytes, Examined]:
        """Examine commits and all their ancestors."""
        examined: dict[bytes, Examined] = {}
        pending = list(heads)
        while pending:
            name = pending.pop()
            if name not in examined:
                examined[name] = self._examine(name)
                commit = examined[name].commit
                pending += commit.parents if commit else ()
        return examined

    def _examine(self, name: bytes) -> Examined:
        self._cancel.check()
        try:
            commit = Commit.decode(self._read(name, COMMIT))
        except CacheError as error:
            return Examined(None, (Problem(name.hex(), b"", error.message),))
        try:
            entries = {entry: (mode, child) for mode, entry, child in decode_tree(self._read(commit.tree, TREE))}
            mode, root = entries[b"root"]
            _, configuration = entries[b"config.json"]
            if mode != DIRECTORY_MODE:
                raise CacheBroken("its root is no directory")
        except CacheError as error:
            return Examined(commit, (Problem(commit.tree.hex(), b"", error.message),))
        except KeyError as error:
            return Examined(commit, (Problem(commit.tree.hex(), b"", f"a snapshot has no {error.args[0].decode()}"),))
        problems = self._tree_problems(root)
        try:
            ImageConfig.from_json(self._read(configuration, BLOB), architecture="unknown")
        except (CacheError, ValueError) as error:
            problems = (Problem(configuration.hex(), b"", f"configuration: {error}"), *problems)
        return Examined(commit, problems)

    def _read(self, name: bytes, kind: int) -> bytes:
        """Read an object, which must be in order."""
        if not self._exists(name):
            raise CacheBroken(f"object {name.hex()} is missing or damaged")
        return self._store.read_kind(name, kind)

    def _exists(self, name: bytes) -> bool:
        """Return whether an object is in order, or came while we looked, or is in a repository that we borrow from."""
        return name in self._kinds or (name not in self._damaged and self._store.exists(name))

    def _tree_problems(self, root: bytes) -> tuple[Problem, ...]:
        """Return what is wrong in a tree and below."""
        pending: list[tuple[bytes, Directory | None]] = [(root, None)]
        while pending:
            self._cancel.check()
            tree, directory = pending.pop()
            if directory is not None:
                self._trees[tree] = self._put_together(tree, directory)
            elif tree not in self._trees:
                self._trees[tree] = ()
                try:
                    self._read(tree, TREE)
                    directory = load_directory(self._store, tree)
                except CacheError as error:
                    self._trees[tree] = (Problem(tree.hex(), b"", error.message),)
                    continue
                pending.append((tree, directory))
                pending += [(folder, None) for folder in directory.folders.values()]
        return self._trees[root]

    def _put_together(self, tree: bytes, directory: Directory) -> tuple[Problem, ...]:
        """Return the problems of a directory whose subdirectories are known."""
        problems = list(self._own_problems(tree, directory))
        for name, folder in directory.folders.items():
            problems += [problem._replace(path=join(name, problem.path)) for problem in self._trees[folder]]
        return tuple(problems[:_MOST])

    def _own_problems(self, tree: bytes, directory: Directory) -> Iterable[Problem]:
        for line in (directory.own, *directory.lines.values()):
            try:
                entry = metadata.parse_line(line)
            except CacheError as error:
                yield Problem(tree.hex(), b"", error.message)
                continue
            problem = self._large(entry.large, entry.size) if entry.large else None
            if problem is not None:
                yield Problem(os.fsdecode(entry.large), entry.name, f"large file {problem}", entry.size)
            content = directory.contents.get(entry.name)
            if content is not None and self._kinds.get(content, BLOB) != BLOB:
                yield Problem(content.hex(), entry.name, f"object {content.hex()} is no file content")
            elif content is not None and not self._exists(content):
                yield Problem(content.hex(), entry.name, f"object {content.hex()} is missing or damaged")
