"""An image as layers, one for each of its states in the build cache that changed files.

What did not change between two versions of an image is then in the same layers, with the same digests: whoever has one
version needs only the others of the new one. Nothing is unpacked for this: what differs is read from the build cache.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.history import PastState, history
from chimage_core.cache.git.layers import layer_entries
from chimage_core.errors import ImageNotFound, NotInCache
from chimage_core.fs.entry import Entry
from chimage_core.image.config import ImageConfig
from chimage_core.image.oci import fitting_history
from chimage_core.image.reference import Reference
from chimage_core.rootfs.metadata import PRIVATE, PRIVATE_TOPS
from chimage_core.workspace import Workspace

_EMPTY = {"empty_layer": True}
_WITHOUT = PRIVATE | PRIVATE_TOPS
"""Nor the directory: each state has another time of it."""


class PastLayers(NamedTuple):
    """An image with its layers."""

    config: ImageConfig
    """Its history tells which of its entries have a layer."""
    layers: tuple[Callable[[], Iterable[Entry]], ...]
    """What gives the entries of each, lowest first."""
    states: tuple[PastState, ...]
    """Which state each layer leads to."""


def past_layers(workspace: Workspace, reference: Reference, *, xattrs: bool) -> PastLayers:
    """Return an image with the layers that it consists of; what it is in the build cache counts, not its directory.

    The caller holds the lock of its name. Raises ImageNotFound, NotInCache, CacheDisabled, CacheBroken, FileError.
    """
    engine, name = workspace.engine, reference.full.file_name
    head = workspace.lasting_cache.head(name)
    if head is None:
        if workspace.images.exists(name):
            raise NotInCache(f"image is not in the build cache: {reference}", hint="export it as one layer")
        raise ImageNotFound(f"image not found: {reference}", hint="“list” tells which there are")
    states = history(engine, head)
    pairs = [(None, states[0]), *itertools.pairwise(states)]
    sources = [functools.partial(_entries, engine, before, after, xattrs) for before, after in pairs]
    # The first one is a layer even if there is nothing in it: an image has one.
    is_layer = [True, *(any(True for _ in source()) for source in sources[1:])]
    config = workspace.lasting_cache.config(head)
    return PastLayers(
        config._replace(history=_history(config.history, is_layer)),
        tuple(source for source, is_one in zip(sources, is_layer, strict=True) if is_one),
        tuple(state for state, is_one in zip(states, is_layer, strict=True) if is_one),
    )


def _entries(engine: Engine, before: PastState | None, after: PastState, xattrs: bool) -> Iterable[Entry]:
    source = None if before is None else before.snapshot
    return layer_entries(engine, source, after.snapshot, without=_WITHOUT, xattrs=xattrs)


def _history(entries: tuple[Mapping[str, Any], ...], is_layer: list[bool]) -> tuple[Mapping[str, Any], ...]:
    """Return the history, in which exactly those instructions have a layer that changed files.

    Each instruction has added one entry; what is before those belongs to the first state.
    """
    steps = len(is_layer) - 1
    if len(entries) < steps:  # Of an image that was changed by other programs.
        return tuple(fitting_history(entries, sum(is_layer)))
    first = fitting_history(entries[: len(entries) - steps], 1)
    later = [
        {**{key: value for key, value in entry.items() if key != "empty_layer"}, **({} if is_one else _EMPTY)}
        for entry, is_one in zip(entries[len(entries) - steps :], is_layer[1:], strict=True)
    ]
    return (*first, *later)
