"""`list`: which images are in the storage directory. Takes no lock and tolerates changes while it looks."""

import json
import os
from typing import NamedTuple

from chimage_core.image.reference import Reference
from chimage_core.workspace import Workspace

_LONGEST_METADATA = 1 << 20
"""Bytes. An image is data from strangers; listing must not read a file of any size into memory."""


class ListedImage(NamedTuple):
    """An image in the storage directory."""

    reference: Reference
    architecture: str | None
    """None: the image does not say."""
    modified_ns: int
    """Last change, ns since the epoch."""
    path: str
    """The unpacked image."""
    state: str | None
    """State ID (hexadecimal) of the snapshot that the image is at; None: it is not in the build cache, or not asked."""


def list_images(workspace: Workspace, *, with_states: bool) -> tuple[ListedImage, ...]:
    """Return all images, sorted by name. Finding out their states takes as long again."""
    listed = (_listed(workspace, reference, with_states) for reference in _references(workspace))
    return tuple(image for image in listed if image is not None)


def find_image(workspace: Workspace, reference: Reference) -> ListedImage | None:
    """Return one image, or None."""
    return _listed(workspace, reference.full, with_state=True) if reference in _references(workspace) else None


def _references(workspace: Workspace) -> list[Reference]:
    """Return all images: those in place, and those whose directory a build has at work just now."""
    interrupted, references = workspace.images.interrupted(), workspace.images.references()
    at_work = {Reference.from_file_name(name) for name in interrupted if workspace.cache.head(name) is not None}
    return sorted({*references, *at_work}, key=lambda each: each.file_name) if at_work else list(references)


def _listed(workspace: Workspace, reference: Reference, with_state: bool) -> ListedImage | None:
    """Return None for an image that has just gone."""
    name = reference.file_name
    for find in (workspace.images.published, workspace.images.workplace):
        place = find(name)
        try:
            modified = os.lstat(place.root).st_ctime_ns
        except OSError:
            continue
        held = workspace.cache.held(place) if with_state else None
        return ListedImage(
            reference=reference,
            architecture=_architecture(place.root),
            modified_ns=modified,
            path=place.root,
            state=held.state.hex if held else None,
        )
    return None


def _architecture(root: str) -> str | None:
    """Return what the image says of itself, whoever wrote it."""
    try:
        descriptor = os.open(f"{root}/ch/metadata.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, min(os.fstat(descriptor).st_size, _LONGEST_METADATA))
        finally:
            os.close(descriptor)
        architecture = json.loads(data).get("arch")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return architecture if isinstance(architecture, str) else None
