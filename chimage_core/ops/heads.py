"""What the cache knows of an image in the storage directory, made to agree with what is there."""

import contextlib
import os
import time
from collections.abc import Iterator

from chimage_core.cache.protocol import Snapshot, StepRecord
from chimage_core.errors import ImageNotFound
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


def needs_unpacking(workspace: Workspace, name: str) -> bool:
    """Return whether the image is in the build cache only, and what goes on here does without the build cache."""
    is_elsewhere = not workspace.cache.keeps_snapshots and not workspace.images.exists(name)
    return is_elsewhere and workspace.lasting_cache.head(name) is not None


def needs_settling(workspace: Workspace, name: str) -> bool:
    """Return whether directory and build cache do not agree on an image, so that it cannot be a base as it is."""
    return needs_adoption(workspace, name) or needs_unpacking(workspace, name)


def settle(workspace: Workspace, name: str) -> bool:
    """Adopt the image or unpack it, if that is needed; return whether it became a new snapshot.

    The caller holds its lock. Raises FileError, CacheError, MetadataError, Cancelled.
    """
    if needs_unpacking(workspace, name):
        unpack_packed_away(workspace, name)
    if not needs_adoption(workspace, name):
        return False
    cache, place = workspace.cache, workspace.images.published(name)
    reference, before = Reference.from_file_name(name), cache.head(name)
    record = StepRecord(
        parent=None,
        state=None,
        text=f"IMPORT {reference}",
        config=config_of(workspace, name),
        changes=AnythingChanged(),
        # Only its notes may be lost, and then all that was built on it is still good.
        expected=before,
    )
    snapshot = cache.commit(place, record)
    if snapshot == before:
        return False
    cache.publish(name, snapshot)
    note_origin(workspace, str(reference.full), snapshot, place.root)
    return True


def note_origin(workspace: Workspace, reference: str, snapshot: Snapshot, source: str) -> None:
    """Put on record where an image comes from, which no instruction made; `reference` is in full."""
    if workspace.cache.keeps_snapshots:
        from chimage_core.cache.records import Origin

        workspace.inputs.add_origin(Origin(reference, snapshot.state, source, int(time.time())))


def config_of(workspace: Workspace, name: str) -> ImageConfig:
    """Return the configuration that an image itself tells; a default one if it does not."""
    root = workspace.images.published(name).root
    return metadata.read(root, workspace.architecture) or ImageConfig(architecture=workspace.architecture)


def unpack_packed_away(workspace: Workspace, name: str) -> None:
    """Make the directory of an image that is in the build cache only, if it is there. The caller holds its lock.

    Raises FileError, CacheError, Cancelled.
    """
    cache, images = workspace.lasting_cache, workspace.images
    snapshot = cache.head(name)
    if snapshot is None:
        return
    try:
        cache.restore(snapshot, images.workplace(name))
    except BaseException:
        images.discard_work(name)
        raise
    images.publish(name)


@contextlib.contextmanager
def unpacked(workspace: Workspace, reference: Reference) -> Iterator[str]:
    """Give the directory of an image, which nobody changes while in the block; it is unpacked for that if it has none.

    Raises ImageNotFound, StorageBusy, FileError, CacheError, Cancelled.
    """
    name, cache, images = reference.file_name, workspace.lasting_cache, workspace.images
    with workspace.locks.images(read=(name,)):
        if images.exists(name):
            yield images.published(name).root
            return
        head = cache.head(name)
        if head is None:
            raise ImageNotFound(f"image not found: {reference}", hint="“list” tells which there are")
        with images.aside(name) as place:
            cache.restore(head, place)
            yield place.root


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


def add_name(workspace: Workspace, name: str, snapshot: Snapshot) -> None:
    """Give an image another name. It gets a directory only where one of that name is, or where there is nothing else.

    The caller holds the lock of the name. Raises FileError, CacheError, Cancelled.
    """
    cache, images = workspace.cache, workspace.images
    cache.publish(name, snapshot)
    if not cache.keeps_snapshots:
        cache.restore(snapshot, images.workplace(name))
        images.publish(name)
    elif images.exists(name):
        unpack(workspace, name, snapshot)
    else:
        images.note(name)
