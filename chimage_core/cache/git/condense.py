"""Put all objects that are needed into one pack, as small as is worth the time.

What an earlier collection has put into its pack was compared and deflated well then, and is copied as it is; only what
came later costs more than copying. Without git(1) everything but the comparing is done.

An object is always in some pack: the old ones go when the new one is complete. Until then, the disk has to hold both,
and what is worked on.
"""

import mmap
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from chimage_core.cache.git import deltas
from chimage_core.cache.git.dropping import listings, loose_objects, remove_files, remove_pack
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.entries import Entry, bases_first, copy_entry, read_entries
from chimage_core.cache.git.packfile import Pack
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reachability import Reach
from chimage_core.cache.git.squeeze import Squeezed, squeeze
from chimage_core.errors import file_errors
from chimage_core.events.collect import CollectionAdvanced, Phase
from chimage_core.fs.atomic import temporary_directory

_RELEASED = 32 << 20
"""Bytes after which memory for what was read is given back."""


class Means(NamedTuple):
    """With what to work."""

    git: str | None
    """The path of git(1), if there is one."""
    processes: int


class Stock(NamedTuple):
    """What is in the repository's own packs."""

    packs: list[Pack]
    entries: dict[bytes, Entry]
    """By name; of an object that is in several packs, the one in an earlier collection's."""
    fresh: set[bytes]
    """Objects that no earlier collection has worked on."""


def condense(engine: Engine, reach: Reach, settled: Collection[str], means: Means, note: Callable[[str], None]) -> int:
    """Put what is reached into one pack; return how many objects were dropped.

    `settled` are the names (`pack-….pack`) of packs of earlier collections; `note` is told the name of the new one
    before the old ones go. The caller holds the storage lock exclusively. Raises FileError, CacheBroken, CacheError,
    Cancelled.
    """
    _pack_loose(engine, reach.objects)
    stock = _take_stock(engine, settled)
    live = {name: entry for name, entry in stock.entries.items() if name in reach.objects}
    index = _already_condensed(stock, live)
    if index is None and live:
        with temporary_directory(engine.repository.path, "gc-") as directory:
            chosen = _compared(engine, live, stock, reach, means, directory)
            thin = [entry for entry in chosen if entry.base is None and entry.name in stock.fresh]
            _advance(engine, "compressing", thin)
            squeezed = squeeze(thin, directory, means.processes, engine.options.cancel)
            _advance(engine, "writing", chosen)
            index = _written(engine, chosen, squeezed)
    if index is not None:
        engine.store.add_pack(index)
        note(os.path.basename(index).removesuffix(".idx") + ".pack")
    _remove_replaced(engine, stock.packs, index)
    return len(stock.entries) - len(live)


def _pack_loose(engine: Engine, live: set[bytes]) -> None:
    """Put objects that git(1) left in files of their own into a pack, or remove them."""
    loose = dict(loose_objects(engine.repository.objects))
    if not loose:
        return
    packs, sync = engine.repository.packs, engine.options.sync
    with PackWriter(packs, engine.store.contains, deflated=False, sync=sync) as writer:
        for name in loose.values():
            if name in live:
                writer.add(*engine.store.read_loose(name))
        index = writer.finish()
    if index is not None:
        engine.store.add_pack(index)
    remove_files(loose)


def _take_stock(engine: Engine, settled: Collection[str]) -> Stock:
    engine.store.refresh()
    packs = sorted(engine.store.packs(), key=lambda pack: (os.path.basename(pack.path) not in settled, pack.path))
    stock = Stock(packs, {}, set())
    for pack in packs:
        engine.options.cancel.check()
        is_fresh = os.path.basename(pack.path) not in settled
        for entry in read_entries(pack):
            if entry.name not in stock.entries:
                stock.entries[entry.name] = entry
                if is_fresh:
                    stock.fresh.add(entry.name)
    engine.store.release()
    return stock


