"""No build cache: every look-up misses, and a snapshot is nothing but the directory of an image.

A snapshot's token is the name of its image. What a place holds is known only within one process: an image directory
may be changed by anybody once it is finished.
"""

import os
from collections.abc import Callable

from chimage_core.cache import stamp
from chimage_core.cache.protocol import CacheGraph, CacheSummary, Deletion, Snapshot, StepRecord
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.errors import NotInCache, file_errors
from chimage_core.events import Sink
from chimage_core.fs.atomic import exchange, temporary_directory
from chimage_core.fs.copy import copy_tree
from chimage_core.fs.xattr import warn_left_out
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs import metadata, overlay
from chimage_core.rootfs.changes import UpperChanged
from chimage_core.rootfs.place import ImagePlace


class NoCache:
    """The build cache that remembers nothing."""

    keeps_snapshots = False

    def __init__(
        self,
        published: Callable[[str], ImagePlace],
        names: Callable[[], tuple[str, ...]],
        *,
        emit: Sink,
        cancel: CancelToken,
        xattrs: bool = True,
    ) -> None:
        """`published` tells where the finished image of a name is, if there is one; `names` lists them."""
        self._published = published
        self._names = names
        self._emit = emit
        self._cancel = cancel
        self._xattrs = xattrs
        self._held: dict[str, Snapshot] = {}
        """By root directory."""

    def find(self, state: StateID) -> Snapshot | None:
        """Return None."""
        return None

    def head(self, name: str) -> Snapshot | None:
        """Return the finished image of this name as a snapshot."""
        return _snapshot(name) if os.path.isdir(self._published(name).root) else None

    def shared_head(self, name: str) -> Snapshot | None:
        """Return None."""
        return None

    def config(self, snapshot: Snapshot) -> ImageConfig:
        """Return what the image says of itself. Raises NotInCache, MetadataInvalid."""
        config = metadata.read(self._source(snapshot), "unknown")
        return ImageConfig(architecture="unknown") if config is None else config

    def held(self, place: ImagePlace) -> Snapshot | None:
        """Return what this process has put into the place."""
        return self._held.get(place.root) if os.path.isdir(place.root) else None

    def known(self, place: ImagePlace) -> Snapshot | None:
        """Return what this process has put into the place."""
        return self.held(place)

    def restore(self, snapshot: Snapshot, place: ImagePlace) -> None:
        """Make a copy of the snapshot's image. Raises NotInCache, FileError, Cancelled."""
        if self.held(place) == snapshot:
            return
        source = self._source(snapshot)
        self.opening(place)
        with file_errors("make image directory", place.root):
            os.makedirs(place.side, exist_ok=True)
        with temporary_directory(place.side, "tree-") as temporary:
            new = os.path.join(temporary, "root")
            report = copy_tree(source, new, xattrs=self._xattrs, cancel=self._cancel)
            warn_left_out(report.refused_xattrs, self._emit)
            with file_errors("replace image directory", place.root):
                if os.path.lexists(place.root):
                    exchange(new, place.root)
                else:
                    os.makedirs(os.path.dirname(place.root), exist_ok=True)
                    os.rename(new, place.root)
        self._held[place.root] = snapshot

    def opening(self, place: ImagePlace) -> None:
        """Forget what the place holds, in the name of every build cache."""
        self._held.pop(place.root, None)
        stamp.forget(place)

    def unshare(self, place: ImagePlace) -> None:
        """Do nothing: nothing is shared."""

    def copier(self, place: ImagePlace) -> None:
        """Return None."""

    def commit(self, place: ImagePlace, record: StepRecord) -> Snapshot:
        """Complete the directory; it is the snapshot."""
        self.opening(place)
        if isinstance(record.changes, UpperChanged):
            overlay.merge(record.changes.upper, record.changes.work, place.root)
        metadata.write(place.root, record.config)
        snapshot = _snapshot(place.name) if record.state is None else Snapshot(record.state, place.name)
        self._held[place.root] = snapshot
        return snapshot

    def publish(self, name: str, snapshot: Snapshot) -> None:
        """Do nothing: an image that is in its place has its name."""

    def forget(self, name: str) -> None:
        """Do nothing."""

    def deleted(self, name: str | None = None) -> tuple[Deletion, ...]:
        """Return nothing: what is deleted is gone."""
        return ()

    def recover(self, deletion: Deletion) -> None:
        """Raise NotInCache."""
        raise NotInCache(f"image can’t be recovered, the build cache is off: {deletion.name}")

    def names(self) -> tuple[str, ...]:
        """Return the names of the finished images, sorted."""
        return tuple(sorted(self._names()))

    def reset(self) -> None:
        """Forget what was put where."""
        self._held.clear()

    def sweep(self) -> None:
        """Do nothing."""

    def summary(self) -> CacheSummary:
        """Return that there is nothing."""
        return CacheSummary(named_images=0, state_ids=0, commits=0, files=0, disk_bytes=0, large_files=0, large_bytes=0)

    def graph(self) -> CacheGraph:
        """Return that there is nothing."""
        return CacheGraph(())

    def _source(self, snapshot: Snapshot) -> str:
        """Return the directory that is the snapshot: where it was made, or where it was published since."""
        made = [root for root, held in self._held.items() if held == snapshot and os.path.isdir(root)]
        root = made[0] if made else self._published(snapshot.token).root
        if not os.path.isdir(root):
            raise NotInCache(f"image is no longer there, and the build cache is off: {snapshot.token}")
        return root


def _snapshot(name: str) -> Snapshot:
    """Return an image as a snapshot that stands for whatever the directory holds."""
    return Snapshot(StateID.root(b"directory\0" + os.fsencode(name)), name)
