"""`inspect`: all that is known of an image in the storage directory. Takes no lock."""

import contextlib
import os
import re
import stat
from typing import NamedTuple

from chimage_core.cache.git.history import PastState, history
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.records import Origin
from chimage_core.errors import ImageNotFound, NotInCache
from chimage_core.fs.tree import walk
from chimage_core.fs.usage import Sum
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.ops.list import ListedImage, find_image
from chimage_core.rootfs import metadata
from chimage_core.workspace import Workspace

_DIGEST = re.compile(r"@(sha\d+:[0-9a-f]+)$")


class Size(NamedTuple):
    """How large an unpacked image is."""

    files: int
    """Of all kinds, but directories; each hard link counts."""
    directories: int
    bytes: int
    """Sizes of the regular files together, hard links counted once: what a tarball of it has."""
    disk: int
    """Bytes that its files take on the disk."""


class Inspection(NamedTuple):
    """What is known of an image."""

    image: ListedImage
    config: ImageConfig
    states: tuple[PastState, ...]
    """Those that led to it, oldest first, the last one being its own; none if it is not in the build cache."""
    is_changed: bool
    """Its directory is not known to hold its state: something changed it, or the machine was restarted."""
    base: Reference | None
    """The image in the nearest of the states before its own that an image is in."""
    origin: Origin | None
    """Where its first state comes from, if that is on record."""
    size: Size | None
    """None: it is not unpacked."""

    @property
    def digest(self) -> str | None:
        """Of the manifest that the image was pulled by, or the image at its root was, if no instruction changed it."""
        match = None if self.origin is None or len(self.states) != 1 else _DIGEST.search(self.origin.source)
        return None if match is None else match.group(1)


def inspect(workspace: Workspace, reference: Reference) -> Inspection:
    """Return what is known of an image. Raises ImageNotFound, MetadataError, FileError, CacheError, Cancelled."""
    image = find_image(workspace, reference)
    if image is None:
        raise ImageNotFound(f"image not found: {reference}", hint="“list” tells which there are")
    head, states = _states(workspace, image)
    origin = None
    if states:
        first = states[0].snapshot.state
        origin = next(workspace.inputs.answers(lambda records: records.origin(first)), None)
    return Inspection(
        image=image,
        config=_config(workspace, image, head),
        states=states,
        is_changed=image.is_unpacked and bool(states) and _held(workspace, image) != head,
        base=_base(states),
        origin=origin,
        size=_size(workspace, image.path) if image.is_unpacked else None,
    )


def _states(workspace: Workspace, image: ListedImage) -> tuple[Snapshot | None, tuple[PastState, ...]]:
    cache = workspace.lasting_cache
    head = cache.head(image.reference.file_name)
    if head is None:
        return None, ()
    with contextlib.suppress(NotInCache):
        return head, history(cache.engine, head)
    return head, ()


def _held(workspace: Workspace, image: ListedImage) -> Snapshot | None:
    return workspace.lasting_cache.held(workspace.images.published(image.reference.file_name))


def _config(workspace: Workspace, image: ListedImage, head: Snapshot | None) -> ImageConfig:
    """What an image itself says counts; who changed it may have changed that, too."""
    if image.is_unpacked:
        architecture = image.architecture or workspace.architecture
        return metadata.read(image.path, architecture) or ImageConfig(architecture=architecture)
    assert head is not None, "an image is unpacked or cached"
    return workspace.lasting_cache.config(head)


def _base(states: tuple[PastState, ...]) -> Reference | None:
    names = next((state.images for state in reversed(states[:-1]) if state.images), ())
    return Reference.from_file_name(names[0]) if names else None


def _size(workspace: Workspace, root: str) -> Size:
    files = directories = total = 0
    seen: set[tuple[int, int]] = set()
    for info in walk(os.path.abspath(root), cancel=workspace.cancel):
        mode = info.status.st_mode
        if stat.S_ISDIR(mode):
            directories += 1
            continue
        files += 1
        inode = info.status.st_dev, info.status.st_ino
        if stat.S_ISREG(mode) and (info.status.st_nlink == 1 or inode not in seen):
            seen.add(inode)
            total += info.status.st_size
    disk, _ = Sum(workspace.cancel).add(root)
    return Size(files, directories, total, disk)
