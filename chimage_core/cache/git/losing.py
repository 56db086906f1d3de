"""What the repository gives back when references go, to the block, before anything is removed.

What goes is in stages, one after the other, and each is given what its going gives back if those before it have gone:
what several need goes with the last. `dropping` says which packs are written anew then; here that becomes room on the
disk. What nothing needs at all, as interrupted commands leave it, goes with the first stage.
"""

import itertools
import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

from chimage_core.cache.git import dropping, gc
from chimage_core.cache.git.dropping import DropPlan, pack_files
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.entries import file_sizes
from chimage_core.cache.git.graph import read_commits
from chimage_core.cache.git.packedrefs import pack_references, packed_size
from chimage_core.cache.git.reachability import Reach, stored_sizes
from chimage_core.cache.git.refs import PACKED, STATES
from chimage_core.cache.state import StateID
from chimage_core.errors import file_errors
from chimage_core.fs.usage import blocks, on_disk


class Going(NamedTuple):
    """Something that goes: an image, a deleted image, or a state that no image needs."""

    commit: bytes | None
    """None: it keeps nothing here (an image that is not in the build cache; what nothing needs at all)."""
    reference: str | None = None
    """Of an image, by its full name. States find theirs, and may stay because something else needs them."""


class Share(NamedTuple):
    """What the going of a stage gives back, bytes."""

    frees: int
    each: tuple[int, ...]
    """What each of its members gives back, as far as that can be told apart. The sum is not exact."""
    large: tuple[tuple[bytes, ...], ...]
    """For each member, the large files that nothing else needs, by what `big=` names."""


class Losses(NamedTuple):
    """What goes with some stages."""

    shares: tuple[Share, ...]
    references: dict[str, bytes]
    """All that have to go, with their commits: also those of states that nothing else keeps."""
    drop: DropPlan


def find_losses(engine: Engine, stages: Sequence[Sequence[Going]]) -> Losses:
    """Find out what goes with some stages. Raises CacheBroken, NotInCache, FileError, Cancelled."""
    references = engine.references.below("refs/")
    named = {going.reference for stage in stages for going in stage}
    kept = _kept(engine, references, stages, named)
    sizes = stored_sizes(engine.store)
    reach = Reach(engine.store, engine.options.cancel)
    reach.add(kept)
    lost = [name for name, commit in references.items() if _is_lost(name, commit, named, reach.objects)]
    final = plan = dropping.plan_drop_objects(engine, reach.objects)
    room = _room(engine, plan, references, lost)
    shares: list[Share] = []
    for number in reversed(range(len(stages))):
        share = _add(reach, stages[number], sizes)
        if number:
            before = {going.reference for stage in stages[:number] for going in stage}
            still_lost = [name for name in lost if _is_lost(name, references[name], before, reach.objects)]
            plan = dropping.plan_drop_objects(engine, reach.objects)
            rest = _room(engine, plan, references, still_lost)
        else:
            rest = 0
        shares.append(share._replace(frees=room - rest))
        room = rest
    return Losses(tuple(reversed(shares)), {name: references[name] for name in lost}, final)


def carry_out(engine: Engine, losses: Losses) -> None:
    """Remove references, then what only they needed. The caller holds the storage lock exclusively.

    A crash in between leaves objects that nothing needs. Raises FileError, CacheError, Cancelled.
    """
    pack_references(engine.repository.path, losses.references, sync=engine.options.sync)
    gc.follow(engine, dropping.drop(engine, losses.drop))


def states_of(losses: Losses) -> list[StateID]:
    """Return the states that go."""
    names = (name.removeprefix(STATES) for name in losses.references if name.startswith(STATES))
    return [StateID.from_hex(name) for name in names]


def stored_large_files(directory: str) -> dict[bytes, list[str]]:
    """Return the files in the store of large files, by what `big=` names; one content may have several."""
    found: dict[bytes, list[str]] = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            found.setdefault(os.fsencode(name).partition(b"-")[0], []).append(os.path.join(parent, name))
    return found


def _kept(
    engine: Engine, references: dict[str, bytes], stages: Sequence[Sequence[Going]], named: set[str | None]
) -> set[bytes]:
    """Return the commits that stay: heads that do not go, and such states that no image keeps and that do not go."""
    heads = {name: commit for name, commit in references.items() if not name.startswith(STATES)}
    reachable = read_commits(engine.store, heads.values())
    going = {member.commit for stage in stages for member in stage}
    kept = {commit for name, commit in heads.items() if name not in named}
    states = (commit for name, commit in references.items() if name.startswith(STATES))
    return kept.union(commit for commit in states if commit not in reachable and commit not in going)


def _is_lost(name: str, commit: bytes, named: "set[str | None]", needed: set[bytes]) -> bool:
    return commit not in needed if name.startswith(STATES) else name in named


def _add(reach: Reach, stage: Sequence[Going], sizes: dict[bytes, int]) -> Share:
    """Take in what the members of a stage need, the last first."""
    each, large = [], []
    for going in reversed(stage):
        known = len(reach.large)
        new = reach.add([going.commit]) if going.commit else ()
        each.append(sum(sizes.get(name, 0) for name in new))
        # Dictionaries keep their order: what came with this commit is at the end.
        large.append(tuple(itertools.islice(reach.large, known, None)))
    return Share(0, tuple(reversed(each)), tuple(reversed(large)))


def _room(engine: Engine, plan: DropPlan, references: dict[str, bytes], lost: Collection[str]) -> int:
    """Return the bytes on the disk that a plan gives back, with these references."""
    packs, repository = engine.repository.packs, engine.repository.path
    kept = references.keys() - set(lost)
    with file_errors("look at build cache", repository):
        old = [path for pack, _ in plan.packs for path in pack_files(pack)]
        loose = [os.path.join(repository, name) for name in (PACKED, *references)]
        taken = sum(blocks(size, packs) for _, rest in plan.packs if rest for size in file_sizes(rest))
        packed = blocks(packed_size(kept), repository) if references else 0
        freed = sum(on_disk(os.lstat(path)) for path in (*old, *plan.others, *loose) if os.path.lexists(path))
    return freed - taken - packed
