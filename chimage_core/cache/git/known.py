"""Which objects need not be stored again.

All that our packs have, but of what is borrowed only what the parent needs as well. So a snapshot needs of a shared
cache just the snapshots it stands on, which its history names. Were everything left out that is there by chance, it
would be lost with images that it has nothing to do with, and nobody could tell beforehand.
"""

from functools import cached_property

from chimage_core.cache.git.objects import COMMIT, DIRECTORY_MODE, TREE, Commit, decode_tree
from chimage_core.cache.git.reader import ObjectStore


class Known:
    """Tells which objects a new commit need not store."""

    def __init__(self, store: ObjectStore, parent: bytes) -> None:
        """`parent` is the commit's; empty: it has none."""
        self._store = store
        self._parent = parent

    def __call__(self, name: bytes) -> bool:
        """Return whether an object need not be stored. Raises NotInCache, CacheBroken."""
        store = self._store
        return store.contains(name) or bool(self._parent and store.borrows(name) and name in self._below_parent)

    @cached_property
    def _below_parent(self) -> set[bytes]:
        found = set()
        pending = [Commit.decode(self._store.read_kind(self._parent, COMMIT)).tree]
        while pending:
            tree = pending.pop()
            if tree not in found:
                found.add(tree)
                for mode, _, entry in decode_tree(self._store.read_kind(tree, TREE)):
                    if mode == DIRECTORY_MODE:
                        pending.append(entry)
                    else:
                        found.add(entry)
        return found
