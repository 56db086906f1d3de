"""All registries: who is asked for an image, and how they are reached."""

from collections.abc import Sequence
from typing import NamedTuple

from chimage_core.errors import RegistryError
from chimage_core.image.reference import Reference
from chimage_core.registry.auth import Authenticator, is_loopback
from chimage_core.registry.client import RegistryClient
from chimage_core.registry.endpoints import Endpoint, Mirror, endpoints
from chimage_core.registry.transport import NoTls, Transport
from chimage_core.registry.urls import Address


class Access(NamedTuple):
    """What the user says of registries."""

    mirrors: Sequence[Mirror] = ()
    plain_http: bool = False
    """Registries are asked without TLS."""


class Registries:
    """Gives clients for images. Opens connections when they are needed; a context that closes them."""

    def __init__(self, transport: Transport, authenticator: Authenticator, access: Access) -> None:
        self._transport = transport
        self._authenticator = authenticator
        self._access = access
        self._bases: dict[tuple[str, int, bool | None], Address] = {}

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def clients(self, reference: Reference) -> tuple[RegistryClient, ...]:
        """Return who may have an image, in the order in which to ask: mirrors, then its registry."""
        places = endpoints(reference, self._access.mirrors, plain_http=self._access.plain_http)
        return tuple(self._client(place) for place in places)

    def origin(self, reference: Reference) -> RegistryClient:
        """Return the registry of an image itself, to push to."""
        return self._client(endpoints(reference, (), plain_http=self._access.plain_http)[-1], "pull,push")

    def whole(self, reference: Reference) -> RegistryClient:
        """Return the registry of an image, to ask what repositories it has: of none in particular."""
        return self._client(endpoints(reference, (), plain_http=self._access.plain_http)[-1]._replace(repository=""))

    def _client(self, endpoint: Endpoint, actions: str = "pull") -> RegistryClient:
        return RegistryClient(
            self._transport, self._authenticator, endpoint, lambda: self._base(endpoint), actions=actions
        )

    def _base(self, endpoint: Endpoint) -> Address:
        """Return the address of a registry. Raises RegistryError, if it is not known and cannot be found out."""
        key = (endpoint.host, endpoint.port, endpoint.is_plain)
        if key not in self._bases:
            self._bases[key] = self._found(endpoint)
        return self._bases[key]

    def _found(self, endpoint: Endpoint) -> Address:
        plain, secure = (Address.parse(f"{s}://{endpoint.host}:{endpoint.port}/v2/") for s in ("http", "https"))
        if endpoint.is_plain is not None or not is_loopback(endpoint.host.strip("[]")):
            return plain if endpoint.is_plain else secure
        try:
            with self._transport.request("GET", secure):
                return secure
        except NoTls:
            return plain
        except RegistryError:  # Its own problem, to be met again by who asks for something.
            return secure
