"""What is pushed of an image: its layers, each with what it takes to pack it, and its configuration.

An image that is in the build cache is known by what it holds, so that what came of packing the same before need not be
found out again. Whoever changes the directory of an image behind our back (`ch-run -w`) has it pushed as it is, if it
has to be packed; but such changes are not looked for if it was packed before.
"""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.cache.protocol import Snapshot
from chimage_core.errors import ImageNotFound, UsageError
from chimage_core.events import Warned
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.layer.compress import Compression, PackedStream, compressor_name
from chimage_core.ops.heads import config_of
from chimage_core.rootfs import metadata
from chimage_core.rootfs.metadata import PRIVATE
from chimage_core.transfer.upload import LayerPlan
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    # Imported only if something has to be packed.
    from chimage_core.fs.entry import Entry
    from chimage_core.ops.push_pack import Packer

_FORMAT = 1
"""Of layers: another one where the same files become other bytes."""


class Packing(NamedTuple):
    """How layers are made."""

    compression: Compression
    xattrs: bool
    epoch: int | None
    """Later times become this one, s since the epoch; None: all stay."""

    def key(self, content: str) -> str:
        """Return what a layer of this content is known by. Raises DependencyMissing."""
        ways = (f"layer {_FORMAT}", compressor_name(self.compression), f"xattrs {self.xattrs}", f"until {self.epoch}")
        return "; ".join((*ways, content))


class Source(NamedTuple):
    """An image to be pushed."""

    config: ImageConfig
    layers: tuple[LayerPlan, ...]
    """Lowest first."""


def from_directory(workspace: Workspace, path: str, packing: Packing) -> Source:
    """Return the image in a directory of the user's. Raises UsageError, MetadataError."""
    if not os.path.isdir(path):
        raise UsageError(f"push: --image: not a directory: {path}")
    config = metadata.read(path, workspace.architecture)
    if config is None:
        workspace.emit(Warned(text="no metadata to load; using defaults"))
        config = ImageConfig(architecture=workspace.architecture)
    return Source(config, (LayerPlan(None, lambda file: _packer(workspace, packing).pack_directory(path, file)),))


def from_storage(workspace: Workspace, reference: Reference, packing: Packing) -> Source:
    """Return an image of the storage directory, as one layer. The caller holds its lock, until it was pushed.

    Raises ImageNotFound, MetadataError, CacheError.
    """
    name, cache, lasting = reference.file_name, workspace.cache, workspace.lasting_cache
    place = workspace.images.published(name)
    if not workspace.images.exists(name):
        head = _head(workspace, reference)
        plan = LayerPlan(
            _key_of(workspace, head, None, packing),
            lambda file: _packer(workspace, packing).pack_restored(name, head, file),
        )
        return Source(lasting.config(head), (plan,))

    def pack(file: str) -> PackedStream:
        return _packer(workspace, packing).pack_directory(place.root, file)

    held = cache.held(place) if cache.keeps_snapshots else None
    if held is None:
        return Source(config_of(workspace, name), (LayerPlan(None, pack),))
    plan = LayerPlan(_key_of(workspace, held, None, packing), pack, lambda: _is_unchanged(workspace, name))
    return Source(cache.config(held), (plan,))


def from_history(workspace: Workspace, reference: Reference, packing: Packing) -> Source:
    """Return an image of the storage directory, with a layer for each state that has changed files.

    Taken from the build cache alone. The caller holds the lock of the name. Raises ImageNotFound, NotInCache,
    CacheError.
    """
    from chimage_core.ops.past_layers import past_layers

    past, name = past_layers(workspace, reference, xattrs=packing.xattrs), reference.full.file_name
    if workspace.images.exists(name) and not _is_unchanged(workspace, name):
        workspace.emit(Warned(text=f"what other programs have written into the image is not pushed: {reference}"))
    plans, before = [], None
    for entries, state in zip(past.layers, past.states, strict=True):
        key = _key_of(workspace, state.snapshot, before, packing)
        plans.append(LayerPlan(key, _packing_of(workspace, entries, packing)))
        before = state.snapshot
    return Source(past.config, tuple(plans))


def _packing_of(
    workspace: Workspace, entries: "Callable[[], Iterable[Entry]]", packing: Packing
) -> Callable[[str], PackedStream]:
    return lambda file: _packer(workspace, packing).pack_entries(entries(), file)


def _key_of(workspace: Workspace, snapshot: Snapshot, before: Snapshot | None, packing: Packing) -> str:
    """Return what the layer is known by that leads to a snapshot, from another one or (None) from nothing."""
    from chimage_core.cache.git.content_key import content_key

    engine = workspace.lasting_cache.engine
    now = content_key(engine, snapshot.token, PRIVATE)
    if before is None:
        return packing.key(f"all of {now}")
    return packing.key(f"{content_key(engine, before.token, PRIVATE)} to {now}")


def _packer(workspace: Workspace, packing: Packing) -> "Packer":
    from chimage_core.ops.push_pack import Packer

    return Packer(workspace, packing)


def _head(workspace: Workspace, reference: Reference) -> Snapshot:
    cache, name = workspace.lasting_cache, reference.full.file_name
    head = cache.head(name) or cache.shared_head(name)
    if head is None:
        raise ImageNotFound(f"image not found: {reference}", hint="“list” tells which there are")
    return head


def _is_unchanged(workspace: Workspace, name: str) -> bool:
    """Tell whether the directory of an image holds what the build cache says, file by file."""
    from chimage_core.cache.git.placecheck import difference

    return difference(workspace.engine, workspace.images.published(name)) == []
