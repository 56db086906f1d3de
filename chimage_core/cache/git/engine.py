"""What all parts of the Git cache work with: the repository, its objects and references, and how to work."""

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.cache.git import alternates
from chimage_core.cache.git.objects import COMMIT, TREE, Commit, decode_tree
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.refs import STATES, References
from chimage_core.cache.git.repository import Repository, large_directory
from chimage_core.cache.protocol import Snapshot
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, NotInCache
from chimage_core.events import Sink, Warned

if TYPE_CHECKING:
    # Imported by who makes one: most people share no cache, and hits read no file.
    from chimage_core.cache.git.large import LargeStore
    from chimage_core.cache.git.shared import SharedCache

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
    declared: int
    """Bytes from which on the user calls a file large; 0: none is."""
    may_link: Callable[[], bool]
    """Tells whether RUN writes to an overlay, so that files of images may be links to large files."""


class Engine:
    """An opened repository."""

    def __init__(self, path: str, options: Options, shared: "Sequence[SharedCache]" = ()) -> None:
        """Open the repository at `path`, which need not exist yet. Raises as `Repository` does.

        What is in the `shared` ones is found, too. Nothing is ever written there.
        """
        self.options = options
        self.repository = Repository(path)
        self.references = References(path, sync=options.sync)
        self._shared = tuple(each for each in shared if each.is_there)
        self._borrowed = tuple(each.repository.objects for each in self._shared)
        self.store = ObjectStore(self.repository.objects, borrowed=self._borrowed, complain=self._complain)
        self._whole: set[bytes] = set()
        """Commits that can be read, with all their ancestors."""

    @cached_property
    def large(self) -> "LargeStore":
        """The large files, beside the repository; those of other storage directories are read, never linked from."""
        from chimage_core.cache.git.large import LargeStore

        repositories = map(os.path.dirname, self.store.alternates.directories)
        own, *borrowed = map(large_directory, (self.repository.path, *repositories))
        return LargeStore(own, tuple(borrowed), self.options)

    def prepare(self) -> None:
        """Make the repository if it is missing, and let it name the shared ones: what comes into it may need them.

        Raises FileError, CacheBroken, CacheError.
        """
        self.repository.create()
        if self._borrowed:
            alternates.add(self.repository.objects, self._borrowed, sync=self.options.sync)

    def lookup(self, reference: str) -> bytes | None:
        """Return the commit of a reference; None also if it is lost, because a shared cache has dropped what it needs.

        Raises CacheBroken for a malformed reference.
        """
        commit = self.references.get(reference)
        return commit if commit is not None and self._is_whole(commit) else None

    def lookup_shared(self, reference: str) -> "tuple[bytes, SharedCache] | None":
        """Return the commit of a reference of a shared cache, and which one that is."""
        for shared in self._shared:
            commit = shared.get(reference, self._complain)
            if commit is not None and self._is_whole(commit):
                return commit, shared
        return None

    def remember(self, snapshot: Snapshot, *, replaces: bool) -> None:
        """Let the state of a snapshot lead to it, if nothing usable is known of that state, or if it `replaces` that.

        Raises FileError, CacheError.
        """
        reference, commit = STATES + snapshot.state.hex, bytes.fromhex(snapshot.token)
        if replaces or not self._is_whole(self.references.create(reference, commit)):
            self.references.set(reference, commit)

    def snapshot(self, commit: bytes) -> Snapshot:
        """Return a commit as a snapshot. Raises NotInCache, CacheBroken."""
        return Snapshot(self._commit(commit).state, commit.hex())

    def tree(self, token: str) -> bytes:
        """Return a commit's own tree, which all that a snapshot holds is in. Raises NotInCache, CacheBroken."""
        if not _TOKEN.fullmatch(token):
            raise NotInCache(f"no snapshot of this build cache: {token}")
        return self._commit(bytes.fromhex(token)).tree

    def root_tree(self, token: str) -> bytes:
        """Return the tree of the image's root in a snapshot. Raises as `entry` does."""
        return self.entry(token, b"root")

    def entry(self, token: str, name: bytes) -> bytes:
        """Return an object of a commit's own tree by its name there. Raises NotInCache, CacheBroken."""
        for _, entry_name, entry in decode_tree(self.store.read_kind(self.tree(token), TREE)):
            if entry_name == name:
                return entry
        raise CacheBroken(f"commit {token} in the build cache has no {os.fsdecode(name)}")

    def _is_whole(self, commit: bytes) -> bool:
        """Return whether a commit and all its ancestors can be read.

        That is sure of what is ours alone. Of what is borrowed, a state goes when its owner has no use for it any more,
        and then our own states on top of it are of no use to us either.
        """
        if not self.store.alternates.directories:
            return True
        pending, found = [commit], set()
        while pending:
            name = pending.pop()
            if name not in self._whole and name not in found:
                try:
                    pending += self._commit(name).parents
                except (NotInCache, CacheBroken):
                    return False
                found.add(name)
        self._whole |= found
        return True

    def _complain(self, problem: str) -> None:
        self.options.emit(Warned(text=problem))

    def _commit(self, name: bytes) -> Commit:
        return Commit.decode(self.store.read_kind(name, COMMIT))
