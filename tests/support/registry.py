"""Debian's docker-registry on the loopback device, a server of tokens for it, and images to put there."""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from chimage_core.image import mediatype
from tests.support.archives import tar

USER, PASSWORD = "alice", "s3cret word"
PROGRAM = "docker-registry"
_HTPASSWD = "alice:$2y$05$Z6snGDIIRPzy4t7dDVWco.hXTDiueDqZsOJr9WA90EVgcdrfA9ScG\n"
"""bcrypt of PASSWORD."""


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Layer:
    """A layer as it is sent, and the digest of its plain bytes."""

    data: bytes
    diff_id: str
    media_type: str = mediatype.DOCKER_LAYER + ".gzip"

    @classmethod
    def of(cls, *members: bytes) -> "Layer":
        """A gzip'd tar archive of members (see `archives`)."""
        return cls.of_tar(tar(*members))

    @classmethod
    def of_tar(cls, plain: bytes) -> "Layer":
        return cls(gzip.compress(plain, 1, mtime=0), sha256(plain))

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": sha256(self.data), "size": len(self.data)}


@dataclass
class Image:
    """An image for one platform: everything that may be sent for it."""

    layers: Sequence[Layer]
    config: dict[str, Any]
    media_type: str = mediatype.DOCKER_MANIFEST
    changes: dict[str, Any] = field(default_factory=dict)
    """What its manifest says otherwise."""

    @property
    def config_data(self) -> bytes:
        return json.dumps(self.config).encode()

    @property
    def manifest(self) -> bytes:
        is_oci = self.media_type == mediatype.OCI_MANIFEST
        document = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": {
                "mediaType": mediatype.OCI_CONFIG if is_oci else mediatype.DOCKER_CONFIG,
                "digest": sha256(self.config_data),
                "size": len(self.config_data),
            },
            "layers": [layer.descriptor() for layer in self.layers],
            **self.changes,
        }
        return json.dumps(document, indent=1).encode()

    @property
    def blobs(self) -> list[bytes]:
        return [self.config_data, *(layer.data for layer in self.layers)]

    def descriptor(self, platform: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """Its entry in an index."""
        entry = {"mediaType": self.media_type, "digest": sha256(self.manifest), "size": len(self.manifest), **more}
        return entry if platform is None else {**entry, "platform": dict(platform)}


def make_image(*layers: Layer, architecture: str = "amd64", **settings: Any) -> Image:
    """An image; `settings` are those of `config` in its configuration."""
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created_by": "a test"} for _ in layers],
    }
    return Image(layers, config)


def make_index(*entries: Mapping[str, Any], media_type: str = mediatype.DOCKER_INDEX) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": list(entries)}).encode()


class Registry:
    """A running registry."""

    def __init__(self, url: str, *, ca: Path | None = None, auth: Any = None) -> None:
        self.url = url
        self.ca = ca
        self.host = urlsplit(url).netloc
        """As it stands in references."""
        self._session = requests.Session()
        self._session.verify = os.fspath(ca) if ca else True
        self._session.auth = auth
        self._session.trust_env = False

    def close(self) -> None:
        self._session.close()

    def put(self, image: Image, name: str, tag: str = "latest") -> str:
        """Upload an image; return its reference."""
        for data in image.blobs:
            self.put_blob(name, data)
        self.put_manifest(name, tag, image.manifest, image.media_type)
        return f"{self.host}/{name}:{tag}"

    def put_index(self, name: str, tag: str, index: bytes, images: Sequence[Image]) -> str:
        """Upload an index and what it names."""
        for image in images:
            self.put(image, name, sha256(image.manifest))
        self.put_manifest(name, tag, index, json.loads(index)["mediaType"])
        return f"{self.host}/{name}:{tag}"

    def put_blob(self, name: str, data: bytes) -> None:
        started = self._session.post(f"{self.url}/v2/{name}/blobs/uploads/", timeout=60)
        started.raise_for_status()
        place = started.headers["Location"]
        url = f"{place}{'&' if '?' in place else '?'}digest={sha256(data)}"
        self._session.put(url, data=data, timeout=60).raise_for_status()

    def put_manifest(self, name: str, version: str, data: bytes, media_type: str) -> None:
        url = f"{self.url}/v2/{name}/manifests/{version}"
        done = self._session.put(url, data=data, headers={"Content-Type": media_type}, timeout=60)
        assert done.ok, done.text


