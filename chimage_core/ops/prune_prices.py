"""What the loss of items gives back, in bytes on the disk, and losing them.

Items are priced in the order in which they are to go. What two of them hold together, as images hold files and states
hold objects, is given back with the last: so the sum of all is what really happens. The items of one kind that are in
the Git repository are priced together, to the byte; what each of them has of it is known but roughly, because packs
are written anew.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.errors import ImageNotFound, file_errors
from chimage_core.fs.usage import Removal, on_disk
from chimage_core.ops import prune_policy as policy
from chimage_core.ops.prune_policy import Item
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.cache.git.losing import Going, Losses

IN_REPOSITORY = (policy.STATES, policy.DELETED, policy.IMAGES)
"""Kinds whose items keep objects of the Git repository, in the order in which they go."""
_FILES = frozenset({policy.LARGE, policy.DOWNLOADS, policy.UPLOADS})
"""Kinds whose items are files, named by their paths."""


class Priced(NamedTuple):
    """Items with their sizes, and what they give back together."""

    items: tuple[Item, ...]
    frees: int


def price(workspace: Workspace, items: Sequence[Item]) -> dict[str, Priced]:
    """Return the items with their sizes, by kind. Raises FileError, CacheError, Cancelled."""
    by_kind = _by_kind(items)
    stages = [kind for kind in IN_REPOSITORY if kind in by_kind]
    shares = dict(zip(stages, losses(workspace, items).shares, strict=True)) if stages else {}
    files = _Files(workspace)
    priced: dict[str, Priced] = {}
    for kind, members in by_kind.items():
        sizes = [files.size(item) for item in members]
        frees = sum(sizes)
        if kind in shares:
            large = [files.large_size(names) for names in shares[kind].large]
            frees += sum(large) + shares[kind].frees
            sizes = list(map(sum, zip(sizes, large, shares[kind].each, strict=True)))
        sized = (item._replace(size=size) for item, size in zip(members, sizes, strict=True))
        priced[kind] = Priced(tuple(sized), frees)
    return priced


def losses(workspace: Workspace, items: Sequence[Item]) -> "Losses":
    """Return what goes of the Git repository with the items. Raises as `price` does."""
    from chimage_core.cache.git.losing import find_losses

    by_kind = _by_kind(items)
    stages = [[_going(workspace, item) for item in by_kind[kind]] for kind in IN_REPOSITORY if kind in by_kind]
    return find_losses(workspace.engine, stages)


def lose(workspace: Workspace, items: Sequence[Item]) -> None:
    """Let all the items go. The storage directory is locked exclusively.

    A crash or an error leaves some of them, and nothing that is half there. Raises FileError, CacheError, Cancelled.
    """
    from chimage_core.cache.git import losing

    # Before anything goes: afterwards, nobody could tell what only those needed that went.
    from_repository = losses(workspace, items) if _in_repository(items) else None
    for item in items:
        workspace.cancel.check()
        if item.kind in _FILES:
            with file_errors("remove", item.name), contextlib.suppress(FileNotFoundError):
                os.unlink(item.name)
        elif item.kind == policy.MOUNTS:
            workspace.cache_mounts.remove(item.name)
        elif item.kind == policy.UNPACKED:
            workspace.images.pack_away(item.name)
        elif item.kind == policy.IMAGES:
            with contextlib.suppress(ImageNotFound):  # It may be in the build cache only.
                workspace.images.delete(item.name)
    if from_repository is not None:
        losing.carry_out(workspace.engine, from_repository)
        workspace.inputs.expire(losing.states_of(from_repository), int(workspace.engine.options.clock()))
        stored = losing.stored_large_files(workspace.layout.large)
        for path in (
            path for share in from_repository.shares for names in share.large for path in _paths(stored, names)
        ):
            with file_errors("remove large file", path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _in_repository(items: Iterable[Item]) -> bool:
    return any(item.kind in IN_REPOSITORY for item in items)


def _by_kind(items: Iterable[Item]) -> Mapping[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.kind, []).append(item)
    return {kind: found[kind] for kind in policy.KINDS if kind in found}


class _Files:
    """Adds up what the files of items give back that are not in the Git repository."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._removal = Removal(workspace.cancel)
        self._gone: set[str] = set()
        from chimage_core.cache.git.losing import stored_large_files

        self._large = stored_large_files(workspace.layout.large)

    def size(self, item: Item) -> int:
        """Return what an item's own files give back. It goes after those that this was asked for before."""
        images, freed = self._workspace.images, 0
        if item.kind in _FILES:
            return self._removal.of(item.name)
        if item.kind == policy.MOUNTS:
            return self._removal.of(self._workspace.layout.cache_mount(item.name))
        if item.kind == policy.PACKS:
            return item.size  # A guess.
        if item.kind not in (policy.UNPACKED, policy.IMAGES):
            return 0
        paths = set(images.belongings(item.name)) - self._gone
        self._gone |= paths
        if item.kind == policy.IMAGES:
            side = images.published(item.name).side
            with file_errors("look at", side), contextlib.suppress(FileNotFoundError):
                freed = on_disk(os.lstat(side))
        return freed + sum(map(self._removal.of, paths))

    def large_size(self, names: Iterable[bytes]) -> int:
        """Return what these large files give back."""
        return sum(map(self._removal.of, _paths(self._large, names)))


def _paths(stored: Mapping[bytes, Sequence[str]], names: Iterable[bytes]) -> list[str]:
    return [path for name in names for path in stored.get(name, ())]


def _going(workspace: Workspace, item: Item) -> "Going":
    from chimage_core.cache.git.losing import Going
    from chimage_core.cache.git.refs import IMAGES, escape

    if item.kind == policy.STATES:
        return Going(bytes.fromhex(item.name) if item.name else None)
    reference = item.name if item.kind == policy.DELETED else IMAGES + escape(item.name)
    return Going(workspace.engine.references.get(reference), reference)
