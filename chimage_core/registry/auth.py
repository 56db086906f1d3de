"""How a registry is convinced: Basic, and tokens (Bearer) from the server that it names.

A request is sent as it is; the registry answers 401 and says what it wants; the request is sent once more with that. In
anonymous mode only anonymous tokens are asked for. Tokens are kept for as long as they are good, and shared by all
threads. A password goes to the registry that the user named, or to the token server of the same site, over TLS; never
elsewhere. Source: distribution documentation, "Token Authentication Specification"; RFC 7235; OAuth 2 (RFC 6749).
"""

import contextlib
import ipaddress
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit

from chimage_core.errors import RegistryProtocol, RegistryRefused
from chimage_core.registry.challenges import Challenge, parse_challenges
from chimage_core.registry.credentials import Credentials, CredentialSource
from chimage_core.registry.transport import Broken, Response, Transport
from chimage_core.registry.urls import Address

_LARGEST_TOKEN = 1 << 20
_DEFAULT_LIFE = 60.0
"""Seconds for which a token is good if its server does not say."""
_LONGEST_LIFE = 86_400.0
_MARGIN = 5.0
"""Seconds by which we stop using a token before it ends."""
_SECOND_LEVELS = frozenset({"ac", "co", "com", "edu", "go", "gob", "gov", "mil", "net", "or", "org"})
"""Below a country, these belong to nobody: `ac.uk`."""
_CLIENT = "chimage"


class Subject(NamedTuple):
    """What a request is about."""

    server: Address
    """The registry."""
    registry: str
    """Its name for people, and for who knows credentials: `host` or `host:port`."""
    repository: str
    actions: str
    """`pull`, or `pull,push`."""
    is_named: bool = True
    """The user named the registry; else it stands in for another one, and gets no passwords meant for that."""

    @property
    def scope(self) -> str:
        """Return it in the words of token servers."""
        return f"repository:{self.repository}:{self.actions}"


class _Token(NamedTuple):
    header: str
    expires: float
    """By our clock."""


