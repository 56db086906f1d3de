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
    removal, gone = Removal(workspace.cancel), set[str]()
    priced: dict[str, Priced] = {}
    for kind, members in by_kind.items():
        sized = [item._replace(size=_files_size(workspace, item, removal, gone)) for item in members]
        priced[kind] = Priced(tuple(sized), sum(item.size for item in sized))
    stages = [kind for kind in IN_REPOSITORY if kind in by_kind]
    if stages:
        for kind, share in zip(stages, losses(workspace, items).shares, strict=True):
            files, frees = priced[kind]
            sized = [item._replace(size=item.size + size) for item, size in zip(files, share.each, strict=True)]
            priced[kind] = Priced(tuple(sized), frees + share.frees)
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
        elif item.kind == policy.UNPACKED:
            workspace.images.pack_away(item.name)
        elif item.kind == policy.IMAGES:
            with contextlib.suppress(ImageNotFound):  # It may be in the build cache only.
                workspace.images.delete(item.name)
    if from_repository is not None:
        losing.carry_out(workspace.engine, from_repository)


def _in_repository(items: Iterable[Item]) -> bool:
    return any(item.kind in IN_REPOSITORY for item in items)


def _by_kind(items: Iterable[Item]) -> Mapping[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.kind, []).append(item)
    return {kind: found[kind] for kind in policy.KINDS if kind in found}


def _files_size(workspace: Workspace, item: Item, removal: Removal, gone: set[str]) -> int:
    """Return what the files of an item give back that are not in the Git repository."""
    paths: Sequence[str] = ()
    freed = 0
    if item.kind in _FILES:
        paths = (item.name,)
    elif item.kind in (policy.UNPACKED, policy.IMAGES):
        paths = [path for path in workspace.images.belongings(item.name) if path not in gone]
    if item.kind == policy.IMAGES:
        with contextlib.suppress(FileNotFoundError), file_errors("look at", workspace.layout.sides):
            freed = on_disk(os.lstat(workspace.images.published(item.name).side))
    gone.update(paths)
    return freed + sum(map(removal.of, paths))


def _going(workspace: Workspace, item: Item) -> "Going":
    from chimage_core.cache.git.losing import Going
    from chimage_core.cache.git.refs import IMAGES, escape

    if item.kind == policy.STATES:
        return Going(bytes.fromhex(item.name) if item.name else None)
    reference = item.name if item.kind == policy.DELETED else IMAGES + escape(item.name)
    return Going(workspace.engine.references.get(reference), reference)
