"""Lists of tags and repositories: page by page, and not for ever."""

import json
from collections.abc import Iterator

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import RegistryProtocol, RegistryRefused
from chimage_core.image.reference import Reference
from chimage_core.registry.auth import Authenticator
from chimage_core.registry.browse import list_repositories, list_tags
from chimage_core.registry.registries import Access, Registries
from chimage_core.registry.transport import Network, Transport
from tests.support.registry import Layer, Registry, make_image
from tests.support.servers import FileServer, serve_files

pytestmark = pytest.mark.network
TAGS = "/v2/image/tags/list"


@pytest.fixture
def registries() -> Iterator[Registries]:
    transport = Transport(Network({}, None, True), cancel=CancelToken(), pause=lambda seconds: None)
    made = Registries(transport, Authenticator(transport, None, None), Access(plain_http=True))
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as files:
        yield files


def page(server: FileServer, path: str, names: object, following: str | None = None, key: str = "tags") -> None:
    headers = {} if following is None else {"Link": f'<{following}>; rel="next"'}
    server.add(path, json.dumps({key: names}).encode(), headers=headers)


def reference(server: FileServer) -> Reference:
    return Reference.parse(f"{server.url.removeprefix('http://')}/image")


def test_a_real_registry(registries: Registries, registry: Registry) -> None:
    image = make_image(Layer.of())
    for tag in ("a", "b", "c"):
        name = registry.put(image, "browse/image", tag)
    client = registries.clients(Reference.parse(name))[0]
    assert sorted(list_tags(client, 10).names) == ["a", "b", "c"]
    assert list_tags(client, 10).is_complete
    assert "browse/image" in list_repositories(registries.whole(Reference.parse(name)), 1000).names
    with pytest.raises(RegistryRefused, match="NAME_UNKNOWN"):
        list_tags(registries.clients(Reference.parse(f"{registry.host}/browse/none"))[0], 10)


def test_pages_are_followed(server: FileServer, registries: Registries) -> None:
    page(server, TAGS, ["a", "b"], "/second?n=2&last=b")
    page(server, "/second", ["b", "c"], "http://inside.example.com/third")
    page(server, "/third", None)
    client = registries.clients(reference(server))[0]
    assert list_tags(client, 100) == (("a", "b", "c"), True)
    assert [asked.path.partition("?")[0] for asked in server.asked] == [TAGS, "/second", "/third"]
    assert list_tags(client, 1) == (("a",), False)
    assert list_tags(client, 2) == (("a", "b"), False)


def test_a_list_without_end_is_no_list(server: FileServer, registries: Registries) -> None:
    page(server, TAGS, [], "/v2/image/tags/list?more")
    with pytest.raises(RegistryProtocol, match="does not end"):
        list_tags(registries.clients(reference(server))[0], 100)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"tags": 3}', b'{"tags": [3]}', b"[" * 100_000, b"\xff"])
def test_nonsense_is_refused(server: FileServer, registries: Registries, content: bytes) -> None:
    server.add(TAGS, content, headers={})
    with pytest.raises(RegistryProtocol, match="can't be read"):
        list_tags(registries.clients(reference(server))[0], 100)


def test_a_registry_that_does_not_list_its_images(server: FileServer, registries: Registries) -> None:
    with pytest.raises(RegistryRefused, match="no list of repositories of 127") as caught:
        list_repositories(registries.whole(reference(server)), 100)
    assert "many registries" in (caught.value.hint or "")
