"""Uploads to a repository: blobs in one piece by default, in chunks where the registry asks for it; manifests.

A blob is sent by a PUT to a place that a POST has opened: one request with all of it, which every registry
understands. Several chunks are sent only to registries that name the least size of one, and to go on after a connection
broke, if the registry says how far it has come. That place is whatever the registry calls it: a path, with a query, or
on another host, which does not hear who we are. Sources: OCI distribution-spec v1.1, "Push"; distribution
documentation, "HTTP API V2", "Pushing An Image".
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from chimage_core.cancel import CancelToken
from chimage_core.errors import (
    ChimageError,
    FileError,
    IntegrityError,
    RegistryError,
    RegistryProtocol,
    RegistryRefused,
    RegistryUnreachable,
)
from chimage_core.image.digest import Digest
from chimage_core.registry.client import RegistryClient, reason_of
from chimage_core.registry.transport import PASSING, Response
from chimage_core.registry.urls import Address

_ATTEMPTS = 4
_PIECE = 256 << 10
"""Bytes read and sent at a time."""
_CHUNK = 16 << 20
"""Bytes of a chunk, if the registry does not ask for more."""
_MOST_CHUNK = 1 << 30
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({307, 308})
_BINARY = {"Content-Type": "application/octet-stream"}


class Upload(NamedTuple):
    """An upload that the registry has begun."""

    address: Address
    """Where what is sent next goes."""
    chunk: int = 0
    """Least bytes of a chunk that the registry wants; 0: it wants none."""
    done: int = 0
    """Bytes that it has."""


class Content(NamedTuple):
    """A file to be uploaded."""

    path: str
    digest: Digest
    size: int
    """Bytes"""
    moved: Callable[[int], None]
    """Is told how many bytes are on their way."""
    cancel: CancelToken


class Uploads:
    """Uploads to one repository."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    def begin(self) -> Upload:
        """Begin an upload. That the registry does so shows that we may push. Raises RegistryError, Cancelled."""
        with self._client.request("POST", "blobs/uploads/") as response:
            if response.status not in (200, 202):
                raise self._refused("an upload", response)
            return self._upload(response)

    def mount(self, digest: Digest, source: str) -> Upload | None:
        """Let the registry take a blob from another repository of its own; None: it has. Else an upload has begun.

        Raises RegistryError, Cancelled.
        """
        query = f"mount={quote(str(digest))}&from={quote(source, safe='/')}"
        with self._client.request("POST", f"blobs/uploads/?{query}") as response:
            if response.status == 201:
                return None
            if response.status == 202:
                return self._upload(response)
        return self.begin()  # As if nobody had asked: it is not for us there, or gone.

    def give_up(self, upload: Upload) -> None:
        """Tell the registry that an upload will not be used; it does not matter what it says."""
        with contextlib.suppress(RegistryError), self._client.request("DELETE", upload.address, repeats=False):
            pass

    def send(self, upload: Upload, content: Content) -> None:
        """Send a file and let the registry check it; go on or begin anew after what may be passing.

        Raises RegistryError, IntegrityError, FileError, Cancelled.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._send(upload, content)
                return
            except _Passing as error:
                if attempt == _ATTEMPTS:
                    raise error.problem from None
            self._client.pause_before(attempt)
            upload = self._continued(upload, content.size) or self.begin()

    def send_bytes(self, upload: Upload, digest: Digest, data: bytes) -> None:
        """Send a small blob. Raises RegistryError, Cancelled."""
        with self._client.request("PUT", _closing(upload.address, digest), _BINARY, body=data) as response:
            if response.status not in (201, 204):
                raise self._refused(f"blob {digest}", response)

    def put_manifest(self, version: str | Digest, data: bytes, media_type: str) -> Digest:
        """Store a manifest or index under a tag or its digest; return its digest. Raises RegistryError, Cancelled."""
        digest = Digest.of(data)
        headers = {"Content-Type": media_type}
        with self._client.request("PUT", f"manifests/{version}", headers, body=data) as response:
            if response.status not in (200, 201, 202):
                raise self._refused(f"manifest {version}", response)
            stored = response.headers.get("Docker-Content-Digest", str(digest))
        if stored != str(digest):
            raise IntegrityError(f"the registry has stored another manifest than was sent: {stored}")
        return digest

    def _send(self, upload: Upload, content: Content) -> None:
        address, done = upload.address, upload.done
        in_chunks = bool(upload.chunk or done)
        size = min(max(upload.chunk, _CHUNK), _MOST_CHUNK)
        while in_chunks and done < content.size:
            end = min(done + size, content.size)
            upload = self._patch(upload._replace(address=address), content, done, end)
            if not done < upload.done <= end:
                raise RegistryProtocol(f"the registry has lost what was sent to it: {self._client.name}")
            address, done = upload.address, upload.done
        self._put(_closing(address, content.digest), content, done)

    def _patch(self, upload: Upload, content: Content, start: int, end: int) -> Upload:
        """Send a part; return the upload after it."""
        headers = {**_BINARY, "Content-Range": f"{start}-{end - 1}"}
        with self._sent("PATCH", upload.address, headers, _Part(content, start, end)) as response:
            if response.status not in (201, 202, 204):
                raise self._problem(content.digest, response)
            come = _come(response)
            return self._upload(response, upload)._replace(done=end if come is None else come)

    def _put(self, address: Address, content: Content, start: int) -> None:
        """Send what is left, and end the upload."""
        body = _Part(content, start, content.size) if start < content.size else b""
        with self._sent("PUT", address, _BINARY, body) as response:
            if response.status not in (201, 204):
                raise self._problem(content.digest, response)

    @contextlib.contextmanager
    def _sent(
        self, method: str, address: Address, headers: dict[str, str], body: "_Part | bytes"
    ) -> Iterator[Response]:
        """Send a part of a blob, also to where a registry redirects it. Raises _Passing."""
        for _ in range(_MOST_REDIRECTS):
            with contextlib.ExitStack() as opened:
                try:
                    response = opened.enter_context(
                        self._client.request(method, address, headers, body=body, repeats=False)
                    )
                except RegistryUnreachable as error:
                    raise _Passing(error) from None
                if response.status not in _REDIRECTS:
                    yield response
                    return
                address = self._followed(address, response)
        raise RegistryProtocol(f"an upload is redirected again and again: {self._client.name}")

    def _continued(self, upload: Upload, size: int) -> Upload | None:
        """Return an upload as far as it has come; None: there is nothing of it."""
        with contextlib.suppress(RegistryError), self._client.request("GET", upload.address, repeats=False) as response:
            done = _come(response) if response.status == 204 else None
            if done is not None and 1 < done <= size:  # "0-0" may mean one byte or none.
                return self._upload(response, upload)._replace(done=done)
        return None

    def _upload(self, response: Response, before: Upload | None = None) -> Upload:
        """Read where to go on."""
        if before is not None:
            has_moved = bool(response.headers.get("Location"))
            return before._replace(address=self._followed(before.address, response)) if has_moved else before
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        chunk = int(least) if least.isascii() and least.isdecimal() and len(least) < 12 else 0
        if chunk > _MOST_CHUNK:
            raise RegistryProtocol(f"the registry wants chunks of {chunk} bytes: {self._client.name}")
        return Upload(self._followed(Address.parse(response.url), response), chunk)

    def _followed(self, here: Address, response: Response) -> Address:
        """Return where the registry wants the next request to go."""
        location = response.headers.get("Location")
        if not location:
            raise RegistryProtocol(f"the registry does not tell where to upload to: {self._client.name}")
        there, base = here.followed(location), self._client.address
        if base.is_https and not there.is_https:
            if there.host != base.host:
                raise RegistryProtocol(f"the registry wants an upload without TLS: {self._client.name}: {there.url}")
            # It does not know of the proxy before it, which does TLS.
            parts = urlsplit(there.url)
            netloc = urlsplit(base.url).netloc
            there = Address.parse(urlunsplit((base.scheme, netloc, parts.path, parts.query, "")))
        return there

    def _problem(self, digest: Digest, response: Response) -> ChimageError:
        """Return what to raise for an answer: something passing, or the end."""
        error = self._refused(f"blob {digest}", response)
        # An upload that is not known (any more), or is not where we think: begin anew.
        return _Passing(error) if response.status in PASSING or response.status in (404, 416) else error

    def _refused(self, what: str, response: Response) -> RegistryError:
        answer = f"{response.status} {response.reason}".strip()
        if reason := reason_of(response):
            answer += f": {reason}"
        hint = None
        if response.status in (401, 403):
            hint = "look at the name, and whether these credentials may push there"
        elif response.status in (404, 405):
            hint = "look at the name; some registries want the repository to be made first, others only have copies"
        elif response.status == 413:
            hint = "something before the registry limits the size of requests: tell who runs it"
        return RegistryRefused(f"can't push to {self._client.name}: {what}: the registry answered: {answer}", hint=hint)


class _Passing(RegistryError):
    """What may be otherwise in a moment."""

    def __init__(self, problem: RegistryError) -> None:
        super().__init__(problem.message, hint=problem.hint)
        self.problem = problem


class _Part:
    """A part of a file, to be sent."""

    def __init__(self, content: Content, start: int, end: int) -> None:
        self._content = content
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[bytes]:
        content, position = self._content, self._start
        try:
            descriptor = os.open(content.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FileError("read packed layer", content.path, error) from error
        try:
            while position < self._end:
                content.cancel.check()
                piece = os.pread(descriptor, min(_PIECE, self._end - position), position)
                if not piece:
                    raise IntegrityError(f"packed layer has become shorter: {content.path}")
                yield piece
                position += len(piece)
                content.moved(position)
        finally:
            os.close(descriptor)


def _closing(address: Address, digest: Digest) -> Address:
    """Return the address that ends an upload."""
    parts = urlsplit(address.url)
    query = "&".join(filter(None, (parts.query, f"digest={quote(str(digest))}")))
    return address._replace(url=urlunsplit(parts._replace(query=query)))


def _come(response: Response) -> int | None:
    """Return how many bytes have come, as the registry says; None: it does not."""
    match = re.fullmatch(r"(?:bytes[= ])?0-(\d{1,18})", response.headers.get("Range", "").strip())
    return None if match is None else int(match[1]) + 1
