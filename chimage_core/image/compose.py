"""Manifests and indexes, written: equal values give equal bytes, and so equal digests.

Sources: OCI image-spec v1.1, manifest.md, image-index.md, image-layout.md; Docker image manifest version 2, schema 2.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chimage_core.image import mediatype
from chimage_core.image.digest import Digest

_OCI_SUFFIXES = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}
_DOCKER_SUFFIXES = {"none": "", "gzip": ".gzip"}


class Blob(NamedTuple):
    """Some content, and what it is."""

    media_type: str
    digest: Digest
    size: int
    """Bytes"""

    @classmethod
    def of(cls, media_type: str, data: bytes) -> "Blob":
        """Describe `data`."""
        return cls(media_type, Digest.of(data), len(data))

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor."""
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}


def layer_type(compression: str, *, is_docker: bool = False) -> str:
    """Return the media type of a layer. Raises ValueError: Docker has no zstd."""
    suffixes = _DOCKER_SUFFIXES if is_docker else _OCI_SUFFIXES
    if compression not in suffixes:
        raise ValueError(f"no media type for layers compressed by {compression}")
    return (mediatype.DOCKER_LAYER if is_docker else mediatype.OCI_LAYER) + suffixes[compression]


def config_blob(data: bytes, *, is_docker: bool = False) -> Blob:
    """Describe an image configuration."""
    return Blob.of(mediatype.DOCKER_CONFIG if is_docker else mediatype.OCI_CONFIG, data)


def manifest(config: Blob, layers: Sequence[Blob], *, is_docker: bool = False) -> bytes:
    """Return the manifest of an image; `layers` from the lowest up."""
    return _encoded(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.DOCKER_MANIFEST if is_docker else mediatype.OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    )


def manifest_blob(data: bytes, *, is_docker: bool = False) -> Blob:
    """Describe a manifest."""
    return Blob.of(mediatype.DOCKER_MANIFEST if is_docker else mediatype.OCI_MANIFEST, data)


class IndexEntry(NamedTuple):
    """An image in an index."""

    manifest: Blob
    architecture: str
    """`amd64`, `arm/v7`, …"""
    annotations: Mapping[str, str] = {}


def index(entries: Sequence[IndexEntry], *, is_docker: bool = False) -> bytes:
    """Return an index of images."""
    return _encoded(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.DOCKER_INDEX if is_docker else mediatype.OCI_INDEX,
            "manifests": [_index_entry(entry) for entry in entries],
        }
    )


def index_blob(data: bytes, *, is_docker: bool = False) -> Blob:
    """Describe an index."""
    return Blob.of(mediatype.DOCKER_INDEX if is_docker else mediatype.OCI_INDEX, data)


def _index_entry(entry: IndexEntry) -> dict[str, Any]:
    architecture, _, variant = entry.architecture.partition("/")
    platform = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
    annotations = {"annotations": dict(sorted(entry.annotations.items()))} if entry.annotations else {}
    return {**entry.manifest.to_json(), "platform": platform, **annotations}


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")
