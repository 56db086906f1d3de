"""The build cache in a Git repository: the `Cache` protocol over the modules beside this one.

What looks things up is imported here; what works on image directories, only when it is needed: a build in which
everything hits must not pay for it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from chimage_core.cache import stamp as stamps
from chimage_core.cache.git.engine import Engine, Options
from chimage_core.cache.git.refs import DELETED, IMAGES, STATES, deletion_name, deletions, escape, unescape
from chimage_core.cache.git.uses import note_use
from chimage_core.cache.protocol import CacheGraph, CacheMode, CacheSummary, Deletion, Snapshot, StepRecord
from chimage_core.cache.stamp import PlaceState
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, NotInCache
from chimage_core.events import Notice, Sink, Warned
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs.place import ImagePlace

if TYPE_CHECKING:
    from chimage_core.cache.git.copying import StoringCopier
    from chimage_core.cache.git.places import Places
    from chimage_core.cache.git.shared import SharedCache

_MOST_WORKERS = 8


class GitCache:
    """A build cache in a Git repository."""

    keeps_snapshots = True

    def __init__(
        self,
        repository: str,
        *,
        mode: CacheMode = CacheMode.ENABLED,
        emit: Sink,
        cancel: CancelToken,
        sync: bool = True,
        xattrs: bool = True,
        workers: int = 0,
        deflate: bool = True,
        clock: Callable[[], float] = time.time,
        shared: "Sequence[SharedCache]" = (),
        uses: str | None = None,
        declared: int = 0,
        may_link: Callable[[], bool] = bool,
    ) -> None:
        """Use the repository at this path. It is opened when needed, and made when something is to be remembered.

        `sync`: a commit is on the disk when it returns. `workers`: processes for heavy work; 0: one per core, at most
        8. `deflate`: whole images are deflated (0.4 times the disk space, for 1.4 times the CPU time of a commit and
        1.7 times that of a restore). What is in the `shared` caches is found, too; ours comes first. `uses` is the
        log of what was used when; None: none is kept. `declared`: bytes from which on the user calls a file large; 0:
        none is. `may_link` tells whether RUN works on overlays. All methods but `reset` and `sweep` raise as
        `Repository` does.
        """
        self._path = repository
        self._mode = mode
        self._shared = shared
        self._uses = uses
        self._has_warned = False
        self._options = Options(
            emit=emit,
            cancel=cancel,
            sync=sync,
            xattrs=xattrs,
            workers=workers or min(len(os.sched_getaffinity(0)), _MOST_WORKERS),
            deflate=deflate,
            clock=clock,
            declared=declared,
            may_link=may_link,
        )

    # Looking up

    def find(self, state: StateID) -> Snapshot | None:
        """Return the snapshot of this state; never one in rebuild mode."""
        if self._mode is CacheMode.REBUILD:
            return None
        reference, commit = STATES + state.hex, None
        try:
            commit = self.engine.lookup(reference)
        except CacheBroken as error:
            self._warn_of_damage(error)
        if commit is not None:
            return Snapshot(state, commit.hex())
        found = self.engine.lookup_shared(reference)
        return None if found is None else Snapshot(state, found[0].hex())

    def head(self, name: str) -> Snapshot | None:
        """Return the snapshot of an image, or None."""
        commit = self.engine.lookup(IMAGES + escape(name))
        return None if commit is None else self.engine.snapshot(commit)

    def shared_head(self, name: str) -> Snapshot | None:
        """Return the snapshot of an image of a shared cache, or None."""
        found = self.engine.lookup_shared(IMAGES + escape(name))
        if found is None:
            return None
        commit, shared = found
        self._options.emit(Notice(level="verbose", text=f"image is from a shared cache: {shared.repository.path}"))
        return self.engine.snapshot(commit)

    def config(self, snapshot: Snapshot) -> ImageConfig:
        """Return the configuration of a snapshot. Raises NotInCache, CacheBroken."""
        from chimage_core.cache.git.objects import BLOB

        data = self.engine.store.read_kind(self.engine.entry(snapshot.token, b"config.json"), BLOB)
        try:
            return ImageConfig.from_json(data, architecture="unknown")
        except ValueError as error:
            raise CacheBroken(f"configuration of state {snapshot.state.hex} is damaged: {error}") from error

    def held(self, place: ImagePlace) -> Snapshot | None:
        """Return the snapshot that the place is known to hold, or None."""
        stamp = self._stamp(place)
        if stamp is None or stamp.status is not PlaceState.CLEAN or not stamp.same_boot:
            return None
        return Snapshot(StateID.from_hex(stamp.state), stamp.commit)

    def known(self, place: ImagePlace) -> Snapshot | None:
        """Return the snapshot that the place last held, or None."""
        stamp = self._stamp(place)
        return None if stamp is None else Snapshot(StateID.from_hex(stamp.state), stamp.commit)

    def names(self) -> tuple[str, ...]:
        """Return the names of the images that have a head, sorted."""
        return tuple(sorted(unescape(name.removeprefix(IMAGES)) for name in self.engine.references.names(IMAGES)))

    # Image directories

    def restore(self, snapshot: Snapshot, place: ImagePlace) -> None:
        """Make the place hold exactly this snapshot; see the protocol."""
        if self.held(place) == snapshot:
            return
        from chimage_core.cache.git import restoring

        self.engine.prepare()
        restoring.restore(self.engine, self._places, snapshot, place)

    def opening(self, place: ImagePlace) -> None:
        """Say that the place is about to be changed."""
        self._places.open(place)

    def unshare(self, place: ImagePlace) -> None:
        """Let the place share no file with the large files."""
        self.engine.large.unshare(place.root)

    def copier(self, place: ImagePlace) -> "StoringCopier":
        """Return what copies many files and stores their contents at once; see the protocol."""
        from chimage_core.cache.git.copying import StoringCopier

        self.engine.prepare()
        known = self.known(place)
        parent = b"" if known is None else bytes.fromhex(known.token)
        return StoringCopier(self.engine.repository.objects, parent, self._options)

    def commit(self, place: ImagePlace, record: StepRecord) -> Snapshot:
        """Remember what the place holds; see the protocol."""
        from chimage_core.cache.git import recording

        replaces = self._mode is CacheMode.REBUILD
        return recording.record(self.engine, self._places, place, record, replaces=replaces)

    # Images

    def publish(self, name: str, snapshot: Snapshot) -> None:
        """Make the snapshot the head of an image."""
        self.engine.prepare()
        self.engine.references.set(IMAGES + escape(name), bytes.fromhex(snapshot.token))
        if self._uses is not None:
            note_use(self._uses, snapshot.state, self._options.clock())
        if self.engine.repository.has_many_packs():
            from chimage_core.cache.git import tidy

            self.engine.store.refresh()
            tidy.merge_packs(self.engine.store, self.engine.repository.packs, sync=self._options.sync)

    def forget(self, name: str) -> None:
        """Take the head of an image away; `recover` can bring it back."""
        references, reference = self.engine.references, IMAGES + escape(name)
        commit = references.get(reference)
        if commit is not None:
            references.set(deletion_name(name, time.time_ns()), commit)
            references.delete(reference)

    def deleted(self, name: str | None = None) -> tuple[Deletion, ...]:
        """Return the deletions of one image, or of all, that can be undone; newest first."""
        prefix = DELETED if name is None else f"{DELETED}{escape(name)}/"
        found = []
        for image, time_ns, commit in deletions(self.engine.references.below(prefix)):
            with contextlib.suppress(NotInCache):  # Of a history that was cut off.
                found.append(Deletion(image, time_ns, self.engine.snapshot(commit)))
        return tuple(found)

    def recover(self, deletion: Deletion) -> None:
        """Undo a deletion. A crash between the two steps leaves both: the image, and that it was deleted once."""
        references = self.engine.references
        references.set(IMAGES + escape(deletion.name), bytes.fromhex(deletion.snapshot.token))
        references.delete(deletion_name(deletion.name, deletion.time_ns))

    # The cache as a whole

    def reset(self) -> None:
        """Forget everything. The caller holds the storage lock exclusively."""
        from chimage_core.cache.git import tidy

        tidy.remove(self._path)
        self.reopen()

    def reopen(self) -> None:
        """Forget what was read: files of the repository were replaced."""
        for opened in ("engine", "_places"):
            self.__dict__.pop(opened, None)

    def sweep(self) -> None:
        """Remove what killed processes left in the repository. The caller holds the storage lock exclusively."""
        from chimage_core.cache.git import tidy

        tidy.sweep(self._path)

    def summary(self) -> CacheSummary:
        """Return how much is in the cache."""
        from chimage_core.cache.git import graph
        from chimage_core.cache.git.repository import large_directory

        references = self.engine.references
        files, disk_bytes = graph.disk_use(self._path)
        large_files, large_bytes = graph.disk_use(large_directory(self._path))
        return CacheSummary(
            named_images=len(references.names(IMAGES)),
            state_ids=len(references.names(STATES)),
            commits=graph.count_commits(self.engine.store, references),
            files=files,
            disk_bytes=disk_bytes,
            large_files=large_files,
            large_bytes=large_bytes,
        )

    def graph(self) -> CacheGraph:
        """Return all snapshots."""
        from chimage_core.cache.git import graph

        return graph.read_graph(self.engine.store, self.engine.references)

    def _warn_of_damage(self, error: CacheBroken) -> None:
        """Say once that what is damaged counts as a miss: the step is carried out again, which mends it."""
        if not self._has_warned:
            self._has_warned = True
            self._options.emit(Warned(text=f"{error}; it counts as a miss ({error.hint})"))

    def _stamp(self, place: ImagePlace) -> stamps.Stamp | None:
        """Return what is known of a place, if it is about this repository."""
        stamp = stamps.read(place)
        return stamp if stamp is not None and stamp.cache == self.engine.repository.id else None

    @cached_property
    def engine(self) -> Engine:
        """The opened repository, for what maintains it. Raises as `Repository` does."""
        return Engine(self._path, self._options, self._shared)

    @cached_property
    def _places(self) -> "Places":
        from chimage_core.cache.git.places import Places

        return Places(self.engine)
