"""Does an image directory hold what its stamp says?

Whatever writes below the root directory without asking us (`ch-run -w`, an editor) leaves the stamp as it is, so only a
comparison tells. The stat cache makes it cheap: what has the same numbers as after the last commit is not read.
"""

import os

from chimage_core.cache.git import delta
from chimage_core.cache.git.draft import Draft
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.objects import COMMIT, Commit
from chimage_core.cache.git.places import Base, Places, known_stamp
from chimage_core.cache.git.recording import draft_contents, scan
from chimage_core.cache.git.treebuild import build_tree
from chimage_core.cache.git.trees import join
from chimage_core.cache.stamp import PlaceState, Stamp
from chimage_core.errors import CacheBroken, NotInCache
from chimage_core.rootfs.place import ImagePlace


def claim(engine: Engine, place: ImagePlace) -> Stamp | None:
    """Return the stamp of a place that claims to hold a snapshot of this cache; None if nothing is claimed.

    After a restart of the machine nothing is: see `Places.base`.
    """
    stamp = known_stamp(engine, place)
    return stamp if stamp is not None and stamp.status is PlaceState.CLEAN and stamp.same_boot else None


def claim_problem(engine: Engine, stamp: Stamp) -> str | None:
    """Return why a claim cannot be true, without looking at the directory; None if it may be."""
    try:
        commit = Commit.decode(engine.store.read_kind(bytes.fromhex(stamp.commit), COMMIT))
    except (NotInCache, CacheBroken, ValueError):
        return f"its stamp names a snapshot that is not in the build cache: {stamp.commit}"
    if commit.state.hex != stamp.state:
        return f"its stamp names another state than its snapshot has: {stamp.state[:12]}"
    return None


def difference(engine: Engine, place: ImagePlace) -> list[str] | None:
    """Return the paths of entries that differ from what a directory claims to hold, came, or are gone; sorted.

    A directory stands for all below it. None if nothing is claimed. The caller holds the lock of the name: permissions
    may be lifted for a moment. Raises FileError, CacheError.
    """
    base = Places(engine).base(place)
    if base is None:
        return None
    draft = Draft(engine.store)
    scanner = scan(engine, place, None, base, draft, likewise=True)
    draft_contents(scanner, draft)
    present = build_tree(scanner.changes, base.trees, draft) or base.root
    return sorted({*_paths(engine, base, draft, present), *scanner.devices})


def _paths(engine: Engine, base: Base, draft: Draft, present: bytes) -> list[str]:
    """Return the paths of what differs between a tree and the one it should be."""
    paths = []
    for visit in delta.compare(draft, present, engine.store, base.root).visits:
        names = {*visit.removed, *(made[0] for made in visit.made)}
        names.update(name for name, _ in (*visit.altered, *visit.folders))
        paths += [join(visit.path, name) for name in names] or [visit.path]
    return [os.fsdecode(path) or "/" for path in paths]
