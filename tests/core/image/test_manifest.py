"""Manifests and indexes, from honest and from other registries."""

import json
from typing import Any

import pytest

from chimage_core.errors import RegistryProtocol
from chimage_core.image import mediatype
from chimage_core.image.manifest import Index, LegacyManifest, Manifest, parse_manifest, signed_payload

DIGESTS = [f"sha256:{number:064x}" for number in range(9)]
CONFIG = {"mediaType": mediatype.OCI_CONFIG, "digest": DIGESTS[0], "size": 10}
LAYER = {"mediaType": mediatype.OCI_LAYER, "digest": DIGESTS[1], "size": 1 << 40}


def parse(document: Any, media_type: str = "") -> Manifest | Index | LegacyManifest:
    return parse_manifest(json.dumps(document).encode(), media_type)


def test_a_manifest() -> None:
    found = parse({"config": CONFIG, "layers": [LAYER, LAYER]}, mediatype.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.media_type == mediatype.OCI_MANIFEST
    assert (str(found.config.digest), found.config.size) == (DIGESTS[0], 10)
    assert [layer.size for layer in found.layers] == [1 << 40] * 2


def test_the_content_tells_what_it_is_not_the_server() -> None:
    assert isinstance(parse({"manifests": []}, mediatype.OCI_MANIFEST), Index)
    assert isinstance(parse({"config": CONFIG, "layers": []}, "text/html"), Manifest)
    manifest = parse({"mediaType": mediatype.DOCKER_MANIFEST, "config": CONFIG, "layers": []}, mediatype.OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.media_type == mediatype.DOCKER_MANIFEST


def test_entries_of_an_index() -> None:
    entry = {"digest": DIGESTS[0], "size": 1}
    index = parse(
        {
            "manifests": [
                {**entry, "platform": {"architecture": "arm", "variant": "v7", "os": "linux"}},
                entry,
                {**entry, "platform": {"architecture": 7, "variant": [], "os": ""}},
                {**entry, "platform": "linux"},
                {**entry, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
                {**entry, "artifactType": "application/x"},
            ]
        }
    )
    assert isinstance(index, Index)
    assert [(each.architecture, each.system, each.is_image) for each in index.manifests] == [
        ("arm/v7", "linux", True),
        (None, None, True),
        (None, None, True),
        (None, None, True),
        (None, None, False),
        (None, None, False),
    ]


def test_schema_1() -> None:
    empty = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"
    layers = [{"blobSum": digest} for digest in (empty, DIGESTS[2], empty, DIGESTS[1])]
    legacy = parse({"schemaVersion": 1, "architecture": "amd64", "fsLayers": layers})
    assert isinstance(legacy, LegacyManifest)
    assert legacy.architecture == "amd64"
    assert [str(layer.digest) for layer in legacy.layers] == [DIGESTS[1], DIGESTS[2]]


def test_the_signed_part_of_schema_1() -> None:
    """Its digest is of this, not of what is sent. The header says that what follows byte 9 was `\\n}`."""
    protected = "eyJmb3JtYXRMZW5ndGgiOjksImZvcm1hdFRhaWwiOiJDbjAifQ"
    data = b'{\n   "a":1,\n   "signatures": [{"protected": "%s"}]\n}' % protected.encode()
    assert signed_payload(data) == data[:9] + b"\n}"
    for other in (b"", b"{}", b"[]", b'{"signatures": []}', b'{"signatures": [{"protected": "!"}]}', b"[" * 100_000):
        assert signed_payload(other) is None


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "no JSON object"),
        ({}, "not a manifest"),
        ({"config": CONFIG}, "layers"),
        ({"layers": []}, "no configuration"),
        ({"config": CONFIG, "layers": [], "manifests": []}, "at the same time"),
        ({"config": CONFIG, "layers": {}}, "expected a list"),
        ({"config": CONFIG, "layers": [1]}, r"layers\[0\]: expected an object"),
        ({"config": CONFIG, "layers": [{**LAYER, "size": -1}]}, "number of bytes"),
        ({"config": CONFIG, "layers": [{**LAYER, "size": True}]}, "number of bytes"),
        ({"config": CONFIG, "layers": [{**LAYER, "size": "1"}]}, "number of bytes"),
        ({"config": CONFIG, "layers": [{**LAYER, "size": 1 << 70}]}, "number of bytes"),
        ({"config": CONFIG, "layers": [{**LAYER, "digest": "sha256:../../etc"}]}, "not a digest"),
        ({"config": CONFIG, "layers": [{**LAYER, "digest": "md5:00"}]}, "not a digest"),
        ({"config": CONFIG, "layers": [{**LAYER, "mediaType": 3}]}, "mediaType"),
        ({"config": {**CONFIG, "digest": None}, "layers": []}, "config: not a digest"),
        ({"manifests": [{}] * 10_000}, "10000 entries"),
        ({"config": CONFIG, "layers": [LAYER] * 10_000}, "10000 entries"),
        ({"schemaVersion": 1, "fsLayers": 3}, "expected a list"),
        ({"schemaVersion": 1, "fsLayers": [{}]}, "not a digest"),
    ],
)
def test_what_makes_no_sense_is_refused(document: Any, problem: str) -> None:
    with pytest.raises(RegistryProtocol, match=problem):
        parse(document)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xfe", b"[" * 1_000_000, b"1" * 10_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(RegistryProtocol):
        parse_manifest(data, "")


@pytest.mark.parametrize(
    ("media_type", "is_layer"),
    [
        (mediatype.OCI_LAYER, True),
        (f"{mediatype.OCI_LAYER}+gzip", True),
        (f"{mediatype.OCI_LAYER}+zstd", True),
        (f"{mediatype.DOCKER_LAYER}.gzip", True),
        (mediatype.DOCKER_LAYER, True),
        (f"{mediatype.OCI_LAYER}+gzip+encrypted", False),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False),
    ],
)
def test_layers(media_type: str, is_layer: bool) -> None:
    assert mediatype.is_layer(media_type) is is_layer


def test_foreign_layers() -> None:
    assert mediatype.is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert mediatype.is_foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert not mediatype.is_foreign(mediatype.OCI_LAYER)
