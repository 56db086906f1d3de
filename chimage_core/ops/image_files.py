"""Files of images that a build takes with `--from`: found, locked, unpacked if they are in the build cache only."""

import contextlib
import functools
from collections.abc import Collection

from chimage_core.build.context import SourceTree
from chimage_core.build.origins import Origin
from chimage_core.cache.protocol import Snapshot
from chimage_core.errors import ImageUnavailable, StorageBusy
from chimage_core.image.reference import Reference
from chimage_core.ops.bases import Base, Bases
from chimage_core.ops.heads import needs_settling, settle
from chimage_core.workspace import Workspace


class ImageFiles:
    """The images of one build."""

    def __init__(
        self, workspace: Workspace, bases: Bases, *, made: Collection[str], locked: Collection[str], is_dry_run: bool
    ) -> None:
        """`made`: names (file form) that this build makes; `locked`: others that are locked for reading."""
        self._is_dry_run = is_dry_run
        self._workspace = workspace
        self._bases = bases
        self._made = frozenset(made)
        self._readable = set(locked)
        self._found: dict[str, Base] = {}
        self._roots: dict[str, str] = {}
        self._unpacked = contextlib.ExitStack()

    def close(self) -> None:
        """Remove what was unpacked for this build only. Raises FileError."""
        with self._workspace.cancel.shielded():
            self._unpacked.close()

    def origin(self, image: Reference) -> Origin:
        """Return the files of an image: the same in the whole build. Raises ImageUnavailable, CacheError."""
        name = image.file_name
        base = self._found.get(name)
        if base is None:
            try:
                self._settle(image)
                base = self._found[name] = self._bases.provide(image)
            except ImageUnavailable as error:
                error.message += f"\n  no earlier stage and no --build-context is called {image}, either"
                raise
        return Origin(base.state, functools.partial(self._tree, image, base.snapshot), is_image=True)

    def _settle(self, image: Reference) -> None:
        """Put an image right, or pull it, that was not known before the build.

        Raises StorageBusy, since nobody is waited for, and what pulling raises.
        """
        workspace, name = self._workspace, image.file_name
        if self._is_dry_run or name in self._readable or name in self._made:
            return
        if needs_settling(workspace, name) or self._bases.lacks(image, None):
            with workspace.locks.at_once().images(write=(name,)):
                settle(workspace, name)
                self._bases.pull(image, None)

    def _tree(self, image: Reference, snapshot: Snapshot | None) -> SourceTree:
        name = image.file_name
        assert snapshot is not None, "a dry run takes no files"
        if name not in self._roots:
            self._roots[name] = self._root(name, snapshot)
        return SourceTree(self._roots[name], f"image {image}", is_image=True)

    def _root(self, name: str, snapshot: Snapshot) -> str:
        """Return a directory that holds the snapshot until the build ends."""
        cache, images = self._workspace.cache, self._workspace.images
        place = images.published(name)
        if not cache.keeps_snapshots:
            self._lock(name)
            return place.root
        with contextlib.suppress(StorageBusy):
            # What this build makes is taken away from its place while it changes.
            if name not in self._made and cache.held(place) == snapshot:
                self._lock(name)
                if cache.held(place) == snapshot:
                    return place.root
        private = self._unpacked.enter_context(images.aside(name))
        cache.restore(snapshot, private)
        return private.root

    def _lock(self, name: str) -> None:
        """Lock a name that was not known before the build. Nobody is waited for, who might wait for us."""
        if name not in self._readable and name not in self._made:
            self._unpacked.enter_context(self._workspace.locks.at_once().images(read=(name,)))
            self._readable.add(name)
