"""Remove objects that nothing needs, and leave the others as they are: what that frees is known beforehand, exactly.

A pack without dead objects is left alone; one with some is written anew without them, and one that has nothing else
goes. An object is always in some pack: an old one goes when the new one is complete.
"""

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.entries import Entry, bases_first, copy_entry, pack_bytes, read_entries, with_bases
from chimage_core.cache.git.packfile import Pack
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reachability import Reach
from chimage_core.errors import file_errors


class PackDrop(NamedTuple):
    """A pack that has dead objects."""

    pack: Pack
    kept: list[Entry]
    """What is copied into a new pack, in its order there."""


class DropPlan(NamedTuple):
    """What is to be removed."""

    objects: int
    """Objects that nothing needs, not even a delta."""
    size: int
    """Bytes of all files that will be gone, less those of the files that take their place."""
    packs: list[PackDrop]
    others: list[str]
    """Other files: of single objects; listings, if a pack goes."""


def plan_drop(engine: Engine, keep: Iterable[bytes]) -> DropPlan:
    """Return what can go if only these commits and their ancestors are needed.

    Raises NotInCache if something is missing that they need, CacheBroken, FileError, Cancelled.
    """
    reach = Reach(engine.store, engine.options.cancel)
    reach.add(keep)
    return plan_drop_objects(engine, reach.objects)


def plan_drop_objects(engine: Engine, live: set[bytes]) -> DropPlan:
    """Return what can go if only these objects are needed. Raises CacheBroken, FileError."""
    engine.store.refresh()
    dead: set[bytes] = set()
    rest: list[Pack] = []
    elsewhere: set[bytes] = set()
    for pack in sorted(engine.store.packs(), key=lambda pack: pack.path):
        names = {name for _, name in pack.entries()}
        if names <= live:
            elsewhere |= names
        else:
            dead |= names - live
            rest.append(pack)
    packs, size = [], 0
    for pack in rest:
        kept = _kept(pack, live - elsewhere)
        elsewhere.update(entry.name for entry in kept)
        if len(kept) < pack.count:  # Else all that is dead are bases of what is not.
            packs.append(PackDrop(pack, kept))
            size += _file_sizes(pack_files(pack)) - pack_bytes(kept)
    loose = {path: name for path, name in loose_objects(engine.repository.objects) if name not in live}
    gone = dead.union(loose.values()) - elsewhere
    others = [*(listings(engine.repository.objects) if packs else ()), *loose]
    return DropPlan(len(gone), size + _file_sizes(others), packs, others)


def drop(engine: Engine, plan: DropPlan) -> dict[str, str]:
    """Remove what was planned; return the names of packs that were written anew, old and new.

    The caller holds the storage lock exclusively, and has removed the references.

    Raises FileError, CacheBroken, Cancelled; what is needed is then still there, perhaps twice.
    """
    remove_files(plan.others)
    renamed = {}
    for pack, kept in plan.packs:
        engine.options.cancel.check()
        index = write_pack(engine, kept)
        remove_pack(pack, keep=index)
        if index is not None:
            renamed[os.path.basename(pack.path)] = f"{os.path.basename(index).removesuffix('.idx')}.pack"
    engine.store.forget_removed()
    return renamed


def write_pack(engine: Engine, entries: Iterable[Entry]) -> str | None:
    """Copy entries, in the order in which they will stand there, into a new pack of the repository.

    Returns the path of its index, or None without entries. Raises FileError, CacheBroken, Cancelled.
    """
    cancel = engine.options.cancel
    with PackWriter(engine.repository.packs, lambda _: False, deflated=False, sync=engine.options.sync) as writer:
        for entry in entries:
            cancel.check()
            copy_entry(writer, entry)
        index = writer.finish()
    if index is not None:
        engine.store.add_pack(index)
    return index


def remove_pack(pack: Pack, *, keep: str | None) -> None:
    """Remove a pack with all that Git may have put beside it; not if its index is `keep`. Raises FileError."""
    if pack.index_path != keep:
        remove_files(pack_files(pack))


def remove_files(paths: Iterable[str]) -> None:
    """Remove files, if they are there. Raises FileError."""
    for path in paths:
        with file_errors("write build cache", path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def listings(objects: str) -> list[str]:
    """Return the files in which Git keeps what it knows of several packs together, or of commits: they would name what
    is gone."""
    patterns = ("pack/multi-pack-index*", "info/packs", "info/commit-graph", "info/commit-graphs/*")
    return [path for pattern in patterns for path in sorted(glob.glob(f"{glob.escape(objects)}/{pattern}"))]


def loose_objects(objects: str) -> Iterator[tuple[str, bytes]]:
    """Give (path, name) of objects that have a file of their own: git(1) makes such, we do not. Raises FileError."""
    with file_errors("read build cache", objects):
        for folder in sorted(os.listdir(objects)):
            if len(folder) == 2:
                for file in sorted(os.listdir(os.path.join(objects, folder))):
                    with contextlib.suppress(ValueError):
                        yield os.path.join(objects, folder, file), bytes.fromhex(folder + file)


def _kept(pack: Pack, names: set[bytes]) -> list[Entry]:
    """Return the entries with these names and the bases that they need, in an order in which they can be copied."""
    entries = {entry.name: entry for entry in read_entries(pack)}
    needed = with_bases(names, entries)
    return bases_first({name: entry for name, entry in entries.items() if name in needed})


def pack_files(pack: Pack) -> list[str]:
    """Return the files of a pack, the index first: without it, nobody takes the rest for a pack."""
    stem = glob.escape(pack.path.removesuffix(".pack"))
    return [pack.index_path, *sorted(set(glob.glob(f"{stem}.*")) - {pack.index_path})]


def _file_sizes(paths: Iterable[str]) -> int:
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += os.lstat(path).st_size
    return total
