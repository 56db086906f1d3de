"""A registry for uploads that behaves as some do in the wild, and remembers what it was asked."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.support.servers import running

TOKEN = "Basic YWxpY2U6c2VjcmV0"
"""Of alice, whose password is secret."""


@dataclass
class UploadServer:
    """What it does, and what was done."""

    url: str = ""
    wants_password: bool = False
    chunk_min: int | None = None
    location: str = "/v2/image/session?state={n}"
    """Where to upload to; `{n}` counts requests."""
    mounts: bool = False
    cuts: list[int] = field(default_factory=list)
    """Bytes of a body after which the connection is dropped, one for each upload."""
    statuses: list[int] = field(default_factory=list)
    """Answers to give first to what sends content."""
    redirects: list[str] = field(default_factory=list)
    """Where to send the first PUTs."""
    tells_range: bool = True
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    data: bytes = b""
    """Of the upload."""
    count: int = 0

    def methods(self) -> list[str]:
        """Return the methods that were used."""
        return [method for method, _, _ in self.asked]


@contextlib.contextmanager
def serve_uploads() -> Iterator[UploadServer]:
    """Run one on a free port of the loopback device."""
    state = UploadServer()

    class Handler(_Handler):
        server_state = state

    with running(Handler) as url:
        state.url = url
        yield state


class _Handler(BaseHTTPRequestHandler):
    server_state: UploadServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        state = self._noted()
        if self._is_refused():
            return
        query = parse_qs(urlsplit(self.path).query)
        if "mount" in query and state.mounts:
            self._end(201, {"Location": f"/v2/image/blobs/{query['mount'][0]}"})
            return
        state.data = b""
        more = {} if state.chunk_min is None else {"OCI-Chunk-Min-Length": str(state.chunk_min)}
        self._end(202, {"Location": self._location(), **more})

    def do_PATCH(self) -> None:
        state = self._noted()
        if self._takes_body() and not self._is_refused():
            self._end(202, {"Location": self._location(), "Range": f"0-{len(state.data) - 1}"})

    def do_PUT(self) -> None:
        state = self._noted()
        if state.redirects:
            self._body()
            self._end(307, {"Location": state.redirects.pop(0)})
            return
        if not self._takes_body() or self._is_refused():
            return
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        found = f"sha256:{hashlib.sha256(state.data).hexdigest()}"
        if digest != found:
            self._end(400, {})
            return
        state.blobs[digest] = state.data
        self._end(201, {"Location": f"/v2/image/blobs/{digest}"})

    def do_GET(self) -> None:
        state = self._noted()
        if state.tells_range and state.data:
            self._end(204, {"Location": self._location(), "Range": f"0-{len(state.data) - 1}"})
        else:
            self._end(404, {})

    def do_DELETE(self) -> None:
        self._noted()
        self._end(204, {})

    def _noted(self) -> UploadServer:
        state = self.server_state
        state.asked.append((self.command, self.path, dict(self.headers)))
        state.count += 1
        return state

    def _location(self) -> str:
        return self.server_state.location.replace("{n}", str(self.server_state.count))

    def _is_refused(self) -> bool:
        """Answer for who does not say who they are."""
        state = self.server_state
        if state.wants_password and self.headers.get("Authorization") != TOKEN:
            self._end(401, {"WWW-Authenticate": "Basic realm=x"})
            return True
        return False

    def _takes_body(self) -> bool:
        """Read the content; return whether it was taken."""
        state = self.server_state
        data, limit = self._body(), state.cuts.pop(0) if state.cuts else None
        if state.statuses:
            self._end(state.statuses.pop(0), {})
            return False
        if limit is not None:
            state.data += data[:limit]
            self.close_connection = True
            return False
        state.data += data
        return True

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _end(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Say nothing."""