class Authenticator:
    """Answers the challenges of registries, and remembers what they took. Several threads may use it."""

    def __init__(
        self,
        transport: Transport,
        named: CredentialSource | None,
        stored: CredentialSource | None,
        *,
        trusted_realms: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`named` knows credentials for registries that the user names, None: everything is to be anonymous; `stored`
        knows those for registries that stand in for others. `trusted_realms`: hosts of token servers that may have
        passwords of any registry.
        """
        self._transport = transport
        self._named = named
        self._stored = stored
        self._trusted_realms = trusted_realms
        self._clock = clock
        self._known: dict[Subject, _Token] = {}
        self._tokens: dict[tuple[str, str, str], _Token] = {}
        """By realm, service and scope."""
        self._turn = threading.RLock()

    @property
    def is_anonymous(self) -> bool:
        """Nobody is to know who we are."""
        return self._named is None

    def header(self, subject: Subject) -> str | None:
        """Return what a request should say at once: what worked the last time."""
        known = self._known.get(subject)
        return None if known is None or known.expires <= self._clock() else known.header

    def answer(self, subject: Subject, response: Response, used: str | None) -> str | None:
        """Return what to say in a second attempt, after 401; None: there is nothing (more) to say.

        `used` is what the first attempt said. Raises RegistryError, Cancelled; may wait for the user.
        """
        challenges = parse_challenges(response.headers.get("WWW-Authenticate", ""))
        with self._turn:  # Whoever comes second finds what the first one got.
            current = self.header(subject)
            if current is not None and current != used:
                return current
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    token = self._bearer(subject, challenge, used)
                    break
                if challenge.scheme == "basic" and not any(other.scheme == "bearer" for other in challenges):
                    token = self._basic(subject)
                    break
            else:
                return None
            if token is None or token.header == used:
                return None
            self._known[subject] = token
            return token.header

    def forget(self, subject: Subject) -> None:
        """What was said did not help: do not say it again."""
        self._known.pop(subject, None)

    def _credentials(self, subject: Subject) -> Credentials | None:
        source = self._named if subject.is_named else self._stored
        if source is None or self.is_anonymous:
            return None
        return source.get(subject.registry, subject.repository)

    def _basic(self, subject: Subject) -> _Token | None:
        credentials = self._credentials(subject)
        if credentials is None or credentials.identity_token is not None:
            return None
        return _Token(credentials.basic(), float("inf"))

    def _bearer(self, subject: Subject, challenge: Challenge, used: str | None) -> _Token | None:
        realm = Address.parse(challenge.parameters["realm"])
        service = challenge.parameters.get("service", "")
        scope = _merged(challenge.parameters.get("scope", ""), subject.scope if subject.repository else "")
        key = (realm.url, service, scope)
        known = self._tokens.get(key)
        if known is not None and known.header != used and known.expires > self._clock():
            return known
        _refuse_downgrade(realm, subject)
        credentials = self._credentials(subject)
        if credentials is not None:
            self._refuse_foreign(realm, subject)
        token = self._requested(realm, service, scope, credentials)
        if token is not None:
            self._tokens[key] = token
        return token

    def _requested(self, realm: Address, service: str, scope: str, credentials: Credentials | None) -> _Token | None:
        """Get a token; None if the server does not believe us."""
        realm = realm._replace(credentials=None)
        if credentials is not None and credentials.identity_token is not None:
            fields = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            fields.update(client_id=_CLIENT, service=service, scope=scope)
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = self._transport.request("POST", realm, headers, body=urlencode(fields).encode())
        else:
            query = [("service", service)] if service else []
            query += [("scope", each) for each in scope.split()]
            headers = {} if credentials is None else {"Authorization": credentials.basic()}
            request = self._transport.request("GET", _with_query(realm, query), headers)
        with request as response:
            if response.status in (401, 403):
                return None
            if response.status != 200:
                raise RegistryRefused(
                    f"no token from {realm.host}: the server answered: {response.status} {response.reason}".rstrip()
                )
            try:
                return _read_token(response.document(_LARGEST_TOKEN), self._clock(), realm.host)
            except Broken as error:
                raise RegistryProtocol(f"no token from {realm.host}: {error}") from None

    def _refuse_foreign(self, realm: Address, subject: Subject) -> None:
        if realm.host not in self._trusted_realms and not is_same_site(realm.host, subject.server.host):
            raise RegistryRefused(
                f"{subject.registry} wants its password to be sent to another site: {realm.host}",
                hint=f"if that is right, set $CH_IMAGE_AUTH_REALMS={realm.host}",
            )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this one, so that nobody listens on the way."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_site(one: str, other: str) -> bool:
    """Tell whether two hosts have the same owner, as far as names tell: `auth.docker.io`, `registry-1.docker.io`."""
    if one == other or (is_loopback(one) and is_loopback(other)):
        return True
    for host in (one, other):
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host)
            return False
    return "." in one and _site(one) == _site(other)


def _site(host: str) -> str:
    parts = host.rstrip(".").split(".")
    count = 3 if len(parts) > 2 and len(parts[-1]) == 2 and parts[-2] in _SECOND_LEVELS else 2
    return ".".join(parts[-count:])


def _refuse_downgrade(realm: Address, subject: Subject) -> None:
    """A token for a registry with TLS must not be had without: whoever listens could use it."""
    is_local = is_loopback(realm.host) and is_loopback(subject.server.host)
    if subject.server.is_https and not realm.is_https and not is_local:
        raise RegistryRefused(f"{subject.registry} names a token server without TLS: {realm.url}")


def _with_query(realm: Address, query: list[tuple[str, str]]) -> Address:
    parts = urlsplit(realm.url)
    text = "&".join(filter(None, (parts.query, urlencode(query))))
    return realm._replace(url=urlunsplit(parts._replace(query=text)))


def _merged(*scopes: str) -> str:
    """Return scopes with the actions for each resource put together, in a fixed order."""
    actions: dict[str, set[str]] = {}
    for scope in " ".join(scopes).split():
        resource, colon, names = scope.rpartition(":")
        actions.setdefault(resource if colon else scope, set()).update(names.split(",") if colon else ())
    return " ".join(
        f"{resource}:{','.join(sorted(names))}" if names else resource for resource, names in sorted(actions.items())
    )


def _read_token(data: bytes, now: float, host: str) -> _Token:
    """Read the answer of a token server. Raises RegistryProtocol."""
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    fields: Mapping[str, Any] = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryProtocol(f"no token from {host}: its answer makes no sense")
    life = fields.get("expires_in")
    seconds = float(life) if isinstance(life, int | float) and 0 < life < _LONGEST_LIFE else _DEFAULT_LIFE
    return _Token(f"Bearer {token}", now + max(seconds - _MARGIN, seconds / 2))
