"""`list`: which images are in the storage directory. Takes no lock and tolerates changes while it looks."""

import contextlib
import json
import os
from typing import NamedTuple

from chimage_core.errors import CacheError
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
    """The unpacked image, or where it would be."""
    state: str | None
    """State ID (hexadecimal) of the snapshot that the image is at; None: it is not in the build cache, or not asked."""
    is_unpacked: bool = True
    """It has a directory. Else it is in the build cache only, until it is needed."""


def list_images(workspace: Workspace, *, with_states: bool) -> tuple[ListedImage, ...]:
    """Return all images, sorted by name. Finding out their states takes as long again."""
    listed = (_listed(workspace, reference, with_states) for reference in _references(workspace))
    return tuple(image for image in listed if image is not None)


def find_image(workspace: Workspace, reference: Reference) -> ListedImage | None:
    """Return one image, or None."""
    return _listed(workspace, reference.full, with_state=True) if reference in _references(workspace) else None


def _references(workspace: Workspace) -> list[Reference]:
    """Return all images: those in place, and those in the build cache whose directory was packed away, or is at work
    in a build just now."""
    images = workspace.images
    elsewhere = {*images.interrupted(), *images.packed_away()}
    known = {Reference.from_file_name(name) for name in elsewhere if workspace.lasting_cache.head(name) is not None}
    found = images.references()
    return sorted({*found, *known}, key=lambda each: each.file_name) if known else list(found)


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
    return _packed_away(workspace, reference)


def _packed_away(workspace: Workspace, reference: Reference) -> ListedImage | None:
    """Return an image that has no directory: what is to be known of it is in the build cache."""
    cache, place = workspace.lasting_cache, workspace.images.published(reference.file_name)
    try:
        modified = os.lstat(place.side).st_mtime_ns
    except OSError:
        return None
    head = cache.head(reference.file_name)
    if head is None:
        return None
    architecture = None
    with contextlib.suppress(CacheError):  # A damaged image must not hide the others.
        architecture = cache.config(head).architecture
    return ListedImage(
        reference=reference,
        architecture=architecture,
        modified_ns=modified,
        path=place.root,
        state=head.state.hex,
        is_unpacked=False,
    )


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
