"""A repository of a registry: what is asked, and what is made of the answers."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import (
    ImageUnavailable,
    IntegrityError,
    RegistryError,
    RegistryProtocol,
    RegistryRefused,
    RegistryUnreachable,
)
from chimage_core.image import mediatype
from chimage_core.image.digest import Digest
from chimage_core.image.reference import Reference
from chimage_core.registry.auth import Authenticator
from chimage_core.registry.client import LARGEST_MANIFEST, RegistryClient
from chimage_core.registry.registries import Access, Registries
from chimage_core.registry.transport import Network, Patience, Transport
from tests.support.host import needs_program
from tests.support.registry import Layer, make_certificate, make_image, run_registry, serve_image, sha256
from tests.support.servers import FileServer, serve_files

pytestmark = pytest.mark.network
IMAGE = make_image(Layer.of(), Layer.of_tar(os.urandom(100_000)))
Make = Callable[..., RegistryClient]


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def make(pauses: list[float]) -> Iterator[Make]:
    opened = []

    def client(
        reference: str,
        *,
        ca: Path | None = None,
        verify: bool = True,
        plain: bool = False,
        patience: Patience | None = None,
    ) -> RegistryClient:
        network = Network({}, str(ca) if ca else None, verify)
        transport = Transport(network, cancel=CancelToken(), pause=pauses.append, patience=patience)
        registries = Registries(transport, Authenticator(transport, None, None), Access(plain_http=plain))
        opened.append(registries)
        return registries.clients(Reference.parse(reference))[0]

    yield client
    for registries in opened:
        registries.close()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as files:
        yield files


@needs_program("docker-registry")
def test_a_real_registry(tmp_path: Path, make: Make) -> None:
    with run_registry(tmp_path) as registry:
        client = make(registry.put(IMAGE, "a/b"))
        document = client.manifest("latest")
        assert document.data == IMAGE.manifest
        assert document.media_type == mediatype.DOCKER_MANIFEST
        assert client.manifest(document.digest).data == IMAGE.manifest
        known = client.known("latest")
        assert known is not None
        assert (known.media_type, known.digest, known.size) == (
            mediatype.DOCKER_MANIFEST,
            document.digest,
            len(IMAGE.manifest),
        )
        assert client.known("other") is None
        layer = IMAGE.layers[1]
        digest = Digest.parse(sha256(layer.data))
        assert client.has_blob(digest)
        assert not client.has_blob(Digest.parse("sha256:" + "0" * 64))
        with client.blob(digest, 70_000) as (response, start):
            assert start == 70_000
            assert response.document(len(layer.data)) == layer.data[70_000:]
        with pytest.raises(ImageUnavailable, match="MANIFEST_UNKNOWN"):
            client.manifest("other")


@needs_program("docker-registry")
@needs_program("openssl")
def test_tls(tmp_path: Path, make: Make) -> None:
    tls = make_certificate(tmp_path, "registry")
    with run_registry(tmp_path / "registry", tls=tls) as registry:
        reference = registry.put(IMAGE, "a/b")
        assert make(reference, ca=tls[0]).manifest("latest").data == IMAGE.manifest
        assert make(reference, verify=False).manifest("latest").data == IMAGE.manifest
        with pytest.raises(RegistryError, match="certificate not accepted"):
            make(reference).manifest("latest")


def test_without_tls_only_on_the_loopback_device_or_as_told(server: FileServer, make: Make) -> None:
    reference = serve_image(server, IMAGE)
    assert make(reference).manifest("latest").data == IMAGE.manifest
    server.asked.clear()
    assert make(reference, plain=True).manifest("latest").data == IMAGE.manifest
    assert [asked.path for asked in server.asked] == ["/v2/image/manifests/latest"]


def test_a_manifest_that_differs_from_its_digest(server: FileServer, make: Make) -> None:
    digest = sha256(b"other")
    server.add(f"/v2/image/manifests/{digest}", IMAGE.manifest)
    client = make(f"{server.url[7:]}/image")
    with pytest.raises(IntegrityError, match="differs from its digest"):
        client.manifest(Digest.parse(digest))


@pytest.mark.parametrize("announces_length", [True, False])
def test_a_manifest_of_any_size(server: FileServer, make: Make, announces_length: bool) -> None:
    server.add("/v2/image/manifests/latest", b"x" * (LARGEST_MANIFEST + 1), announces_length=announces_length)
    with pytest.raises(RegistryProtocol, match="no honest answer"):
        make(f"{server.url[7:]}/image").manifest("latest")


def test_a_manifest_that_breaks_off_is_asked_for_again(server: FileServer, make: Make, pauses: list[float]) -> None:
    server.add("/v2/image/manifests/latest", IMAGE.manifest, breaks_after=[10, 0])
    assert make(f"{server.url[7:]}/image").manifest("latest").data == IMAGE.manifest
    assert len(pauses) == 2
    server.add("/v2/image/manifests/latest", IMAGE.manifest, breaks_after=[10] * 9)
    with pytest.raises(RegistryProtocol, match="can't be read"):
        make(f"{server.url[7:]}/image").manifest("latest")


def test_too_many_requests(server: FileServer, make: Make, pauses: list[float]) -> None:
    limited = (429, {"Retry-After": "7"})
    server.add("/v2/image/manifests/latest", IMAGE.manifest, statuses=[limited, limited])
    assert make(f"{server.url[7:]}/image").manifest("latest").data == IMAGE.manifest
    assert pauses == [7, 7]
    server.add("/v2/image/manifests/latest", IMAGE.manifest, statuses=[limited] * 9)
    with pytest.raises(RegistryRefused, match="429") as raised:
        make(f"{server.url[7:]}/image").manifest("latest")
    assert "limits how often" in str(raised.value.hint)


def test_what_a_registry_says_of_an_error_is_told(server: FileServer, make: Make) -> None:
    with pytest.raises(ImageUnavailable, match="404") as raised:
        make(f"{server.url[7:]}/image").manifest("latest")
    assert "--auth" in str(raised.value.hint)


def test_a_loop_of_redirects(server: FileServer, make: Make) -> None:
    path = "/v2/image/manifests/latest"
    server.add(path, b"", statuses=[(307, {"Location": path})] * 100)
    with pytest.raises(RegistryError, match="redirects"):
        make(f"{server.url[7:]}/image").manifest("latest")


def test_a_small_blob_is_checked(server: FileServer, make: Make) -> None:
    digest = Digest.of(b"content")
    client = make(f"{server.url[7:]}/image")
    server.add(f"/v2/image/blobs/{digest}", b"CONTENT")
    with pytest.raises(IntegrityError):
        client.document(digest, 7, 100)
    with pytest.raises(RegistryProtocol, match="at most 5"):
        client.document(digest, 7, 5)
    server.add(f"/v2/image/blobs/{digest}", b"content" * 1000)
    with pytest.raises(RegistryProtocol, match="more than 7"):
        client.document(digest, 7, 100)
    server.add(f"/v2/image/blobs/{digest}", b"content")
    assert client.document(digest, 7, 100) == b"content"


def test_a_server_that_drips_is_given_up(server: FileServer, make: Make) -> None:
    """Every byte comes in time, but never the last one."""
    digest = Digest.of(b"content")
    server.add(f"/v2/image/blobs/{digest}", b"x" * 8192 * 1000, delay=0.2)
    began = time.monotonic()
    client = make(f"{server.url[7:]}/image", patience=Patience(drip=(1 << 20, 0.3)))
    with pytest.raises(RegistryProtocol, match=r"only .* bytes in"):
        client.document(digest, 1 << 20, 1 << 20)
    client = make(f"{server.url[7:]}/image", patience=Patience(document=0.3))
    with pytest.raises(RegistryProtocol, match="too slowly"):
        client.document(digest, 1 << 20, 1 << 20)
    assert time.monotonic() - began < 10


def test_headers_that_drip_are_given_up(make: Make, pauses: list[float]) -> None:
    """Each read of a few bytes is in time, and so the library would wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_drip_headers, args=(listener,))
        thread.start()
        client = make(f"127.0.0.1:{listener.getsockname()[1]}/image", plain=True, patience=Patience(headers=0.3))
        with pytest.raises(RegistryUnreachable):
            client.manifest("latest")
        assert len(pauses) == 3
        thread.join()


def _drip_headers(listener: socket.socket) -> None:
    for _ in range(4):
        connected, _ = listener.accept()
        with connected, contextlib.suppress(OSError):
            connected.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(20):
                connected.sendall(b"X-%d: y\r\n" % number)
                time.sleep(0.05)
