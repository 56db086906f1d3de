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
from chimage_core.errors import ImageUnavailable, StageError
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

    def __init__(self, workspace: Workspace, path: str, architecture: str | None, *, is_dry_run: bool) -> None:
        """`path` is the Dockerfile's, for messages. `architecture`: what images must be for; None: anything."""
        self._workspace = workspace
        self._path = path
        self._architecture = architecture
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

    def provide(self, image: Reference, architecture: str | None = None) -> Base:
        """Return an image that is `locked`, for `architecture` (None: for the build's).

        Raises ImageUnavailable, CacheError.
        """
        architecture = architecture or self._architecture
        there = []
        for base in self._found(image.file_name):
            if architecture is None or _is_for(base.config.architecture, architecture):
                return base
            there.append(base.config.architecture)
        if there:
            raise ImageUnavailable(
                f"image is not there for architecture {architecture}: {image} (here is: {', '.join(there)})",
                hint="pulling is not yet available; import it under a name of its own, and name that in FROM",
            )
        raise ImageUnavailable(
            f"image not found in storage directory: {image}",
            hint=f"pulling is not yet available; get the image here with: chimage import PATH {image}",
        )

    def may_have_triggers(self, image: Reference, architecture: str | None) -> bool:
        """Return whether FROM of an image may carry out more than the Dockerfile says; it need not be locked yet."""
        with contextlib.suppress(ImageUnavailable):
            return bool(self.provide(image, architecture).config.onbuild)
        return True

    def _found(self, name: str) -> Iterator[Base]:
        """Yield all that has the name: the user's own image first."""
        told = self._told(name) if self._is_dry_run else None
        if told is not None:
            yield told
            return
        cache = self._workspace.cache
        own = cache.head(name)
        if own is not None:
            yield Base(own, own.state, cache.config(own), name not in self._new)
        # A site's image is what anybody starts from, but never replaces one of the user's own.
        shared = cache.shared_head(name)
        if shared is not None:
            yield Base(shared, shared.state, cache.config(shared), name not in self._new)

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


def refuse_other(architecture: str, wanted: str, stage: str) -> None:
    """Raise StageError if a stage is for another architecture than is wanted of it."""
    if not _is_for(architecture, wanted):
        raise StageError(
            f"stage {stage} is for architecture {architecture}, not {wanted}",
            hint="give --platform to the FROM of that stage, too",
        )


def _is_for(architecture: str, wanted: str) -> bool:
    from chimage_core.image.platform import is_for

    return is_for(architecture, wanted)
