"""What `build-cache --prune` takes away: the kinds of things, and which of them under which limits. No I/O here.

An item is the smallest thing that can be lost by itself: a state, a file, an unpacked image, a deletion, an image. What
is cheapest to get back goes first: the kinds are in that order, and in each the least recently used item comes first.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

STATES, LARGE, PACKS, DOWNLOADS, UPLOADS, MOUNTS, UNPACKED, DELETED, IMAGES = KINDS = (
    "states",
    "large",
    "packs",
    "downloads",
    "uploads",
    "mounts",
    "unpacked",
    "deleted",
    "images",
)
"""All kinds, the cheapest to lose first."""
GONE = frozenset({DELETED, IMAGES})
"""Kinds that do not come back. They go only if they are named."""
USELESS = frozenset({LARGE, PACKS})
"""Kinds that nobody misses: how long ago they were used means nothing."""


class Item(NamedTuple):
    """Something that can be pruned."""

    kind: str
    name: str
    """Unique in its kind: a commit, a path, an image name in file form, a reference, a key."""
    text: str
    """What it is, for people; not yet printable."""
    used: float
    """When it was last used, as far as known: seconds since the epoch."""
    group: str = ""
    """`keep_last` counts in each group of a kind by itself."""
    needs: tuple[str, ...] = ()
    """Names of items of the same kind that stay if this one stays (the states before a state)."""
    size: int = 0
    """Bytes that it gives back if all that go before it have gone; 0 if not found out."""


class Limits(NamedTuple):
    """What spares items. Each that is given has to allow that an item goes."""

    older_than: float | None = None
    """Seconds: what was used since is kept."""
    keep_last: int | None = None
    """So many items of each kind are kept, those used last; of deleted images, so many of each name."""


def chosen(items: Iterable[Item], limits: Limits, now: float) -> list[Item]:
    """Return the items that may go, in the order in which they are to go: each after those that need it."""
    by_kind: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    for item in items:
        by_kind[item.kind].append(item)
    found = []
    for kind, members in by_kind.items():
        ordered = _in_order(members)
        found += ordered if kind in USELESS else _allowed(ordered, limits, now)
    return found


def enough(items: Sequence[Item], goal: int) -> list[Item]:
    """Return as many of the items, from the first, as give back `goal` bytes; all if they do not.

    Their sizes must have been found out. What packs may give back is but a guess, and not counted.
    """
    taken, freed = [], 0
    for item in items:
        if freed >= goal:
            break
        taken.append(item)
        freed += 0 if item.kind == PACKS else item.size
    return taken


def _allowed(ordered: Sequence[Item], limits: Limits, now: float) -> list[Item]:
    """Return the items of one kind that the limits allow to go."""
    kept: set[str] = set()
    by_name = {item.name: item for item in ordered}
    if limits.older_than is not None:
        for item in ordered:
            if now - item.used < limits.older_than:
                _keep(item, by_name, kept)
    if limits.keep_last is not None:
        counts: dict[str, int] = {}
        last: set[str] = set()
        # Of those used at the same time, what needs the others comes first; they stay with it and are not counted.
        for item in sorted(ordered, key=lambda item: -item.used):
            if item.name not in last and counts.get(item.group, 0) < limits.keep_last:
                counts[item.group] = counts.get(item.group, 0) + 1
                _keep(item, by_name, last)
        kept |= last
    return [item for item in ordered if item.name not in kept]


def _keep(item: Item, by_name: Mapping[str, Item], kept: set[str]) -> None:
    pending = [item.name]
    while pending:
        name = pending.pop()
        if name not in kept and name in by_name:
            kept.add(name)
            pending += by_name[name].needs


def _in_order(members: Sequence[Item]) -> list[Item]:
    """Return items of one kind, the least recently used first, but each after those that need it.

    What is needed counts as used when the last of those was.
    """
    waiting = dict.fromkeys((item.name for item in members), 0)
    by_name = {item.name: item for item in members}
    for item in members:
        for name in item.needs:
            if name in waiting:
                waiting[name] += 1
    used = {item.name: item.used for item in members}
    ready = [item for item in members if not waiting[item.name]]
    order: list[tuple[float, int, Item]] = []
    while ready:
        item = ready.pop()
        # Uses only grow towards what is needed, so sorting by them later keeps an item after those that need it.
        order.append((used[item.name], len(order), item._replace(used=used[item.name])))
        for name in item.needs:
            if name in waiting:
                used[name] = max(used[name], used[item.name])
                waiting[name] -= 1
                if not waiting[name]:
                    ready.append(by_name[name])
    return [item for _, _, item in sorted(order, key=lambda entry: entry[:2])]