@contextlib.contextmanager
def run_registry(
    directory: Path, *, tls: tuple[Path, Path] | None = None, auth: Mapping[str, str] | None = None
) -> Iterator[Registry]:
    """Run docker-registry on a free port. `tls`: certificate and key; `auth`: variables of its configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.yml"
    config.write_text("version: 0.1\n")
    env = {
        "PATH": os.environ["PATH"],
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": os.fspath(directory / "data"),
        "REGISTRY_STORAGE_DELETE_ENABLED": "true",
        "REGISTRY_LOG_LEVEL": "error",
        "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
        **(auth or {}),
    }
    if tls:
        env |= {"REGISTRY_HTTP_TLS_CERTIFICATE": str(tls[0]), "REGISTRY_HTTP_TLS_KEY": str(tls[1])}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env["REGISTRY_HTTP_ADDR"] = f"127.0.0.1:{port}"
    with (directory / "log").open("w") as log:
        child = subprocess.Popen([PROGRAM, "serve", str(config)], env=env, stdout=log, stderr=log)
    credentials = (USER, PASSWORD) if auth and "REGISTRY_AUTH" in auth and auth["REGISTRY_AUTH"] == "htpasswd" else None
    registry = Registry(
        f"{'https' if tls else 'http'}://127.0.0.1:{port}", ca=tls[0] if tls else None, auth=credentials
    )
    try:
        _await(port, child, directory / "log")
        yield registry
    finally:
        registry.close()
        child.terminate()
        child.wait()


def _await(port: int, child: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def htpasswd(directory: Path) -> dict[str, str]:
    """Return variables for a registry that wants USER and PASSWORD by Basic."""
    path = directory / "htpasswd"
    path.write_text(_HTPASSWD)
    return {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": 'a "realm", with a comma',
        "REGISTRY_AUTH_HTPASSWD_PATH": os.fspath(path),
    }


@dataclass
class TokenServer:
    """Gives tokens: to anybody for pulling from `public/`, to USER for everything."""

    variables: dict[str, str]
    """For the registry that is to believe it."""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    """Queries that came; with `authorization`, if it was sent."""
    life: int = 300
    """Seconds."""


@contextlib.contextmanager
def serve_tokens(directory: Path) -> Iterator[TokenServer]:
    """Run a server of tokens (JWT, RS256, by openssl) for a registry that is started with its `variables`."""
    certificate, key = make_certificate(directory, "token")
    tokens = TokenServer({})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            authorization = self.headers.get("Authorization")
            tokens.asked.append(query | ({"authorization": [authorization]} if authorization else {}))
            good = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if authorization not in (None, good):
                self._answer(401, {"details": "wrong"})
                return
            access = _granted(query.get("scope", []), is_known=authorization is not None)
            claims: dict[str, Any] = {
                "iss": "tests",
                "sub": "",
                "aud": query["service"][0],
                "jti": "1",
                "access": access,
            }
            now = int(time.time())
            claims |= {"nbf": now - 10, "iat": now, "exp": now + tokens.life}
            self._answer(200, {"token": _signed(claims, certificate, key), "expires_in": tokens.life})

        def _answer(self, status: int, document: Mapping[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        tokens.variables |= {
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": f"http://127.0.0.1:{server.server_address[1]}/token",
            "REGISTRY_AUTH_TOKEN_SERVICE": "the registry",
            "REGISTRY_AUTH_TOKEN_ISSUER": "tests",
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": os.fspath(certificate),
        }
        try:
            yield tokens
        finally:
            server.shutdown()
            thread.join()


def _granted(scopes: Sequence[str], *, is_known: bool) -> list[dict[str, Any]]:
    access = []
    for scope in " ".join(scopes).split():
        kind, name, actions = scope.split(":")
        allowed = actions.split(",")
        if not is_known:
            allowed = [action for action in allowed if action == "pull" and name.startswith("public/")]
        access.append({"type": kind, "name": name, "actions": allowed})
    return access


def _signed(claims: Mapping[str, Any], certificate: Path, key: Path) -> str:
    x5c = "".join(line for line in certificate.read_text().splitlines() if "-----" not in line)
    parts = [{"typ": "JWT", "alg": "RS256", "x5c": [x5c]}, claims]
    text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)], input=text.encode(), check=True, capture_output=True
    ).stdout
    return f"{text}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that signs itself; return it and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


Serve = Callable[[Image, str], str]


def serve_image(server: Any, image: Image, name: str = "image", tag: str = "latest") -> str:
    """Have a FileServer give an image as a registry would; return its reference."""
    for data in image.blobs:
        server.add(f"/v2/{name}/blobs/{sha256(data)}", data, headers={})
    serve_manifest(server, image.manifest, image.media_type, name, tag)
    return f"{urlsplit(server.url).netloc}/{name}:{tag}"


def serve_manifest(server: Any, data: bytes, media_type: str, name: str = "image", tag: str = "latest") -> str:
    """The same with a manifest alone, whatever it says."""
    for version in (tag, sha256(data)):
        server.add(f"/v2/{name}/manifests/{version}", data, headers={"Content-Type": media_type})
    return f"{urlsplit(server.url).netloc}/{name}:{tag}"
