"""What registries know of an image. Changes nothing, takes no lock."""

from typing import NamedTuple

from chimage_core.errors import ImageUnavailable
from chimage_core.image.reference import Reference
from chimage_core.transfer.resolve import Resolver
from chimage_core.workspace import Workspace


class RemoteArchitecture(NamedTuple):
    """An image for one architecture."""

    architecture: str
    digest: str
    """Of its manifest."""


class RemoteImage(NamedTuple):
    """What a registry has under the name of an image."""

    registry: str
    """Who was asked: registry and repository."""
    digest: str
    """Of the manifest or index."""
    is_arch_aware: bool
    architectures: tuple[RemoteArchitecture, ...]


def remote_image(workspace: Workspace, reference: Reference) -> RemoteImage | None:
    """Return what a registry has; None: nothing, or nothing for us. Raises RegistryError, IntegrityError, Cancelled."""
    clients = workspace.registries.clients(reference)
    try:
        details = Resolver(None, always=False, emit=lambda event: None).details(clients, reference)
    except ImageUnavailable:
        return None
    return RemoteImage(
        registry=details.client.name,
        digest=str(details.digest),
        is_arch_aware=details.is_index,
        architectures=tuple(RemoteArchitecture(each.architecture, str(each.digest)) for each in details.images),
    )
