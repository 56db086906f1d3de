"""What all parts of the Git cache work with: the repository, its objects and references, and how to work."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from chimage_core.cache.git.objects import COMMIT, TREE, Commit, decode_tree
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.refs import References
from chimage_core.cache.git.repository import Repository
from chimage_core.cache.protocol import Snapshot
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, NotInCache
from chimage_core.events import Sink

_TOKEN = re.compile(r"[0-9a-f]{40}")


class Options(NamedTuple):
    """How to work."""

    emit: Sink
    cancel: CancelToken
    sync: bool
    """A commit is on the disk when it returns."""
    xattrs: bool
    """Extended attributes and ACLs are kept."""
    workers: int
    """Processes for heavy work."""
    deflate: bool
    """Whole images are deflated."""
    clock: Callable[[], float]


class Engine:
    """An opened repository."""

    def __init__(self, path: str, options: Options) -> None:
        """Open the repository at `path`, which need not exist yet. Raises as `Repository` does."""
        self.options = options
        self.repository = Repository(path)
        self.store = ObjectStore(self.repository.objects)
        self.references = References(path, sync=options.sync)

    def snapshot(self, commit: bytes) -> Snapshot:
        """Return a commit as a snapshot. Raises NotInCache, CacheBroken."""
        return Snapshot(self._commit(commit).state, commit.hex())

    def root_tree(self, token: str) -> bytes:
        """Return the tree of the image's root in a snapshot. Raises as `entry` does."""
        return self.entry(token, b"root")

    def entry(self, token: str, name: bytes) -> bytes:
        """Return an object of a commit's own tree by its name there. Raises NotInCache, CacheBroken."""
        if not _TOKEN.fullmatch(token):
            raise NotInCache(f"no snapshot of this build cache: {token}")
        tree = self._commit(bytes.fromhex(token)).tree
        for _, entry_name, entry in decode_tree(self.store.read_kind(tree, TREE)):
            if entry_name == name:
                return entry
        raise CacheBroken(f"commit {token} in the build cache has no {os.fsdecode(name)}")

    def _commit(self, name: bytes) -> Commit:
        return Commit.decode(self.store.read_kind(name, COMMIT))
