"""From names to manifests: what registries have, and what hostile ones may not do."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chimage_core.errors import ChimageError, ImageUnavailable, IntegrityError, PlatformUnavailable, RegistryProtocol
from chimage_core.events import Warned
from chimage_core.image import mediatype
from chimage_core.image.reference import Reference
from chimage_core.storage.blobs import Blobs
from chimage_core.transfer.resolve import Details, Resolved, Resolver
from tests.support.archives import file
from tests.support.recorder import Recorder
from tests.support.registry import Image, Layer, make_image, make_index, serve_image, serve_manifest, sha256
from tests.support.registry_client import clients_of
from tests.support.servers import FileServer, serve_files

pytestmark = pytest.mark.network
LINUX = {"os": "linux", "architecture": "amd64"}


def image(architecture: str, variant: str | None = None, **settings: Any) -> Image:
    made = make_image(Layer.of(file(f"{architecture}{variant}".encode())), architecture=architecture, **settings)
    if variant:
        made.config["variant"] = variant
    return made


AMD, ARM = image("amd64"), image("arm64", "v8")


class Lookup:
    """A registry, and a storage directory's blobs."""

    def __init__(self, server: FileServer, directory: Path) -> None:
        self.server = server
        self.blobs = Blobs(str(directory))
        self.events = Recorder()
        self.host = server.url.partition("//")[2]

    def index(self, *entries: Mapping[str, Any], images: tuple[Image, ...] = (AMD, ARM), tag: str = "latest") -> bytes:
        for each in images:
            serve_image(self.server, each, tag=sha256(each.manifest))
        data = make_index(*entries, media_type=mediatype.OCI_INDEX)
        serve_manifest(self.server, data, mediatype.OCI_INDEX, tag=tag)
        return data

    def resolve(self, arch: str = "amd64", version: str = ":latest") -> Resolved:
        with clients_of(f"{self.host}/image{version}") as clients:
            resolver = Resolver(self.blobs, always=False, emit=self.events)
            return resolver.resolve(clients, Reference.parse(f"{self.host}/image{version}"), arch)

    def details(self) -> Details:
        with clients_of(f"{self.host}/image") as clients:
            resolver = Resolver(None, always=False, emit=self.events)
            return resolver.details(clients, Reference.parse(f"{self.host}/image"))


@pytest.fixture
def lookup(tmp_path: Path) -> Iterator[Lookup]:
    with serve_files() as server:
        yield Lookup(server, tmp_path)


def is_image(found: Resolved, expected: Image) -> bool:
    return [str(layer.digest) for layer in found.layers] == [sha256(layer.data) for layer in expected.layers]


def nested(data: bytes) -> dict[str, Any]:
    return {"mediaType": mediatype.OCI_INDEX, "digest": sha256(data), "size": len(data)}


def test_entries_that_do_not_say_what_they_are_for(lookup: Lookup) -> None:
    """Then their configurations do."""
    lookup.index(ARM.descriptor(), AMD.descriptor())
    assert is_image(lookup.resolve("amd64"), AMD)
    assert is_image(lookup.resolve("arm64"), ARM)
    with pytest.raises(PlatformUnavailable, match="available: amd64, arm64"):
        lookup.resolve("s390x")


def test_indexes_in_indexes(lookup: Lookup) -> None:
    inner = lookup.index(AMD.descriptor(LINUX), ARM.descriptor(), tag="inner")
    middle = lookup.index(nested(inner), tag="middle")
    lookup.index(nested(middle))
    assert is_image(lookup.resolve("amd64"), AMD)
    assert is_image(lookup.resolve("arm64/v8"), ARM)


def test_indexes_are_nested_only_so_deep(lookup: Lookup) -> None:
    data = lookup.index(AMD.descriptor(LINUX), tag="0")
    for number in range(1, 10):
        data = lookup.index(nested(data), tag=str(number) if number < 9 else "latest")
    with pytest.raises(RegistryProtocol, match="nested more than"):
        lookup.resolve()


def test_a_name_costs_only_so_many_requests(lookup: Lookup) -> None:
    images = tuple(image(f"a{number}") for number in range(80))
    lookup.index(*(each.descriptor() for each in images), images=images)
    with pytest.raises(RegistryProtocol, match="more than 64"):
        lookup.resolve()


def test_a_huge_index_is_no_problem(lookup: Lookup) -> None:
    platform = {"os": "linux", "architecture": "x" * 10}
    entries = [AMD.descriptor({**platform, "variant": str(number)}) for number in range(8000)]
    lookup.index(*entries, AMD.descriptor(LINUX))
    assert is_image(lookup.resolve("amd64"), AMD)
    with pytest.raises(PlatformUnavailable) as raised:
        lookup.resolve("s390x")
    assert len(str(raised.value)) < 2000


