"""What the cache knows of an image in the storage directory, made to agree with what is there."""

import os
import time

from chimage_core.cache.protocol import Snapshot, StepRecord
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.rootfs import metadata
from chimage_core.rootfs.changes import AnythingChanged
from chimage_core.workspace import Workspace


def needs_adoption(workspace: Workspace, name: str) -> bool:
    """Return whether the image is there, but the cache does not know this directory (it was made without cache)."""
    cache, place = workspace.cache, workspace.images.published(name)
    is_known = cache.known(place) is not None and cache.head(name) is not None
    return cache.keeps_snapshots and not is_known and os.path.isdir(place.root)


def head(workspace: Workspace, name: str) -> Snapshot | None:
    """Return the snapshot of an image, or None. Adopts the image if needed: the caller then holds its lock."""
    if not needs_adoption(workspace, name):
        return workspace.cache.head(name)
    place = workspace.images.published(name)
    config = config_of(workspace, name)
    record = StepRecord(
        parent=None,
        state=None,
        text=f"IMPORT {Reference.from_file_name(name)}",
        config=config,
        changes=AnythingChanged(),
    )
    snapshot = workspace.cache.commit(place, record)
    workspace.cache.publish(name, snapshot)
    note_origin(workspace, str(Reference.from_file_name(name).full), snapshot, place.root)
    return snapshot


def note_origin(workspace: Workspace, reference: str, snapshot: Snapshot, source: str) -> None:
    """Put on record where an image comes from, which no instruction made; `reference` is in full."""
    if workspace.cache.keeps_snapshots:
        from chimage_core.cache.records import Origin

        workspace.inputs.add_origin(Origin(reference, snapshot.state, source, int(time.time())))


def config_of(workspace: Workspace, name: str) -> ImageConfig:
    """Return the configuration that an image itself tells; a default one if it does not."""
    root = workspace.images.published(name).root
    return metadata.read(root, workspace.architecture) or ImageConfig(architecture=workspace.architecture)


def unpack(workspace: Workspace, name: str, snapshot: Snapshot) -> None:
    """Make the directory of an image hold its snapshot. The caller holds the lock of the name."""
    cache, images = workspace.cache, workspace.images
    if not cache.keeps_snapshots or cache.held(images.published(name)) == snapshot:
        return
    place = images.workplace(name)
    if cache.held(place) is None and cache.known(images.published(name)) is not None:
        images.take(name)
    cache.restore(snapshot, place)
    images.publish(name)
