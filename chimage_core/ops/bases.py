"""Images that a build starts from: found or pulled, locked, and made to agree with what the cache knows of them.

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
    architecture: str | None = None
    """What it must be for; None: what the build is for."""


class Wanted(NamedTuple):
    """What is wanted of registries."""

    arch: str
    """What images are asked for if neither FROM nor the build says it: `host` or `yolo`."""
    with_xattrs: bool
    pulls: str
    """`missing`: what is not here; `newer`: also what may be newer there; `never`."""
    always_download: bool = False


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

    def __init__(self, workspace: Workspace, path: str, architecture: str | None, wanted: Wanted | None) -> None:
        """`path` is the Dockerfile's, for messages. `architecture`: what images must be for; None: anything. `wanted`:
        what may be pulled; None: it is a dry run, which pulls nothing."""
        self._workspace = workspace
        self._path = path
        self._architecture = architecture
        self._is_dry_run = wanted is None
        self._wanted = wanted or Wanted("host", with_xattrs=True, pulls="never")
        self._looked: set[tuple[str, str | None]] = set()
        """Names and architectures of images that were compared with those of their registries."""
        self._new: set[str] = set()
        """Names of images that the cache did not know as they are."""

    @contextlib.contextmanager
    def locked(self, made: Collection[str], needed: Sequence[Needed]) -> Iterator[None]:
        """Lock what is made (names in file form) and what files are taken from; without cache also the bases, which are
        copied.

        Images that the cache does not know as they are, or that are only there, are locked and put right.
        """
        workspace = self._workspace
        needed = [need._replace(architecture=need.architecture or self._architecture) for need in needed]
        names = {need.image.file_name for need in needed}
        files = {need.image.file_name for need in needed if need.as_files}
        read = files if workspace.cache.keeps_snapshots else names
        while True:
            held = {*made, *(name for name in names if needs_settling(workspace, name)), *self._to_pull(needed)}
            with workspace.locks.images(write=held, read=read):
                # Whom we waited for may have made or changed another one.
                changing = {*(name for name in names if needs_settling(workspace, name)), *self._to_pull(needed)}
                if changing <= held:
                    self._settle(needed)
                    for need in needed:
                        with telling_where(self._path, need.instruction):
                            self.pull(need.image, need.architecture)
                            if not (need.as_files or need.image.file_name in made) and self._wanted.pulls == "never":
                                self.provide(need.image, need.architecture)  # Better now than after hours of building.
                    yield
                    return

    def lacks(self, image: Reference, architecture: str | None) -> bool:
        """Return whether an image is to be pulled, which is not there, or perhaps not the newest one."""
        name, pulls = image.file_name, self._wanted.pulls
        if pulls == "never" or needs_settling(self._workspace, name):
            return False
        if not self._workspace.cache.keeps_snapshots and self._is_taken(image, architecture):
            return False
        if pulls == "newer" and (name, architecture) not in self._looked:
            return True
        return self._there(image, architecture) is None

    def pull(self, image: Reference, architecture: str | None) -> None:
        """Pull an image if it `lacks`. The caller holds the lock of its name.

        Raises RegistryError, IntegrityError, LayerError, StorageError, FileError, Cancelled.
        """
        if not self.lacks(image, architecture):
            return
        from chimage_core.ops.base_pulls import BaseNeed, pull_base

        self._looked.add((image.file_name, architecture))
        is_taken, is_here = self._is_taken(image, architecture), self._there(image, architecture) is not None
        need = BaseNeed(image, architecture, is_here=is_here, is_taken=is_taken)
        if pull_base(self._workspace, need, self._wanted):
            self._new.add(image.file_name)

    def _is_taken(self, image: Reference, architecture: str | None) -> bool:
        """Return whether the name is that of an image for another architecture, which must not be replaced."""
        if architecture is None:
            return False
        found = [base.config.architecture for base in self._found(image.file_name)]
        return bool(found) and not any(_is_for(each, architecture) for each in found)

    def _to_pull(self, needed: Sequence[Needed]) -> set[str]:
        return {need.image.file_name for need in needed if self.lacks(need.image, need.architecture)}

    def _there(self, image: Reference, architecture: str | None) -> Base | None:
        """Return an image that is for the architecture (None: for whatever), if there is one."""
        for base in self._found(image.file_name):
            if architecture is None or _is_for(base.config.architecture, architecture):
                return base
        return None if architecture is None else self._remembered(image, architecture)

    def _remembered(self, image: Reference, architecture: str) -> Base | None:
        """Return an image of another architecture, which has no name here, but is in the build cache."""
        cache = self._workspace.cache
        if not cache.keeps_snapshots:
            return None
        from chimage_core.ops.foreign import recall

        state = recall(self._workspace.layout.blobs, image, architecture)
        snapshot = None if state is None else cache.find(state)
        if snapshot is None:
            return None
        return Base(snapshot, snapshot.state, cache.config(snapshot), image.file_name not in self._new)

    def provide(self, image: Reference, architecture: str | None = None) -> Base:
        """Return an image that is `locked`, for `architecture` (None: for the build's).

        Raises ImageUnavailable, CacheError.
        """
        architecture = architecture or self._architecture
        base = self._there(image, architecture)
        if base is not None:
            return base
        there = [base.config.architecture for base in self._found(image.file_name)]
        if there:
            raise ImageUnavailable(
                f"image is not there for architecture {architecture}: {image} (here is: {', '.join(there)})",
                hint=f"get it by another name, and say that in FROM: chimage pull --arch={architecture} {image} NAME",
            )
        why = "a dry run pulls nothing" if self._is_dry_run else "nothing is to be pulled: --no-pull, or $CH_IMAGE_PULL"
        raise ImageUnavailable(
            f"image not found in storage directory: {image}", hint=f"{why}; get the image with: chimage pull {image}"
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
