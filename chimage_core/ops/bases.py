"""Images that a build starts from: found, locked, and made to agree with what the cache knows of them.

`Bases.provide` is the one place that knows where such an image comes from.
"""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.state import StateID
from chimage_core.dockerfile.ast import Instruction
from chimage_core.dockerfile.errors import telling_where
from chimage_core.errors import ImageUnavailable
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.ops.heads import config_of, needs_adoption, needs_settling, needs_unpacking, settle
from chimage_core.workspace import Workspace


class Needed(NamedTuple):
    """An image that an instruction needs."""

    image: Reference
    instruction: Instruction
    """Errors tell its place."""
    as_files: bool = False
    """Files are taken out of its directory."""


class Base(NamedTuple):
    """What can be built on."""

    snapshot: Snapshot | None
    """None: nothing, or it is a dry run."""
    state: StateID
    config: ImageConfig
    is_known: bool = True
    """The cache had it already as it is."""


class Bases:
    """The images that one build needs."""

    def __init__(self, workspace: Workspace, path: str, *, is_dry_run: bool) -> None:
        """`path` is the Dockerfile's, for messages."""
        self._workspace = workspace
        self._path = path
        self._is_dry_run = is_dry_run
        self._new: set[str] = set()
        """Names of images that the cache did not know as they are."""

    @contextlib.contextmanager
    def locked(self, made: Collection[str], needed: Sequence[Needed]) -> Iterator[None]:
        """Lock what is made (names in file form) and what files are taken from; without cache also the bases, which are
        copied.

        Images that the cache does not know as they are, or that are only there, are locked and put right.
        """
        workspace = self._workspace
        names = {need.image.file_name for need in needed}
        files = {need.image.file_name for need in needed if need.as_files}
        read = files if workspace.cache.keeps_snapshots else names
        while True:
            held = {*made, *(name for name in names if needs_settling(workspace, name))}
            with workspace.locks.images(write=held, read=read):
                # Whom we waited for may have made or changed another one.
                if all(name in held for name in names if needs_settling(workspace, name)):
                    self._settle(needed)
                    yield
                    return

    def provide(self, image: Reference) -> Base:
        """Return an image that is `locked`. Raises ImageUnavailable, CacheError."""
        cache, name = self._workspace.cache, image.file_name
        told = self._told(name) if self._is_dry_run else None
        if told is not None:
            return told
        # A site's image is what anybody starts from, but never replaces one of the user's own.
        snapshot = cache.head(name) or cache.shared_head(name)
        if snapshot is None:
            raise ImageUnavailable(
                f"image not found in storage directory: {image}",
                hint=f"pulling is not yet available; get the image here with: chimage import PATH {image}",
            )
        return Base(snapshot, snapshot.state, cache.config(snapshot), name not in self._new)

    def _settle(self, needed: Sequence[Needed]) -> None:
        """Put the images right. From here on they are what the cache says, whatever becomes of their directories."""
        for need in needed:
            name = need.image.file_name
            if needs_settling(self._workspace, name):
                with telling_where(self._path, need.instruction):
                    if settle(self._workspace, name):
                        self._new.add(name)

    def _told(self, name: str) -> Base | None:
        """Return what `provide` does, for a dry run that must not do what would make it right; None for others."""
        if needs_adoption(self._workspace, name):
            # Most likely a state that the cache has not seen yet, so nothing on top of it can hit.
            state = StateID.root(os.urandom(32))
            return Base(None, state, config_of(self._workspace, name), is_known=False)
        cache = self._workspace.lasting_cache
        snapshot = cache.head(name) if needs_unpacking(self._workspace, name) else None
        return None if snapshot is None else Base(None, snapshot.state, cache.config(snapshot))
