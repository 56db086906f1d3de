"""Who hears our passwords, and who does not."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import ImageUnavailable, RegistryProtocol, RegistryRefused
from chimage_core.image.reference import Reference
from chimage_core.registry.auth import Authenticator, is_same_site
from chimage_core.registry.client import RegistryClient
from chimage_core.registry.credentials import AskedCredentials, Credentials, CredentialSource, GivenCredentials
from chimage_core.registry.endpoints import read_mirrors
from chimage_core.registry.registries import Access, Registries
from chimage_core.registry.transport import Network, Transport
from tests.support.host import needs_program
from tests.support.registry import (
    PASSWORD,
    USER,
    Layer,
    Registry,
    htpasswd,
    make_certificate,
    make_image,
    run_registry,
    serve_tokens,
    sha256,
)
from tests.support.servers import FileServer, serve_files

pytestmark = [pytest.mark.network]
IMAGE = make_image(Layer.of(), architecture="amd64")
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
Make = Callable[..., RegistryClient]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    """Return what makes a client for a reference."""
    opened = []

    def client(
        reference: str,
        source: CredentialSource | None = None,
        stored: CredentialSource | None = None,
        *,
        ca: Path | None = None,
        mirrors: str = "",
        realms: tuple[str, ...] = (),
    ) -> RegistryClient:
        network = Network({}, str(ca) if ca else None, True)
        transport = Transport(network, cancel=CancelToken(), pause=lambda seconds: None)
        authenticator = Authenticator(transport, source, stored, trusted_realms=realms, clock=clock)
        registries = Registries(transport, authenticator, Access(read_mirrors(mirrors)))
        opened.append(registries)
        return registries.clients(Reference.parse(reference))[0]

    yield client
    for registries in opened:
        registries.close()


def alice() -> GivenCredentials:
    return GivenCredentials(USER, PASSWORD)


@needs_program("docker-registry")
@needs_program("openssl")
def test_basic_over_tls_of_a_private_authority(tmp_path: Path, make: Make) -> None:
    tls = make_certificate(tmp_path, "registry")
    with run_registry(tmp_path / "registry", tls=tls, auth=htpasswd(tmp_path)) as registry:
        reference = registry.put(IMAGE, "team/tool")
        assert make(reference, alice(), ca=tls[0]).manifest("latest").data == IMAGE.manifest
        with pytest.raises(ImageUnavailable, match="401") as raised:
            make(reference, ca=tls[0]).manifest("latest")
        assert "--auth" in str(raised.value.hint)
        with pytest.raises(ImageUnavailable, match="401") as raised:
            make(reference, GivenCredentials(USER, "wrong"), ca=tls[0]).manifest("latest")
        assert "wrong" not in str(raised.value)


@needs_program("docker-registry")
@needs_program("openssl")
def test_tokens(tmp_path: Path, make: Make, clock: Clock) -> None:
    with serve_tokens(tmp_path) as tokens, run_registry(tmp_path / "registry", auth=tokens.variables) as registry:
        _fill(tmp_path, registry)
        public = make(f"{registry.host}/public/tool")
        assert public.manifest("latest").data == IMAGE.manifest
        assert public.has_blob(public.manifest("latest").digest) is False
        assert [query.get("scope") for query in tokens.asked] == [["repository:public/tool:pull"]]
        with pytest.raises(ImageUnavailable):
            make(f"{registry.host}/private/tool").manifest("latest")
        assert all("authorization" not in query for query in tokens.asked)

        tokens.asked.clear()
        private = make(f"{registry.host}/private/tool", alice())
        assert private.manifest("latest").data == IMAGE.manifest
        clock.now += 1000  # Ours counts as too old; it is not even tried.
        assert private.manifest("latest").data == IMAGE.manifest
        assert [query["authorization"] for query in tokens.asked] == [[BASIC], [BASIC]]


def _fill(directory: Path, registry: Registry) -> None:
    """Put images where nobody may: by another registry over the same files."""
    with run_registry(directory / "registry") as open_registry:
        for name in ("public/tool", "private/tool"):
            open_registry.put(IMAGE, name)


class Fake:
    """A registry that wants what the test says."""

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.host = server.url.partition("//")[2]

    def challenge(self, text: str, times: int = 1) -> None:
        manifest = f"/v2/a/b/manifests/{sha256(IMAGE.manifest)}"
        self.server.add(manifest, IMAGE.manifest, statuses=[(401, {"WWW-Authenticate": text})] * times)

    def get(self, make: Make, *more: Any, **options: Any) -> bytes:
        client = make(f"{self.host}/a/b", *more, **options)
        return client.manifest(IMAGE.descriptor()["digest"]).data

    def sent(self) -> list[tuple[str, str | None]]:
        """Return path and credentials of each request but the first, which looks for TLS."""
        asked = [
            (request.path.partition("?")[0], request.headers.get("Authorization")) for request in self.server.asked
        ]
        return [(path, said) for path, said in asked if path != "/v2/"]


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serve_files() as server:
        yield Fake(server)


def bearer(url: str) -> str:
    return f'Bearer realm="{url}/token",service="s",scope="repository:a/b:pull"'


def test_a_refused_token_is_renewed_once(make: Make, fake: Fake) -> None:
    fake.challenge(bearer(fake.server.url), times=2)
    fake.server.add("/token", json.dumps({"access_token": "abc"}).encode())
    client = make(f"{fake.host}/a/b")
    with pytest.raises(ImageUnavailable):
        client.manifest("sha256:" + "0" * 64)
    fake.server.asked.clear()
    with pytest.raises(ImageUnavailable, match="401"):
        client.manifest(IMAGE.descriptor()["digest"])
    assert len(fake.sent()) == 3
    assert client.manifest(IMAGE.descriptor()["digest"]).data == IMAGE.manifest


@pytest.mark.parametrize(
    "answer", ["", "[]", "{}", '{"token": 1}', '{"token": "a b"}', '{"token": "a\\r\\nX: y"}', "["]
)
def test_an_answer_that_is_no_token(make: Make, fake: Fake, answer: str) -> None:
    fake.challenge(bearer(fake.server.url))
    fake.server.add("/token", answer.encode())
    with pytest.raises(RegistryProtocol, match="no token"):
        fake.get(make)


def test_an_endless_token(make: Make, fake: Fake) -> None:
    fake.challenge(bearer(fake.server.url))
    fake.server.add("/token", b"x" * 3_000_000)
    with pytest.raises(RegistryProtocol, match="more than"):
        fake.get(make)


def test_a_foreign_token_server_gets_no_password_unless_it_is_trusted(make: Make, fake: Fake) -> None:
    fake.challenge(bearer("https://evil.invalid"), times=5)
    with pytest.raises(RegistryRefused, match=r"another site: evil\.invalid") as raised:
        fake.get(make, alice())
    assert "CH_IMAGE_AUTH_REALMS" in str(raised.value.hint)


def test_a_registry_that_stands_in_gets_no_password_of_the_other(make: Make, fake: Fake) -> None:
    """$CH_IMAGE_PASSWORD is for the registry that the user names; a mirror may have an entry of its own."""
    fake.challenge('Basic realm="x"', times=1)
    mirrors = f"r.example.com=http://{fake.host}/a"
    with pytest.raises(ImageUnavailable):
        make("r.example.com/b", alice(), mirrors=mirrors).manifest(IMAGE.descriptor()["digest"])
    assert [said for _, said in fake.sent()] == [None]
    fake.challenge('Basic realm="x"', times=1)
    stored = GivenCredentials("mirror", "pass")
    made = make("r.example.com/b", alice(), stored, mirrors=mirrors)
    assert made.manifest(IMAGE.descriptor()["digest"]).data == IMAGE.manifest
    assert fake.sent()[-1][1] == "Basic " + base64.b64encode(b"mirror:pass").decode()


def test_a_redirect_takes_no_password_along(make: Make, fake: Fake) -> None:
    with serve_files() as other:
        url = other.add("/elsewhere", IMAGE.manifest)
        fake.challenge('Basic realm="x"')
        path = f"/v2/a/b/manifests/{IMAGE.descriptor()['digest']}"
        fake.server.files[path].statuses.append((307, {"Location": url}))
        assert fake.get(make, alice()) == IMAGE.manifest
        assert [said for _, said in fake.sent()] == [None, BASIC]
        assert [request.headers.get("Authorization") for request in other.asked] == [None]


def test_anonymous_means_that_nobody_is_asked(make: Make, fake: Fake) -> None:
    fake.challenge('Basic realm="x"')
    with pytest.raises(ImageUnavailable):
        fake.get(make, None, alice())
    assert [said for _, said in fake.sent()] == [None]


def test_passwords_are_remembered_or_not() -> None:
    asked: list[tuple[str, str | None]] = []

    def ask(registry: str, username: str | None) -> Credentials:
        asked.append((registry, username))
        return Credentials(username or "bob", str(len(asked)))

    remembered = AskedCredentials(ask, None, is_remembered=True)
    assert [remembered.get("r", name) for name in "ab"] == [Credentials("bob", "1")] * 2
    assert remembered.get("q", "a") == Credentials("bob", "2")
    many = AskedCredentials(ask, "carol", is_remembered=False)
    assert [many.get("r", "a"), many.get("r", "a")] == [Credentials("carol", "3"), Credentials("carol", "4")]
    with pytest.raises(RegistryRefused, match="no terminal"):
        AskedCredentials(lambda registry, username: None, None, is_remembered=True).get("r", "a")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("auth.docker.io", "registry-1.docker.io", True),
        ("gitlab.example.com", "registry.example.com", True),
        ("a.example.ac.uk", "b.example.ac.uk", True),
        ("a.ac.uk", "b.ac.uk", False),
        ("evil.com", "example.com", False),
        ("example.com.evil.com", "example.com", False),
        ("127.0.0.1", "localhost", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("registry", "other", False),
    ],
)
def test_same_site(one: str, other: str, is_same: bool) -> None:
    assert is_same_site(one, other) is is_same
    assert is_same_site(other, one) is is_same
