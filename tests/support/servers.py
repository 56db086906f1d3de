"""Real servers on the loopback device: files over HTTP by a server that can misbehave, and Git repositories."""

import contextlib
import hashlib
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LAST_MODIFIED = "Sat, 21 Nov 2020 10:20:30 GMT"
LAST_MODIFIED_NS = 1_605_954_030 * 1_000_000_000


@dataclass
class Served:
    """A file of a FileServer, and how the server behaves when it is asked for it."""

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """Validators and others."""
    statuses: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    """Answers to give first, one a request: status and headers."""
    breaks_after: list[int] = field(default_factory=list)
    """Bytes after which to drop the connection, one a GET."""
    takes_head: bool = True
    takes_ranges: bool = True
    user: str | None = None
    """`user:password` that the client must send."""
    delay: float = 0
    """Seconds before each piece of the body."""
    announces_length: bool = True
    stalls: float = 0
    """Seconds before any answer."""


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]


class FileServer:
    """Serves what is in `files`, by path with the leading slash, and remembers who asked."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def add(self, path: str, content: bytes, **how: Any) -> str:
        """Serve a file with validators (unless `headers` are given); return its URL."""
        tag = hashlib.sha256(content).hexdigest()[:8]
        how.setdefault("headers", {"ETag": f'"{tag}"', "Last-Modified": LAST_MODIFIED})
        self.files[path] = Served(content, **how)
        return self.url + path

    def methods(self) -> list[str]:
        """Return the methods of the requests so far, and forget them."""
        methods = [asked.method for asked in self.asked]
        self.asked.clear()
        return methods


@contextlib.contextmanager
def serve_files(context: Any = None) -> Iterator[FileServer]:
    """Run a FileServer on a free port; over TLS with an SSL context."""
    files = FileServer()

    class Handler(_Handler):
        server_files = files

    with running(Handler, context) as address:
        files.url = address
        yield files


@contextlib.contextmanager
def running(handler: type[BaseHTTPRequestHandler], context: Any = None) -> Iterator[str]:
    """Serve on a free port of the loopback device; give the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def self_signed(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a context for a server that calls itself 127.0.0.1, and its certificate, which nobody has signed."""
    path = directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{path}.key", "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, f"{path}.key")
    return context, path


class _Handler(BaseHTTPRequestHandler):
    server_files: FileServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        files = self.server_files
        files.asked.append(Asked(self.command, self.path, dict(self.headers)))
        path = self.path
        if "://" in path:  # Asked as a proxy.
            path = "/" + path.split("/", 3)[3]
        served = files.files.get(path.partition("?")[0])
        if served is None:
            return self._end(404, {})
        time.sleep(served.stalls)
        if served.statuses:
            return self._end(*served.statuses.pop(0))
        if self.command == "HEAD" and not served.takes_head:
            return self._end(405, {})
        if served.user is not None:
            import base64

            if self.headers.get("Authorization") != f"Basic {base64.b64encode(served.user.encode()).decode()}":
                return self._end(401, {"WWW-Authenticate": "Basic realm=x"})
        return self._file(served)

    def _file(self, served: Served) -> None:
        body, status, extra = served.content, 200, {}
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if wanted and served.takes_ranges and (condition is None or condition in served.headers.values()):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            extra = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            body, status = body[start:], 206
        if served.announces_length:
            extra["Content-Length"] = str(len(body))
        self.send_response(status)
        for name, value in {**served.headers, **extra}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = served.breaks_after.pop(0) if served.breaks_after else None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(body), 8192):
                if served.delay:
                    time.sleep(served.delay)
                piece = body[at : at + 8192]
                if limit is not None and at + len(piece) > limit:
                    self.wfile.write(piece[: limit - at])
                    break
                self.wfile.write(piece)
        self.close_connection = True

    def _end(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Say nothing."""


GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "2020-11-21T10:20:30Z",
    "GIT_COMMITTER_DATE": "2020-11-21T10:20:30Z",
}


@dataclass(frozen=True)
class Repository:
    """A Git repository with a work tree, that tests write to."""

    path: Path

    def git(self, *argv: str) -> str:
        """Run git there and return what it said."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.path), **GIT}
        return subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *argv],
            cwd=self.path, env=env, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    def commit(self, files: Mapping[str, str]) -> str:
        """Write files, commit everything and return the commit."""
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "a commit")
        return self.git("rev-parse", "HEAD")


def make_repository(path: Path) -> Repository:
    """Make an empty repository whose branch is `main`."""
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "--quiet", "--initial-branch=main")
    return repository


@contextlib.contextmanager
def serve_git(top: Path, *, user: str | None = None) -> Iterator[str]:
    """Serve all repositories below `top` over HTTP by git-http-backend; give the URL of `top`.

    With `user` (`name:password`), only to who sends it.
    """
    with running(_backend(str(top), user)) as address:
        yield address


def _backend(top: str, user: str | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            import base64

            if user and self.headers.get("Authorization") != f"Basic {base64.b64encode(user.encode()).decode()}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic realm=x")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": top,
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                **GIT,
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 -- the name that the base class looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's
            """Say nothing."""

    return Handler
