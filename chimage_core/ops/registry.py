"""`registry`: look into a registry."""

from typing import NamedTuple

from chimage_core.errors import PlatformUnavailable, UsageError
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import Descriptor
from chimage_core.image.oci import OciConfig
from chimage_core.image.reference import Reference
from chimage_core.registry.browse import Listing, list_repositories, list_tags
from chimage_core.transfer.resolve import Available, Resolver
from chimage_core.workspace import Workspace


class RemoteImage(NamedTuple):
    """An image for one architecture, as a registry has it."""

    digest: Digest
    """Of its manifest."""
    architecture: str
    layers: tuple[Descriptor, ...]
    config: OciConfig | None
    """None: it is so old that there is none to be trusted."""


class Inspected(NamedTuple):
    """What a registry has under a name."""

    reference: Reference
    """In full."""
    digest: Digest
    """Of the manifest or index."""
    is_index: bool
    available: tuple[Available, ...]
    image: RemoteImage | None
    """That for the architecture asked for; None: there is none."""


def tags(workspace: Workspace, reference: Reference, limit: int) -> Listing:
    """Return the tags that a registry has of an image, at most `limit`. Raises RegistryError, Cancelled."""
    return list_tags(workspace.registries.clients(reference)[-1], limit)


def catalog(workspace: Workspace, registry: str, limit: int) -> Listing:
    """Return the images of a registry (`host` or `host:port`). Raises UsageError, RegistryError, Cancelled."""
    reference = Reference.parse(f"{registry.rstrip('/')}/x")
    if reference.host is None or reference.path:
        raise UsageError(f"registry catalog: not a registry: {registry}", hint="write HOST:PORT, or a host with a dot")
    return list_repositories(workspace.registries.whole(reference), limit)


def inspect(workspace: Workspace, reference: Reference, arch: str) -> Inspected:
    """Return what a registry says of an image. `arch`: `host`, `yolo` or an architecture.

    Raises ImageUnavailable, RegistryError, IntegrityError, Cancelled.
    """
    clients = workspace.registries.clients(reference)
    details = Resolver(None, always=True, emit=_ignore).details(clients, reference)
    image = None
    try:
        found = Resolver(None, always=True, emit=_ignore).resolve(clients, reference, arch)
        image = RemoteImage(found.digest, found.architecture, found.layers, found.config)
    except PlatformUnavailable:
        if not details.is_index:
            raise
    return Inspected(reference.canonical(), details.digest, details.is_index, details.images, image)


def _ignore(_: object) -> None:
    """Say nothing of what is asked for."""
