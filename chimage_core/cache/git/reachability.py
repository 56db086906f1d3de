"""Which objects of the repository are needed by which commits, and how much room they take.

A tree that was seen is not walked again, so the states of an image cost little more than one of them. Large files are
named in the metadata of their directories only, and are found there.
"""

import re
from collections.abc import Iterable, Iterator
from zlib import crc32

from chimage_core.cache.git.metadata import METADATA_NAME
from chimage_core.cache.git.objects import BLOB, COMMIT, DIRECTORY_MODE, TREE, Commit, decode_tree
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cancel import CancelToken

_DIGITS = b"0123456789"
_LARGE = re.compile(rb"(?m)^f[^\n]* big=([^ :\n]+):([0-9]+)")


class Reach:
    """The objects that some commits need, with those of their ancestors."""

    def __init__(self, store: ObjectStore, cancel: CancelToken) -> None:
        """Begin with nothing."""
        self.objects: set[bytes] = set()
        """Names of commits, trees and blobs."""
        self.large: dict[bytes, int] = {}
        """Sizes of the large files, by what `big=` names."""
        self.paths: dict[bytes, int] = {}
        """For trees and blobs, a checksum of the first path that was found, without its digits: versions of a file have
        the same one, also where a number in the name is another one (`libc.so.6.1`)."""
        self._store = store
        self._cancel = cancel

    def add(self, commits: Iterable[bytes]) -> set[bytes]:
        """Take in commits and their ancestors; return the names of the objects that are new.

        Raises NotInCache, CacheBroken, Cancelled; what was found so far is then in `objects`.
        """
        new: set[bytes] = set()
        for name, commit in self._commits(commits, new):
            self._cancel.check()
            new.add(name)
            self._add_tree(commit.tree, new)
        return new

    def _commits(self, heads: Iterable[bytes], new: set[bytes]) -> Iterator[tuple[bytes, Commit]]:
        pending = list(heads)
        while pending:
            name = pending.pop()
            if name in self.objects:
                continue
            commit = Commit.decode(self._store.read_kind(name, COMMIT))
            self.objects.add(name)
            pending += commit.parents
            yield name, commit

    def _add_tree(self, tree: bytes, new: set[bytes]) -> None:
        pending = [(tree, 0)]
        while pending:
            tree, path = pending.pop()
            if tree in self.objects:
                continue
            entries = decode_tree(self._store.read_kind(tree, TREE))
            self.objects.add(tree)
            self.paths[tree] = path
            new.add(tree)
            for mode, name, entry in entries:
                if mode == DIRECTORY_MODE:
                    pending.append((entry, crc32(name.translate(None, _DIGITS) + b"/", path)))
                elif entry not in self.objects:
                    if name == METADATA_NAME:
                        self._find_large(entry)
                    self.objects.add(entry)
                    self.paths[entry] = crc32(name.translate(None, _DIGITS), path)
                    new.add(entry)

    def _find_large(self, blob: bytes) -> None:
        self.large.update(large_files(self._store.read_kind(blob, BLOB)))


def large_files(metadata: bytes) -> dict[bytes, int]:
    """Return the sizes of the large files that the metadata of a directory names, by what `big=` names."""
    return {name: int(size) for name, size in _LARGE.findall(metadata)}


def stored_sizes(store: ObjectStore) -> dict[bytes, int]:
    """Return the bytes that each packed object takes on the disk; in the first pack, if it is in several."""
    sizes: dict[bytes, int] = {}
    for pack in store.packs():
        for name, size in pack.sizes():
            sizes.setdefault(name, size)
    return sizes
