"""A small apt repository: one directory of packages with an index, served on the loopback device.

RUN shares the host's network, so `apt-get` in a build reaches it without any network.
"""

import contextlib
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class AptRepository:
    """A repository that is being served."""

    url: str

    @property
    def source(self) -> str:
        """The one line for /etc/apt/sources.list. It is trusted because nobody signed it."""
        return f"deb [trusted=yes] {self.url} ./"


def write_index(directory: str) -> None:
    """Write the file `Packages`, which describes every .deb in `directory`. Needs dpkg-deb."""
    with open(os.path.join(directory, "Packages"), "w", encoding="utf-8") as index:
        for name in sorted(name for name in os.listdir(directory) if name.endswith(".deb")):
            path = os.path.join(directory, name)
            control = subprocess.run(["dpkg-deb", "-f", path], check=True, capture_output=True, text=True).stdout
            with open(path, "rb") as package:
                digest = hashlib.file_digest(package, "sha256").hexdigest()
            index.write(f"{control.rstrip()}\nFilename: ./{name}\nSize: {os.path.getsize(path)}\nSHA256: {digest}\n\n")


@contextlib.contextmanager
def serve(directory: str) -> Iterator[AptRepository]:
    """Serve a directory with an index over HTTP on a free port of the loopback device."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=directory)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield AptRepository(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line per request; keeps the connection, as apt likes it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Say nothing."""