def test_manifests_by_digest_are_asked_for_once(lookup: Lookup) -> None:
    lookup.index(AMD.descriptor(LINUX))
    first = lookup.resolve()
    lookup.server.asked.clear()
    assert lookup.resolve().digest == first.digest
    assert len(lookup.server.asked) == 1
    lookup.resolve(version=f"@{first.digest}")
    assert len(lookup.server.asked) == 1


def test_an_index_that_lies_about_a_digest(lookup: Lookup) -> None:
    lookup.index(AMD.descriptor(LINUX))
    lookup.server.files[f"/v2/image/manifests/{sha256(AMD.manifest)}"].content = ARM.manifest
    with pytest.raises(IntegrityError):
        lookup.resolve()


def test_a_configuration_that_lies_about_its_digest(lookup: Lookup) -> None:
    serve_image(lookup.server, AMD)
    served = lookup.server.files[f"/v2/image/blobs/{sha256(AMD.config_data)}"]
    served.content = AMD.config_data.replace(b"amd64", b"arm64")
    with pytest.raises(IntegrityError):
        lookup.resolve()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (b"", "makes no sense"),
        (b"[]", "makes no sense"),
        (b"[" * 100_000, "makes no sense"),
        (b'{"architecture": "amd64", "rootfs": {"diff_ids": []}}', "number of layers"),
        (b'{"architecture": "amd64", "config": {"Env": 7}}', "Env"),
        (b'{"architecture": "amd64", "os": "windows"}', "windows"),
    ],
)
def test_configurations_that_make_no_sense(lookup: Lookup, config: bytes, problem: str) -> None:
    entry = {"mediaType": mediatype.OCI_CONFIG, "digest": sha256(config), "size": len(config)}
    made = image("amd64")
    made.changes = {"config": entry}
    serve_image(lookup.server, made)
    lookup.server.add(f"/v2/image/blobs/{sha256(config)}", config, headers={})
    with pytest.raises(RegistryProtocol, match=problem):
        lookup.resolve()


def test_a_configuration_of_any_size(lookup: Lookup) -> None:
    made = image("amd64")
    made.changes = {"config": {"mediaType": mediatype.OCI_CONFIG, "digest": sha256(b""), "size": 1 << 50}}
    serve_image(lookup.server, made)
    with pytest.raises(RegistryProtocol, match="at most"):
        lookup.resolve()


@pytest.mark.parametrize(
    ("media_type", "problem"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign layer"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign layer"),
        (f"{mediatype.OCI_LAYER}+gzip+encrypted", "type that can’t be unpacked"),
        ("application/x-\x1b[2Jevil", "type that can’t be unpacked"),
    ],
)
def test_layers_that_cannot_be_had(lookup: Lookup, media_type: str, problem: str) -> None:
    layer = Layer(b"x", sha256(b"x"), media_type)
    serve_image(lookup.server, make_image(layer))
    with pytest.raises(ImageUnavailable, match=problem):
        lookup.resolve()


def test_schema_1(lookup: Lookup) -> None:
    document = {
        "schemaVersion": 1,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": sha256(layer.data)} for layer in (ARM.layers[0], AMD.layers[0])],
        "history": [{"v1Compatibility": "{}"}] * 2,
    }
    serve_manifest(lookup.server, json.dumps(document).encode(), mediatype.LEGACY_SIGNED)
    found = lookup.resolve()
    assert found.config is None
    assert [str(layer.digest) for layer in found.layers] == [sha256(each.layers[0].data) for each in (AMD, ARM)]
    assert "no metadata" in lookup.events.one(Warned).text


@pytest.mark.parametrize("data", [b"", b"<html>", b"null", b'{"manifests": 1}', b'{"layers": []}', b"{" * 10_000])
def test_what_is_no_manifest(lookup: Lookup, data: bytes) -> None:
    serve_manifest(lookup.server, data, mediatype.OCI_MANIFEST)
    with pytest.raises(ChimageError):
        lookup.resolve()


def test_details(lookup: Lookup) -> None:
    data = lookup.index(AMD.descriptor(LINUX), ARM.descriptor())
    found = lookup.details()
    assert (found.is_index, str(found.digest)) == (True, sha256(data))
    assert [(each.architecture, str(each.digest)) for each in found.images] == [
        ("amd64", sha256(AMD.manifest)),
        ("arm64", sha256(ARM.manifest)),
    ]
    serve_image(lookup.server, ARM)
    found = lookup.details()
    assert (found.is_index, len(found.images), found.images[0].architecture) == (False, 1, "arm64")