def _already_condensed(stock: Stock, live: Mapping[bytes, Entry]) -> str | None:
    """Return the index of the pack of an earlier collection that has exactly what is needed, if there is one."""
    first = stock.packs[0] if stock.packs else None
    if first is None or len(live) != first.count or any(entry.pack is not first for entry in live.values()):
        return None
    return None if stock.fresh & live.keys() else first.index_path


def _compared(
    engine: Engine, live: Mapping[bytes, Entry], stock: Stock, reach: Reach, means: Means, directory: str
) -> list[Entry]:
    """Return the entries to be copied, bases first; with Git's, where it made differences."""
    chosen = dict(live)
    # Differences to what is not needed any more: that would stay for ever.
    orphans = {name for name, entry in live.items() if entry.base is not None and entry.base not in live}
    if means.git is None:
        chosen.update(_made_whole(engine, orphans, directory))
        return bases_first(chosen)
    paths = {name: reach.paths.get(name, 0) for name in live}
    related = deltas.versions({name: path for name, path in paths.items() if path}, stock.fresh)
    handed = deltas.connected(orphans.union(related), live) & live.keys()
    # A path of which nothing was compared before is compared as a whole; else what is there is used again.
    old_paths = {paths[name] for name in handed if name not in stock.fresh}
    _advance(engine, "comparing", [live[name] for name in handed])
    tool = deltas.Tool(means.git, means.processes, engine.options.cancel)
    for reuse in (False, True):
        objects = {name: paths[name] for name in handed if (paths[name] in old_paths) == reuse}
        target = os.path.join(directory, f"compared-{reuse}")
        os.mkdir(target)
        found = deltas.compare(engine.repository.path, objects, target, tool, reuse=reuse)
        chosen.update((entry.name, entry) for entry in found)
    return bases_first(chosen)


def _made_whole(engine: Engine, names: set[bytes], directory: str) -> dict[bytes, Entry]:
    """Write these objects into a pack in `directory` that has no differences; return its entries."""
    with PackWriter(directory, lambda _: False, deflated=True, sync=False) as writer:
        for name in sorted(names):
            engine.options.cancel.check()
            writer.add(*engine.store.read(name), deflated=True)
        index = writer.finish()
    return {entry.name: entry for entry in read_entries(Pack(index))} if index else {}


def _written(engine: Engine, entries: Sequence[Entry], squeezed: Sequence[Squeezed]) -> str | None:
    """Write the pack; return the path of its index."""
    cancel = engine.options.cancel
    replaced, maps = _mapped(squeezed)
    with PackWriter(engine.repository.packs, lambda _: False, deflated=False, sync=engine.options.sync) as writer:
        released = 0
        for entry in entries:
            cancel.check()
            if writer.end - released > _RELEASED:
                released = writer.end
                engine.store.release()
                for mapped in maps:
                    mapped.madvise(mmap.MADV_DONTNEED)
            if entry.name in replaced:
                writer.copy_raw(entry.name, replaced[entry.name])
            else:
                copy_entry(writer, entry)
        return writer.finish()


def _mapped(squeezed: Sequence[Squeezed]) -> tuple[dict[bytes, memoryview], list[mmap.mmap]]:
    """Return the entries that became smaller, as they are now, and the mapped files that they are in."""
    found: dict[bytes, memoryview] = {}
    maps = []
    for path, sizes in squeezed:
        if sizes:
            with file_errors("read", path), open(path, "rb") as file:
                maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            start, view = 0, memoryview(maps[-1])
            for name, size in sizes.items():
                found[name] = view[start : start + size]
                start += size
    return found, maps


def _remove_replaced(engine: Engine, packs: Sequence[Pack], index: str | None) -> None:
    """Remove packs, but for the new one, and what Git remembers of them."""
    remove_files(listings(engine.repository.objects))
    for pack in packs:
        remove_pack(pack, keep=index)
    engine.store.forget_removed()


def _advance(engine: Engine, phase: Phase, entries: Sequence[Entry]) -> None:
    if entries:
        size = sum(entry.size for entry in entries)
        engine.options.emit(CollectionAdvanced(phase=phase, objects=len(entries), size=size))
