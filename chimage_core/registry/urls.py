"""Addresses of servers, with the credentials that a user wrote into a URL kept apart: nothing shows or keeps them."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from chimage_core.errors import RegistryError
from chimage_core.text import without_credentials

_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a request goes."""

    url: str
    """Without credentials and fragment."""
    scheme: str
    host: str
    """In lower case; of IPv6 addresses without brackets."""
    port: int
    credentials: str | None = None
    """`user:password`, as written in the URL. Never to be shown."""

    def __repr__(self) -> str:
        return f"Address({self.url!r})"

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a URL. Raises RegistryError for what is none of http or https."""
        try:
            parts = urlsplit(url)
            scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
            port = parts.port or _PORTS.get(scheme, 0)
        except ValueError as error:
            raise RegistryError(f"not a URL: {without_credentials(url)}: {error}") from None
        if scheme not in _PORTS:
            raise RegistryError(f"not a URL of http or https: {without_credentials(url)}")
        if not host:
            raise RegistryError(f"URL has no host: {without_credentials(url)}")
        userinfo, at, location = parts.netloc.rpartition("@")
        clean = urlunsplit((scheme, location, parts.path, parts.query, ""))
        return cls(clean, scheme, host, port, userinfo if at else None)

    @property
    def is_https(self) -> bool:
        """Nobody on the way can read or change what is sent."""
        return self.scheme == "https"

    def authorization(self) -> Mapping[str, str]:
        """Return the header that carries the credentials, if there are any."""
        if self.credentials is None:
            return {}
        import base64

        user, _, password = self.credentials.partition(":")
        token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
        return {"Authorization": f"Basic {token}"}

    def followed(self, location: str) -> "Address":
        """Return where a redirect leads. Credentials go along only to the same server. Raises RegistryError."""
        try:
            joined = urljoin(self.url, location)
        except ValueError as error:
            raise RegistryError(f"{self.url} redirects to what is no URL: {error}") from None
        target = Address.parse(joined)
        return target._replace(credentials=self.credentials if target.is_server_of(self) else None)

    def is_server_of(self, other: "Address") -> bool:
        """Tell whether both lead to the same server, in the same way."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
