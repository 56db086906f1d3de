"""Clients of a FileServer that plays a registry: in this process, without waiting."""

import contextlib
from collections.abc import Iterator

from chimage_core.cancel import CancelToken
from chimage_core.image.reference import Reference
from chimage_core.registry.auth import Authenticator
from chimage_core.registry.client import RegistryClient
from chimage_core.registry.endpoints import read_mirrors
from chimage_core.registry.registries import Access, Registries
from chimage_core.registry.transport import Network, Patience, Transport


@contextlib.contextmanager
def clients_of(
    reference: str, *, mirrors: str = "", cancel: CancelToken | None = None, patience: Patience | None = None
) -> Iterator[tuple[RegistryClient, ...]]:
    """Give the clients of an image; they never pause."""
    cancel = cancel or CancelToken()
    transport = Transport(Network({}, None, True), cancel=cancel, pause=lambda seconds: None, patience=patience)
    access = Access(read_mirrors(mirrors), plain_http=True)
    registries = Registries(transport, Authenticator(transport, None, None), access)
    try:
        yield registries.clients(Reference.parse(reference))
    finally:
        registries.close()
