"""Uploads: in one piece, in chunks, after a break, to wherever the registry wants them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import IntegrityError, RegistryError, RegistryProtocol, RegistryRefused
from chimage_core.image.digest import Digest
from chimage_core.image.reference import Reference
from chimage_core.registry.auth import Authenticator
from chimage_core.registry.credentials import GivenCredentials
from chimage_core.registry.registries import Access, Registries
from chimage_core.registry.transport import Network, Transport
from chimage_core.registry.uploads import Content, Uploads
from tests.support.host import needs_program
from tests.support.registry import Registry, sha256
from tests.support.upload_server import TOKEN, UploadServer, serve_uploads

pytestmark = pytest.mark.network
SIZE = 40 << 20
DATA = os.urandom(1 << 20) * (SIZE >> 20)
DIGEST = Digest.of(DATA)


@pytest.fixture
def server() -> Iterator[UploadServer]:
    with serve_uploads() as running:
        yield running


@pytest.fixture
def uploads(server: UploadServer) -> Iterator[Uploads]:
    yield from opened(f"{server.url.removeprefix('http://')}/image")


def opened(reference: str) -> Iterator[Uploads]:
    transport = Transport(Network({}, None, True), cancel=CancelToken(), pause=lambda seconds: None)
    named = GivenCredentials("alice", "secret")
    registries = Registries(transport, Authenticator(transport, named, None), Access(plain_http=True))
    yield Uploads(registries.origin(Reference.parse(reference)))
    registries.close()


@pytest.fixture
def moved() -> list[int]:
    return []


@pytest.fixture
def content(tmp_path: Path, moved: list[int]) -> Content:
    (tmp_path / "layer").write_bytes(DATA)
    return Content(str(tmp_path / "layer"), DIGEST, SIZE, moved.append, CancelToken())


def test_one_piece(server: UploadServer, uploads: Uploads, content: Content, moved: list[int]) -> None:
    uploads.send(uploads.begin(), content)
    assert server.blobs == {str(DIGEST): DATA}
    assert server.methods() == ["POST", "PUT"]
    put = server.asked[-1]
    assert put[1] == f"/v2/image/session?state=1&digest=sha256%3A{DIGEST.hex}"
    assert put[2]["Content-Length"] == str(SIZE)
    assert "Content-Range" not in put[2]
    assert moved == sorted(moved)
    assert moved[-1] == SIZE


def test_chunks_where_the_registry_asks_for_them(server: UploadServer, uploads: Uploads, content: Content) -> None:
    server.chunk_min = 18 << 20
    uploads.send(uploads.begin(), content)
    assert server.blobs == {str(DIGEST): DATA}
    assert server.methods() == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    ranges = [headers.get("Content-Range") for _, _, headers in server.asked[1:]]
    step = 18 << 20
    assert ranges == [f"0-{step - 1}", f"{step}-{2 * step - 1}", f"{2 * step}-{SIZE - 1}", None]
    assert [path.partition("?")[2] for _, path, _ in server.asked[1:4]] == ["state=1", "state=2", "state=3"]


def test_a_broken_upload_goes_on_where_the_registry_has_stopped(
    server: UploadServer, uploads: Uploads, content: Content
) -> None:
    server.cuts = [30 << 20]
    uploads.send(uploads.begin(), content)
    assert server.blobs == {str(DIGEST): DATA}
    assert server.methods() == ["POST", "PUT", "GET", "PATCH", "PUT"]
    assert server.asked[3][2]["Content-Range"] == f"{30 << 20}-{SIZE - 1}"


def test_a_broken_upload_begins_anew_where_the_registry_does_not_tell(
    server: UploadServer, uploads: Uploads, content: Content
) -> None:
    server.cuts, server.tells_range = [30 << 20], False
    uploads.send(uploads.begin(), content)
    assert server.blobs == {str(DIGEST): DATA}
    assert server.methods() == ["POST", "PUT", "GET", "POST", "PUT"]


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_what_may_pass_is_tried_again(server: UploadServer, uploads: Uploads, content: Content, status: int) -> None:
    server.statuses = [status]
    uploads.send(uploads.begin(), content)
    assert server.blobs == {str(DIGEST): DATA}


def test_patience_ends(server: UploadServer, uploads: Uploads, content: Content) -> None:
    server.statuses = [500] * 20
    with pytest.raises(RegistryRefused, match=r"can't push to .*: the registry answered: 500"):
        uploads.send(uploads.begin(), content)
    assert server.methods().count("PUT") == 4


def test_a_refusal_is_not_tried_again(server: UploadServer, uploads: Uploads, content: Content) -> None:
    server.statuses = [413]
    with pytest.raises(RegistryRefused, match="413") as caught:
        uploads.send(uploads.begin(), content)
    assert "limits the size" in (caught.value.hint or "")
    assert server.methods() == ["POST", "PUT"]


def test_a_refused_mount_goes_on_with_what_it_has_begun(
    server: UploadServer, uploads: Uploads, content: Content
) -> None:
    upload = uploads.mount(DIGEST, "other/image")
    assert upload is not None
    uploads.send(upload, content)
    assert server.methods() == ["POST", "PUT"]
    assert server.asked[0][1] == f"/v2/image/blobs/uploads/?mount=sha256%3A{DIGEST.hex}&from=other/image"


def test_a_mount(server: UploadServer, uploads: Uploads) -> None:
    server.mounts = True
    assert uploads.mount(DIGEST, "other/image") is None


def test_the_password_is_not_for_another_host(server: UploadServer, uploads: Uploads, content: Content) -> None:
    server.wants_password = True
    with serve_uploads() as other:
        server.location = f"{other.url}/elsewhere?signature=x"
        uploads.send(uploads.begin(), content)
        assert other.blobs == {str(DIGEST): DATA}
        assert [path for _, path, _ in other.asked] == [f"/elsewhere?signature=x&digest=sha256%3A{DIGEST.hex}"]
        assert "Authorization" not in other.asked[0][2]
    assert server.asked[-1][2]["Authorization"] == TOKEN


def test_a_redirected_upload(server: UploadServer, uploads: Uploads, content: Content) -> None:
    server.wants_password = True
    with serve_uploads() as other:
        server.redirects = [f"{other.url}/there?digest={DIGEST}"]
        uploads.send(uploads.begin(), content)
        assert other.blobs == {str(DIGEST): DATA}
        assert "Authorization" not in other.asked[0][2]


def test_redirects_end(server: UploadServer, uploads: Uploads, content: Content) -> None:
    server.redirects = ["/again"] * 10
    with pytest.raises(RegistryProtocol, match="redirected again and again"):
        uploads.send(uploads.begin(), content)


@pytest.mark.parametrize("location", ["session/relative?a=b&c=d", "//HOST/v2/x", "/v2/image/session"])
def test_relative_places(server: UploadServer, uploads: Uploads, content: Content, location: str) -> None:
    server.location = location.replace("HOST", server.url.removeprefix("http://"))
    uploads.send(uploads.begin(), content)
    assert server.blobs == {str(DIGEST): DATA}


@pytest.mark.parametrize("location", ["ftp://example.com/x", "http://[::1", "file:///etc/passwd"])
def test_places_that_make_no_sense(server: UploadServer, uploads: Uploads, location: str) -> None:
    server.location = location
    with pytest.raises(RegistryError):
        uploads.begin()


def test_absurd_chunks_are_refused(server: UploadServer, uploads: Uploads) -> None:
    server.chunk_min = 1 << 33
    with pytest.raises(RegistryProtocol, match="wants chunks of"):
        uploads.begin()


def test_a_file_that_became_shorter(uploads: Uploads, content: Content) -> None:
    os.truncate(content.path, 1000)
    with pytest.raises(IntegrityError, match="packed layer has become shorter"):
        uploads.send(uploads.begin(), content)


@needs_program("docker-registry")
def test_a_real_registry(registry: Registry, content: Content) -> None:
    for uploads in opened(f"{registry.host}/uploads/real"):
        uploads.send(uploads.begin(), content)
        # In chunks, as after a break.
        other = os.urandom(20 << 20)
        Path(content.path).write_bytes(other)
        upload = uploads.begin()._replace(chunk=1)
        uploads.send(upload, content._replace(digest=Digest.of(other), size=len(other)))
        uploads.send_bytes(uploads.begin(), Digest.of(b"{}"), b"{}")
        uploads.give_up(uploads.begin())
        with pytest.raises(RegistryRefused, match="manifest"):
            uploads.put_manifest("latest", b"{}", "application/vnd.oci.image.manifest.v1+json")
    assert sha256(other) == str(Digest.of(other))
