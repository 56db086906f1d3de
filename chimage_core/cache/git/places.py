"""What the cache knows of the places of images: by their stamps, and by what happened in this process."""

import os
from dataclasses import dataclass

from chimage_core.cache import stamp as stamps
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.statcache import Record, StatCache
from chimage_core.cache.git.trees import TreeMemory, Trees
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.stamp import PlaceState, Stamp
from chimage_core.errors import NotInCache, file_errors
from chimage_core.rootfs.place import ImagePlace


@dataclass(slots=True)
class Base:
    """What a place last held, and how its files looked then."""

    commit: str
    state: str
    root: bytes
    """Its tree."""
    trees: Trees
    stats: StatCache
    is_watched: bool
    """Nobody but this process has touched the place since."""


class Places:
    """The places that one process works on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._memory = TreeMemory()
        self._stats: dict[str, StatCache] = {}
        """By side directory."""
        self._watched: dict[str, str] = {}
        """By root directory, the commit it held when we were told that it is about to be changed."""

    def base(self, place: ImagePlace) -> Base | None:
        """Return what a place last held, if that is still in the cache. What happened since is no longer known then.

        None after a restart of the machine: a power failure may have cost files their content, but not their numbers
        in the stat cache.
        """
        watched = self._watched.pop(place.root, None)
        stamp = known_stamp(self._engine, place)
        if stamp is None or not stamp.same_boot:
            return None
        try:
            root = self._engine.root_tree(stamp.commit)
        except NotInCache:
            return None
        is_watched = stamp.status is PlaceState.CLEAN or watched == stamp.commit
        trees = Trees(self._engine.store, root, self._memory)
        return Base(stamp.commit, stamp.state, root, trees, self._loaded_stats(place, stamp.commit), is_watched)

    def open(self, place: ImagePlace) -> None:
        """Take note that a place is about to be changed."""
        stamp = known_stamp(self._engine, place)
        if stamp is None or stamp.status is not PlaceState.CLEAN:
            return
        if stamp.same_boot:
            self._watched[place.root] = stamp.commit
        stamps.write(place, stamp._replace(status=PlaceState.DIRTY))

    def mark(self, place: ImagePlace, base: Base | None, status: PlaceState) -> None:
        """Stamp a place as being changed; without a base, as unknown."""
        if base is None:
            stamps.forget(place)
        else:
            stamps.write(place, Stamp(status, self._engine.repository.id, base.commit, base.state))

    def settle(self, place: ImagePlace, snapshot: Snapshot, records: dict[bytes, Record]) -> None:
        """Take note that a place holds a snapshot, and how all its directories look."""
        now = self._stamp_clean(place, snapshot)
        stats = self._stats[place.side] = StatCache(_stat_path(place))
        with file_errors("write stat cache", place.side):
            stats.replace(bytes.fromhex(snapshot.token), records, now)

    def settle_changes(
        self, place: ImagePlace, snapshot: Snapshot, base: Base, records: dict[bytes, Record], vanished: list[bytes]
    ) -> None:
        """Take note that a place holds a snapshot, and how the directories look that differ from its base."""
        now = self._stamp_clean(place, snapshot)
        with file_errors("write stat cache", place.side):
            base.stats.update(bytes.fromhex(snapshot.token), records, vanished, now)

    def _stamp_clean(self, place: ImagePlace, snapshot: Snapshot) -> int:
        identity = self._engine.repository.id
        return stamps.write(place, Stamp(PlaceState.CLEAN, identity, snapshot.token, snapshot.state.hex))

    def _loaded_stats(self, place: ImagePlace, commit: str) -> StatCache:
        stats = self._stats.setdefault(place.side, StatCache(_stat_path(place)))
        name = bytes.fromhex(commit)
        if stats.commit != name:
            stats.load()
            if stats.commit != name:
                stats.replace(name, {}, 0)
        return stats


def known_stamp(engine: Engine, place: ImagePlace) -> Stamp | None:
    """Return what is known of a place, if it is about this repository."""
    stamp = stamps.read(place)
    return stamp if stamp is not None and stamp.cache == engine.repository.id else None


def _stat_path(place: ImagePlace) -> str:
    return os.path.join(place.side, "stat")
