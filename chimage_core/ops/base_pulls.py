"""Images that a build needs and that are not here: pulled, into storage or into the build cache only."""

import os
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.errors import ImageUnavailable, RegistryError
from chimage_core.events import Notice
from chimage_core.image.architecture import host_architecture
from chimage_core.image.platform import is_for
from chimage_core.image.reference import Reference
from chimage_core.ops.foreign import remember
from chimage_core.ops.heads import add_name
from chimage_core.ops.pull import Manner, announce, commit, resolve, state_of, store
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.ops.bases import Wanted


class BaseNeed(NamedTuple):
    """An image that a build needs."""

    image: Reference
    architecture: str | None
    """None: that of this host."""
    is_here: bool
    """There is one that will do, but perhaps not the newest."""
    is_taken: bool
    """The name is that of an image for another architecture."""


def pull_base(workspace: Workspace, need: BaseNeed, wanted: "Wanted") -> bool:
    """Pull an image; return whether it is new here.

    One for another architecture than the host's gets no name here, unless there is no build cache. The caller holds
    the lock of the name. Raises RegistryError, IntegrityError, LayerError, StorageError, FileError, Cancelled.
    """
    image, architecture, is_here, is_taken = need
    manner = Manner(architecture or wanted.arch, wanted.with_xattrs, wanted.always_download)
    announce(workspace, image, None, manner.arch)
    try:
        resolved = resolve(workspace, image, manner)
    except ImageUnavailable as error:
        if not is_here:
            raise _explained(error, image) from error
        workspace.emit(Notice(level="info", text=f"not in a registry, used as it is here: {image}"))
        return False
    except RegistryError as error:
        raise (_not_compared if is_here else _explained)(error, image) from error
    is_foreign = is_taken or (architecture is not None and _is_foreign(architecture))
    if architecture is not None and is_foreign and workspace.cache.keeps_snapshots:
        state = state_of(resolved, manner)
        is_new = workspace.cache.find(state) is None
        if is_new:
            with workspace.images.aside(image.file_name) as place:
                commit(workspace, image, resolved, manner, place)
        remember(workspace.layout.blobs, image, architecture, state)
        return is_new
    snapshot, is_new = store(workspace, image, image, resolved, manner)
    if not is_new:
        add_name(workspace, image.file_name, snapshot)
    return is_new


def _is_foreign(architecture: str) -> bool:
    return not is_for(architecture, host_architecture(os.uname().machine))


def _explained(error: RegistryError, image: Reference) -> RegistryError:
    error.message = f"image not found in storage directory: {image}; pulling it failed: {error.message}"
    return error


def _not_compared(error: RegistryError, image: Reference) -> RegistryError:
    error.message = f"can't look for a newer image: {image}: {error.message}"
    error.hint = "to use the one that is here, leave out --pull (or $CH_IMAGE_PULL)"
    return error
