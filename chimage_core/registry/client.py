"""One repository of a registry: manifests and blobs, by the distribution API.

What comes is from strangers: sizes are bounded, and who reads a blob has to check it against its digest. Manifests that
are asked for by digest are checked here. Source: OCI distribution-spec v1.1.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from chimage_core.errors import ImageUnavailable, IntegrityError, RegistryError, RegistryProtocol, RegistryRefused
from chimage_core.image import mediatype
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import signed_payload
from chimage_core.registry.auth import Authenticator, Subject
from chimage_core.registry.endpoints import Endpoint
from chimage_core.registry.transport import Body, Broken, Response, Transport
from chimage_core.registry.urls import Address

LARGEST_MANIFEST = 4 << 20
"""Bytes; the limit that the specification proposes to registries."""
_LARGEST_ERROR = 64 << 10
_BREAKS = 3
"""Times that a manifest may break off."""


class Document(NamedTuple):
    """A manifest as it came."""

    data: bytes
    media_type: str
    """What the server calls it, without parameters; may be wrong, or empty."""
    digest: Digest
    """Of `data`."""


class Known(NamedTuple):
    """What a registry says of a manifest without sending it."""

    media_type: str
    digest: Digest | None
    size: int | None


class RegistryClient:
    """A repository. Several threads may use it."""

    def __init__(
        self,
        transport: Transport,
        authenticator: Authenticator,
        endpoint: Endpoint,
        find_base: Callable[[], Address],
        *,
        actions: str = "pull",
    ) -> None:
        """`find_base` gives the address `…/v2/` of the registry; to find out may take a request. `actions`: what we
        want to be allowed: `pull`, or `pull,push`."""
        self._actions = actions
        self._transport = transport
        self._authenticator = authenticator
        self._find_base = find_base
        self.endpoint = endpoint

    def __repr__(self) -> str:
        return f"RegistryClient({self.name})"

    @cached_property
    def _base(self) -> Address:
        return self._find_base()

    @property
    def address(self) -> Address:
        """The registry: where its interface begins (`…/v2/`)."""
        return self._base

    @property
    def name(self) -> str:
        """Registry and repository, for people."""
        return f"{self.endpoint.registry}/{self.endpoint.repository}"

    def manifest(self, version: str | Digest, accept: str = mediatype.ACCEPT_ALL) -> Document:
        """Get a manifest, by tag or digest. Raises ImageUnavailable, RegistryError, IntegrityError, Cancelled."""
        for attempt in range(1, _BREAKS + 1):
            with self.request("GET", f"manifests/{version}", {"Accept": accept}) as response:
                if response.status != 200:
                    raise self.refused(f"manifest {version}", response)
                try:
                    data = response.document(LARGEST_MANIFEST)
                except Broken as error:
                    problem = error
                else:
                    return self._checked(version, data, _media_type(response))
            if attempt < _BREAKS:
                self._transport.pause_before(attempt)
        raise RegistryProtocol(f"manifest can't be read: {self.name}, {version}: {problem}")

    def known(self, version: str | Digest, accept: str = mediatype.ACCEPT_ALL) -> Known | None:
        """Return what there is under a tag or digest, without getting it; None: nothing. Raises RegistryError."""
        with self.request("HEAD", f"manifests/{version}", {"Accept": accept}) as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise self.refused(f"manifest {version}", response)
            try:
                digest = Digest.parse(response.headers.get("Docker-Content-Digest", ""))
            except ValueError:
                digest = None
            return Known(_media_type(response), digest, _length(response))

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether the repository has a blob. Raises RegistryError, Cancelled."""
        with self.request("HEAD", f"blobs/{digest}") as response:
            if response.status not in (200, 404):
                raise self.refused(f"blob {digest}", response)
            return response.status == 200

    @contextlib.contextmanager
    def blob(self, digest: Digest, start: int = 0) -> Iterator[tuple[Response, int]]:
        """Open a blob at byte `start`, or, where the registry cannot, at 0: give the answer and which of them it is.

        The content is for the caller to check. `start` must be less than the blob's size. Raises ImageUnavailable,
        RegistryError, Cancelled.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self.request("GET", f"blobs/{digest}", headers) as response:
            if response.status == 206 and start:
                match = re.match(r"\s*bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
                if match is None or int(match[1]) != start:
                    raise RegistryProtocol(f"another part came than asked for: {self.name}, {digest}")
            elif response.status == 200:
                start = 0
            else:
                raise self.refused(f"blob {digest}", response)
            yield response, start

    def document(self, digest: Digest, size: int, limit: int) -> bytes:
        """Return a small blob, checked. Raises RegistryError, IntegrityError, Cancelled."""
        if size > limit:
            raise RegistryProtocol(f"blob of {size} bytes, where at most {limit} make sense: {self.name}, {digest}")
        for attempt in range(1, _BREAKS + 1):
            with self.blob(digest) as (response, _):
                try:
                    data = response.document(size)
                except Broken as error:
                    problem: object = error
                else:
                    if Digest.of(data, digest.algorithm) != digest:
                        raise IntegrityError(f"blob differs from its digest: {self.name}, {digest}")
                    return data
            if attempt < _BREAKS:
                self._transport.pause_before(attempt)
        raise RegistryProtocol(f"blob can't be read: {self.name}, {digest}: {problem}")

    def interrupt(self) -> None:
        """End all requests under way, by an error where they are waited for."""
        self._transport.interrupt()

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        target: str | Address,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | Body | None = None,
        repeats: bool = True,
    ) -> Iterator[Response]:
        """Send a request about the repository, if need be a second time with what the registry wants to know.

        `target` is a path in the repository, or an address that the registry has named: only if that is its own, it
        hears who we are. `body`, `repeats`: as for `Transport.request`. Gives the answer of whatever status.
        """
        path = f"{self.endpoint.repository}/{target}"
        address = target if isinstance(target, Address) else self._base.followed(path)
        if not address.is_server_of(self._base):
            with self._transport.request(method, address, headers, body=body, repeats=repeats) as response:
                yield response
            return

        def sent(said: str | None) -> contextlib.AbstractContextManager[Response]:
            every = {**(headers or {}), **({} if said is None else {"Authorization": said})}
            return self._transport.request(method, address, every, body=body, repeats=repeats)

        with self._convinced(sent) as response:
            yield response

    @contextlib.contextmanager
    def _convinced(
        self, send: Callable[[str | None], contextlib.AbstractContextManager[Response]]
    ) -> Iterator[Response]:
        """Let `send` send a request with what the registry wants to know; it may be called twice."""
        place = self.endpoint
        subject = Subject(self._base, place.registry, place.repository, self._actions, not place.is_mirror)
        said = self._authenticator.header(subject)
        with contextlib.ExitStack() as opened:
            response = opened.enter_context(send(said))
            if response.status == 401:
                answer = self._authenticator.answer(subject, response, said)
                if answer is not None:
                    opened.close()
                    response = opened.enter_context(send(answer))
                    if response.status == 401:
                        self._authenticator.forget(subject)
            yield response

    def _checked(self, version: str | Digest, data: bytes, media_type: str) -> Document:
        digest = Digest.of(data, version.algorithm if isinstance(version, Digest) else "sha256")
        if isinstance(version, Digest) and digest != version:
            # The digest of a signed one is that of what was signed.
            payload = signed_payload(data)
            if payload is None or Digest.of(payload, version.algorithm) != version:
                raise IntegrityError(f"manifest differs from its digest: {self.name}: expected {version}, got {digest}")
        return Document(data, media_type, digest)

    def pause_before(self, attempt: int) -> None:
        """Wait before attempt 1, 2, … of what has failed. Raises Cancelled."""
        self._transport.pause_before(attempt)

    def refused(self, what: str, response: Response) -> RegistryError:
        """Return the error for an answer that is not what was asked for."""
        answer = f"{response.status} {response.reason}".strip()
        if reason := reason_of(response):
            answer += f": {reason}"
        if response.status in (401, 403, 404):
            # Registries hide from whom they do not know whether there is something.
            hint = "look at the name; for what is not public, authenticate: --auth"
            if not self._authenticator.is_anonymous:
                hint = "look at the name, and whether these credentials may have it"
            return ImageUnavailable(
                f"not in the registry, or not for us: {self.name}: {what}: the registry answered: {answer}", hint=hint
            )
        limited = None
        if response.status == 429:
            limited = "the registry limits how often it may be asked; wait, or authenticate for a higher limit: --auth"
        elif response.status == 416:
            return RegistryProtocol(f"{self.name}: {what} is shorter than promised")
        return RegistryRefused(f"{self.name}: {what}: the registry answered: {answer}", hint=limited)


def _media_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _length(response: Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def reason_of(response: Response) -> str:
    """Return what a registry says of an error, in one line; "" if nothing that can be understood."""
    with contextlib.suppress(Broken, RegistryError, ValueError, RecursionError):
        document: Any = json.loads(response.document(_LARGEST_ERROR))
        errors = document.get("errors") if isinstance(document, dict) else None
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        texts = [text for text in (first.get("code"), first.get("message")) if isinstance(text, str) and text]
        return ": ".join(texts)[:300]
    return ""
