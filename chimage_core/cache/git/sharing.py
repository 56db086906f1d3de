"""Which objects of the repository several images need, and which only one.

Each object gets the set of the heads that lead to it, as a bit mask. Commits and trees are taken in an order in which
all that lead to one come before it, so that each is read once and passes its set on once, however many images share it.
From the bytes of each set everything else is a sum: what an image needs, what it alone needs, what nobody needs.
"""

from collections.abc import Iterator, Sequence

from chimage_core.cache.git.metadata import METADATA_NAME
from chimage_core.cache.git.objects import BLOB, COMMIT, DIRECTORY_MODE, TREE, Commit, decode_tree
from chimage_core.cache.git.reachability import large_files
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cancel import CancelToken

_NAME = 20
"""Bytes of an object's name."""


class Sharing:
    """Who needs what, of some heads and all their ancestors."""

    def __init__(self, store: ObjectStore, heads: Sequence[bytes], cancel: CancelToken) -> None:
        """Find out for the commits `heads`; bit n of a set stands for heads[n].

        Raises NotInCache, CacheBroken, Cancelled.
        """
        self.objects: dict[bytes, int] = {}
        """The set of each object that some head needs."""
        self.large: dict[bytes, int] = {}
        """The set of each large file, by what `big=` names."""
        self._store = store
        self._cancel = cancel
        self._below: dict[bytes, bytes] = {}
        """What commits and trees lead to, names joined."""
        self._metadata: dict[bytes, tuple[bytes, ...]] = {}
        """The large files that metadata names, if any."""
        for number, head in enumerate(heads):
            self.objects[head] = self.objects.get(head, 0) | 1 << number
        for name in self._parents_first(heads):
            self._pass_on(name)
        self._below.clear()

    def _pass_on(self, name: bytes) -> None:
        sets, heads = self.objects, self.objects[name]
        below = self._below[name]
        for start in range(0, len(below), _NAME):
            child = below[start : start + _NAME]
            sets[child] = sets.get(child, 0) | heads
            for large in self._metadata.get(child, ()):
                self.large[large] = self.large.get(large, 0) | heads

    def _parents_first(self, heads: Sequence[bytes]) -> list[bytes]:
        """Return all commits and trees, each after all that lead to it. They are no circles, being named by content."""
        order: list[bytes] = []
        pending: list[tuple[bytes, int, bool]] = [(head, COMMIT, False) for head in heads]
        while pending:
            self._cancel.check()
            name, kind, is_done = pending.pop()
            if is_done:
                order.append(name)
            elif name not in self._below:
                pending.append((name, kind, True))
                pending += [(child, child_kind, False) for child, child_kind in self._read(name, kind)]
        order.reverse()
        return order

    def _read(self, name: bytes, kind: int) -> Iterator[tuple[bytes, int]]:
        """Read a commit or a tree; give what below it is to be read, too."""
        if kind == COMMIT:
            commit = Commit.decode(self._store.read_kind(name, COMMIT))
            self._below[name] = b"".join([commit.tree, *commit.parents])
            yield commit.tree, TREE
            yield from ((parent, COMMIT) for parent in commit.parents)
            return
        entries = decode_tree(self._store.read_kind(name, TREE))
        self._below[name] = b"".join([child for _, _, child in entries])
        for mode, entry_name, child in entries:
            if mode == DIRECTORY_MODE:
                yield child, TREE
            elif entry_name == METADATA_NAME and child not in self._metadata:
                self._metadata[child] = tuple(large_files(self._store.read_kind(child, BLOB)))


def by_heads(sets: dict[bytes, int], sizes: dict[bytes, int]) -> dict[int, int]:
    """Return how many bytes each set of heads needs together; what no head needs is in the empty set, 0."""
    sums: dict[int, int] = {}
    for name, size in sizes.items():
        heads = sets.get(name, 0)
        sums[heads] = sums.get(heads, 0) + size
    return sums
