"""`list`: which images are in the storage directory. Takes no lock and tolerates changes while it looks."""

import json
import os
from dataclasses import dataclass

from chimage_core.image.reference import Reference
from chimage_core.workspace import Workspace

_LONGEST_METADATA = 1 << 20
"""Bytes. An image is data from strangers; listing must not read a file of any size into memory."""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image in the storage directory."""

    reference: Reference
    architecture: str | None
    """None: the image does not say."""
    modified_ns: int
    """Last change, ns since the epoch."""
    path: str
    """The unpacked image."""
    state: str | None
    """State ID (hexadecimal) of the snapshot that the image is at; None: it is not in the build cache."""


def list_images(workspace: Workspace) -> tuple[ListedImage, ...]:
    """Return all images, sorted by name."""
    return tuple(filter(None, (_listed(workspace, name) for name in image_names(workspace))))


def find_image(workspace: Workspace, reference: Reference) -> ListedImage | None:
    """Return one image, or None."""
    name = reference.file_name
    return _listed(workspace, name) if name in image_names(workspace) else None


def image_names(workspace: Workspace) -> tuple[str, ...]:
    """Return the names of all images: those in place, and those whose directory a build has at work just now."""
    images, cache = workspace.images, workspace.cache
    at_work = (name for name in images.interrupted() if cache.head(name) is not None)
    return tuple(sorted({*images.names(), *at_work}))


def _listed(workspace: Workspace, name: str) -> ListedImage | None:
    """Return None for an image that has just gone."""
    place = workspace.images.published(name)
    if not os.path.isdir(place.root):
        place = workspace.images.workplace(name)
    try:
        modified = os.lstat(place.root).st_ctime_ns
    except OSError:
        return None
    held = workspace.cache.held(place)
    return ListedImage(
        reference=Reference.from_file_name(name),
        architecture=_architecture(place.root),
        modified_ns=modified,
        path=place.root,
        state=held.state.hex if held else None,
    )


def _architecture(root: str) -> str | None:
    """Return what the image says of itself, whoever wrote it."""
    try:
        with open(os.path.join(root, "ch", "metadata.json"), "rb") as file:
            architecture = json.loads(file.read(_LONGEST_METADATA)).get("arch")
    except (OSError, ValueError, AttributeError):
        return None
    return architecture if isinstance(architecture, str) else None
