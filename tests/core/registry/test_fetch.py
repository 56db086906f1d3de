"""Files by URL, from a real server that misbehaves as servers do."""

import contextlib
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import (
    Cancelled,
    ChimageError,
    IntegrityError,
    RegistryError,
    RegistryRefused,
    RegistryUnreachable,
)
from chimage_core.registry.fetch import Downloads
from chimage_core.registry.transport import Network, Transport
from tests.support.host import needs_program
from tests.support.servers import LAST_MODIFIED, LAST_MODIFIED_NS, FileServer, self_signed, serve_files

pytestmark = pytest.mark.network

BIG = os.urandom(100_000)
Make = Callable[..., Downloads]


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as files:
        yield files


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that were waited."""
    return []


@pytest.fixture
def make(tmp_path: Path, pauses: list[float]) -> Iterator[Make]:
    """Return what makes Downloads that keep files in `tmp_path / "kept"` and never wait."""
    (tmp_path / "kept").mkdir()
    opened = []

    def downloads(
        *,
        proxies: Mapping[str, str] | None = None,
        ca_bundle: str | None = None,
        verify: bool = True,
        always: bool = False,
        cancel: CancelToken | None = None,
    ) -> Downloads:
        cancel = cancel or CancelToken()
        transport = Transport(Network(proxies or {}, ca_bundle, verify), cancel=cancel, pause=pauses.append)
        opened.append(transport)
        return Downloads(str(tmp_path / "kept"), transport, always=always, cancel=cancel)

    yield downloads
    for transport in opened:
        transport.close()


def content(fetched: str) -> bytes:
    return Path(fetched).read_bytes()


def kept(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "kept"))


def test_a_look_asks_for_headers_only(server: FileServer, make: Make) -> None:
    url = server.add("/f", b"content")
    assert make().look(url) == {
        "ETag": f'"{hashlib.sha256(b"content").hexdigest()[:8]}"',
        "Last-Modified": LAST_MODIFIED,
        "Content-Length": "7",
    }
    assert server.methods() == ["HEAD"]


def test_a_file_is_fetched_once(server: FileServer, make: Make) -> None:
    url = server.add("/f", BIG)
    downloads = make()
    seen = downloads.look(url)
    path = downloads.fetch(url, seen, None)
    assert content(path) == BIG
    status = Path(path).stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o600, LAST_MODIFIED_NS)
    assert downloads.fetch(url, seen, None) == path
    assert server.methods() == ["HEAD", "GET"]
    server.add("/f", b"other")
    assert content(downloads.fetch(url, downloads.look(url), None)) == b"other"


def test_always_means_always(server: FileServer, make: Make) -> None:
    url = server.add("/f", b"content")
    downloads = make(always=True)
    for _ in range(2):
        downloads.fetch(url, None, sha256(b"content"))
    assert server.methods() == ["GET", "GET"]


def test_a_checksum_needs_no_question_and_no_second_download(server: FileServer, make: Make, tmp_path: Path) -> None:
    url = server.add("/f", BIG)
    fetched = make().fetch(url, None, sha256(BIG))
    assert (content(fetched), Path(fetched).stat().st_mtime_ns) == (BIG, 0)
    make().fetch("http://localhost:1/elsewhere", None, sha256(BIG))
    assert server.methods() == ["GET"]
    assert kept(tmp_path) == [sha256(BIG).replace(":", "-")]


def test_what_differs_from_its_checksum_is_not_kept(server: FileServer, make: Make, tmp_path: Path) -> None:
    url = server.add("/f", b"evil")
    with pytest.raises(IntegrityError, match=f"expected {sha256(b'good')}, found {sha256(b'evil')}"):
        make().fetch(url, None, sha256(b"good"))
    assert kept(tmp_path) == []


def test_a_kept_file_that_was_damaged_is_fetched_again(server: FileServer, make: Make) -> None:
    url = server.add("/f", b"content")
    path = make().fetch(url, None, sha256(b"content"))
    Path(path).write_bytes(b"c0ntent")
    assert content(make().fetch(url, None, sha256(b"content"))) == b"content"


def test_a_server_without_validators_has_to_send_the_file_to_be_looked_up(server: FileServer, make: Make) -> None:
    url = server.add("/f", b"content", headers={})
    downloads = make()
    seen = downloads.look(url)
    assert seen == {"Digest": sha256(b"content")}
    assert content(downloads.fetch(url, seen, None)) == b"content"
    assert server.methods() == ["HEAD", "GET"]


def test_a_server_that_refuses_head_is_asked_otherwise(server: FileServer, make: Make) -> None:
    url = server.add("/f", BIG, takes_head=False)
    assert make().look(url)["Content-Length"] == "100000"
    assert server.methods() == ["HEAD", "GET"]


def test_a_broken_connection_is_resumed(server: FileServer, make: Make, pauses: list[float]) -> None:
    url = server.add("/f", BIG, breaks_after=[30_000, 40_000])
    assert content(make().fetch(url, None, sha256(BIG))) == BIG
    ranges = [asked.headers.get("Range") for asked in server.asked]
    assert ranges == [None, "bytes=30000-", "bytes=70000-"]
    assert pauses == [0.5, 0.5]


@pytest.mark.parametrize("how", [{"takes_ranges": False}, {"headers": {}}, {"headers": {"ETag": 'W/"weak"'}}])
def test_what_cannot_be_resumed_begins_again(server: FileServer, make: Make, how: dict[str, object]) -> None:
    url = server.add("/f", BIG, breaks_after=[30_000], **how)
    assert content(make().fetch(url, None, sha256(BIG))) == BIG


def test_the_rest_of_another_version_is_not_taken(server: FileServer, make: Make) -> None:
    """The file is replaced while it is fetched: half of one and half of the other would be worse than an error."""
    url = server.add("/f", BIG, breaks_after=[30_000])
    downloads = make()
    seen = downloads.look(url)
    replaced = server.files["/f"]

    class Replacing(list[int]):
        def pop(self, at: object = 0) -> int:
            server.add("/f", bytes(100_000), headers={"ETag": '"2"'})
            return super().pop()

    replaced.breaks_after = Replacing([30_000])
    with pytest.raises(RegistryRefused, match="changed while it was fetched"):
        downloads.fetch(url, seen, None)
    assert content(downloads.fetch(url, downloads.look(url), None)) == bytes(100_000)


def test_who_never_sends_more_is_given_up(server: FileServer, make: Make, tmp_path: Path) -> None:
    url = server.add("/f", BIG, breaks_after=[0] * 20)
    with pytest.raises(RegistryUnreachable, match="keeps breaking"):
        make().fetch(url, None, sha256(BIG))
    assert kept(tmp_path) == []


@pytest.mark.parametrize(("header", "pause"), [({}, 0.5), ({"Retry-After": "7"}, 7), ({"Retry-After": "9999"}, 60)])
def test_a_busy_server_is_asked_again_when_it_says(
    server: FileServer, make: Make, pauses: list[float], header: dict[str, str], pause: float
) -> None:
    url = server.add("/f", b"content", statuses=[(503, header), (429, header)])
    make().look(url)
    assert pauses[0] == pause
    assert server.methods() == ["HEAD", "HEAD", "HEAD"]


def test_a_time_to_wait_may_be_a_date(server: FileServer, make: Make, pauses: list[float]) -> None:
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    make().look(server.add("/f", b"content", statuses=[(503, {"Retry-After": later})]))
    assert 25 < pauses[0] <= 30


@pytest.mark.parametrize(("status", "told"), [(404, "404"), (403, "403"), (500, "500"), (204, "204")])
def test_a_refusal_is_told(server: FileServer, make: Make, tmp_path: Path, status: int, told: str) -> None:
    url = server.add("/f", b"", statuses=[(status, {})] * 10)
    for call in (make().look, lambda url: make().fetch(url, None, sha256(b""))):
        with pytest.raises(RegistryRefused, match=f"{url}.*{told}"):
            call(url)
    assert kept(tmp_path) == []


def test_nobody_there(make: Make, pauses: list[float]) -> None:
    with pytest.raises(RegistryUnreachable, match=r"127\.0\.0\.1.*(refused|Connection)"):
        make().look("http://127.0.0.1:1/f")
    assert pauses == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/f", "http:///f", "http://[::1/f", "http://h:x/f"])
def test_what_is_no_url_of_http(make: Make, url: str) -> None:
    with pytest.raises(RegistryError):
        make().look(url)


# Redirects and credentials


def test_redirects_are_followed_but_not_for_ever(server: FileServer, make: Make) -> None:
    server.add("/f", b"content")
    url = server.add("/r", b"", statuses=[(302, {"Location": "/f"})] * 2)
    downloads = make()
    assert content(downloads.fetch(url, downloads.look(url), None)) == b"content"
    for path in ("/x", "/y"):
        server.add(path, b"", statuses=[(301, {"Location": "/y" if path == "/x" else "/x"})] * 99)
    with pytest.raises(RegistryError, match="redirects"):
        downloads.look(f"{server.url}/x")


@pytest.mark.parametrize(
    ("target", "problem"),
    [("file:///etc/passwd", "not a URL of http"), ("http://[x/", "no URL"), ("http://h:x/", "not a URL")],
)
def test_a_redirect_to_what_is_not_on_the_web_is_refused(
    server: FileServer, make: Make, target: str, problem: str
) -> None:
    url = server.add("/r", b"", statuses=[(302, {"Location": target})])
    with pytest.raises(RegistryError, match=problem):
        make().look(url)


def test_credentials_of_the_url_are_sent_to_that_server_only(server: FileServer, make: Make) -> None:
    server.add("/f", b"content", user="me:s3cr/et")
    with serve_files() as other:
        target = other.add("/elsewhere", b"content")
        server.add("/r", b"", statuses=[(302, {"Location": target})])
        url = server.url.replace("//", "//me:s3cr%2Fet@")
        make().look(f"{url}/f")
        make().look(f"{url}/r")
        assert all("Authorization" in asked.headers for asked in server.asked)
        assert [asked.headers.get("Authorization") for asked in other.asked] == [None]


@pytest.mark.parametrize("path", ["/missing", "/wants", "/loop", "/broken"])
def test_no_message_names_credentials(server: FileServer, make: Make, path: str) -> None:
    server.add("/wants", b"", user="other:one")
    server.add("/loop", b"", statuses=[(302, {"Location": f"{server.url}/loop".replace("//", "//me:s3cret@")})] * 50)
    server.add("/broken", BIG, breaks_after=[0] * 50)
    url = f"{server.url}{path}".replace("//", "//me:s3cret@", 1)
    with pytest.raises(ChimageError) as caught:
        make().fetch(url, None, sha256(b"x"))
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


# Proxies and certificates


def test_a_proxy_is_used_unless_excepted(server: FileServer, make: Make) -> None:
    server.add("/f", b"content")
    make(proxies={"http_proxy": server.url}).look("http://nowhere.example/f")
    assert server.asked[0].path == "http://nowhere.example/f"
    with pytest.raises(RegistryUnreachable):
        make(proxies={"HTTP_PROXY": "http://127.0.0.1:1"}).look(f"{server.url}/f")
    for no_proxy in ("127.0.0.1", "example.com, 127.0.0.0/8", "*"):
        make(proxies={"HTTP_PROXY": "http://127.0.0.1:1", "no_proxy": no_proxy}).look(f"{server.url}/f")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return tmp_path / "certificate.pem"


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[FileServer]:
    with serve_files(self_signed(tmp_path)[0]) as files:
        yield files


@needs_program("openssl")
def test_certificates_are_checked_unless_told_otherwise(
    tls: FileServer, make: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls.add("/f", b"content")
    with pytest.raises(RegistryError, match=r"certificate not accepted: 127\.0\.0\.1") as caught:
        make().look(url)
    assert "--tls-no-verify" in str(caught.value.hint)
    make(ca_bundle=str(certificate)).look(url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    make(verify=False).look(url)


@needs_program("openssl")
def test_a_redirect_that_gives_up_https_needs_a_checksum(tls: FileServer, server: FileServer, make: Make) -> None:
    target = server.add("/f", b"content")
    url = tls.add("/r", b"", statuses=[(302, {"Location": target})] * 3)
    with pytest.raises(RegistryError, match="from https to http") as caught:
        make(verify=False).look(url)
    assert "checksum" in str(caught.value.hint)
    assert content(make(verify=False).fetch(url, None, sha256(b"content"))) == b"content"


# Stopping


@pytest.mark.parametrize("how", [{"delay": 0.2}, {"stalls": 8}, {"statuses": [(503, {"Retry-After": "9"})] * 9}])
@pytest.mark.parametrize("proxied", [False, True])
def test_whatever_it_waits_for_can_be_cancelled(
    server: FileServer, tmp_path: Path, how: dict[str, object], proxied: bool
) -> None:
    (tmp_path / "kept").mkdir()
    url = server.add("/f", bytes(1_000_000), **how)
    cancel = CancelToken()
    timer = threading.Timer(0.5, cancel.cancel, (signal.SIGTERM,))
    timer.start()
    began = time.monotonic()
    transport = Transport(Network({"http_proxy": server.url} if proxied else {}, None, True), cancel=cancel)
    downloads = Downloads(str(tmp_path / "kept"), transport, always=False, cancel=cancel)
    with contextlib.closing(transport), pytest.raises(Cancelled):
        downloads.fetch(url, None, sha256(b"x"))
    timer.join()
    assert time.monotonic() - began < 5
    assert kept(tmp_path) == []


def test_a_body_of_unknown_length(server: FileServer, make: Make) -> None:
    url = server.add("/f", BIG, announces_length=False)
    downloads = make()
    assert content(downloads.fetch(url, downloads.look(url), None)) == BIG
