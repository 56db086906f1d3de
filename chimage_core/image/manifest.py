"""Manifests: what an image consists of; and indexes: which images there are under one name.

Everything here comes from strangers, and is checked into values: a wrong type is an error that says where. What a
document is follows from its content; the type that a server gives it counts only where the content does not tell.
Source: OCI image-spec v1.1, manifest.md, image-index.md, descriptor.md; Docker image manifest version 2, schemas 1, 2.
"""

import base64
import binascii
import json
from typing import Any, NamedTuple

from chimage_core.errors import RegistryProtocol
from chimage_core.image import mediatype
from chimage_core.image.digest import Digest

_MOST_LAYERS = 4096
_MOST_ENTRIES = 8192
_MOST_BYTES = 1 << 62
_EMPTY_LAYER = Digest("sha256", "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4")
"""What schema 1 has for instructions that change no file: a tar archive of nothing."""


class Descriptor(NamedTuple):
    """What is said of a blob or manifest."""

    media_type: str
    digest: Digest
    size: int
    """Bytes; -1: not said."""
    architecture: str | None = None
    """In an index: `arm/v7`, …; None: it is not said what it is for."""
    system: str | None = None
    """In an index: `linux`, …"""
    is_image: bool = True
    """In an index: not an attestation, a signature, or another thing about an image."""


class Manifest(NamedTuple):
    """An image for one platform."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    """Lowest first."""


class Index(NamedTuple):
    """Several images, or indexes of them."""

    manifests: tuple[Descriptor, ...]


class LegacyManifest(NamedTuple):
    """An image of schema 1. It has no configuration that could be trusted to describe it."""

    architecture: str
    layers: tuple[Descriptor, ...]
    """Lowest first, empty ones left out."""


def parse_manifest(data: bytes, media_type: str) -> Manifest | Index | LegacyManifest:
    """Read a manifest or index. `media_type`: what the server calls it. Raises RegistryProtocol."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryProtocol(f"manifest is no JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise RegistryProtocol("manifest is no JSON object")
    if document.get("schemaVersion") == 1 or (media_type in mediatype.LEGACY and "fsLayers" in document):
        return _legacy(document)
    own = document.get("mediaType")
    kind = own if isinstance(own, str) and own else media_type
    is_index, is_manifest = "manifests" in document, "config" in document or "layers" in document
    if is_index and is_manifest:  # One could be shown to a scanner, and the other one be used.
        raise RegistryProtocol("manifest is an image and an index at the same time")
    if is_index:
        return Index(tuple(_descriptors(document, "manifests", _MOST_ENTRIES)))
    if not is_manifest:
        raise RegistryProtocol(f"not a manifest of an image: it is of type {kind or 'unknown'}")
    config = document.get("config")
    if not isinstance(config, dict):
        raise RegistryProtocol("manifest has no configuration")
    return Manifest(kind, _descriptor(config, "config"), tuple(_descriptors(document, "layers", _MOST_LAYERS)))


def signed_payload(data: bytes) -> bytes | None:
    """Return what was signed of a manifest of schema 1, which its digest is of; None if it is no such manifest."""
    try:
        protected = json.loads(data)["signatures"][0]["protected"]
        header = json.loads(_base64url(protected))
        return data[: int(header["formatLength"])] + _base64url(header["formatTail"])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, binascii.Error):
        return None


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _descriptors(document: dict[str, Any], key: str, most: int) -> list[Descriptor]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise RegistryProtocol(f"manifest: {key}: expected a list")
    if len(entries) > most:
        raise RegistryProtocol(f"manifest: {key}: {len(entries)} entries, more than {most}")
    return [_descriptor(entry, f"{key}[{number}]") for number, entry in enumerate(entries)]


def _descriptor(entry: Any, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise RegistryProtocol(f"manifest: {where}: expected an object")
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if media_type is not None and not isinstance(media_type, str):
        raise RegistryProtocol(f"manifest: {where}: expected a string as mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
        raise RegistryProtocol(f"manifest: {where}: expected a number of bytes as size")
    platform = entry.get("platform")
    return Descriptor(
        media_type or "",
        _digest(digest, where),
        size,
        *_platform(platform if isinstance(platform, dict) else {}),
        is_image=not _is_attachment(entry),
    )


def _digest(text: Any, where: str) -> Digest:
    try:
        return Digest.parse(text if isinstance(text, str) else "")
    except ValueError as error:
        raise RegistryProtocol(f"manifest: {where}: not a digest: {error}") from None


def _platform(platform: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return architecture and operating system."""
    architecture, variant, system = (platform.get(key) for key in ("architecture", "variant", "os"))
    if not isinstance(architecture, str) or not architecture:
        architecture = None
    elif isinstance(variant, str) and variant:
        architecture = f"{architecture}/{variant}"
    return architecture, system if isinstance(system, str) and system else None


def _is_attachment(entry: dict[str, Any]) -> bool:
    annotations = entry.get("annotations")
    kind = annotations.get("vnd.docker.reference.type") if isinstance(annotations, dict) else None
    return bool(kind) or bool(entry.get("artifactType"))


def _legacy(document: dict[str, Any]) -> LegacyManifest:
    entries = document.get("fsLayers")
    if not isinstance(entries, list) or len(entries) > _MOST_LAYERS:
        raise RegistryProtocol("manifest: fsLayers: expected a list")
    digests = [
        _digest(entry.get("blobSum") if isinstance(entry, dict) else None, f"fsLayers[{number}]")
        for number, entry in enumerate(entries)
    ]
    architecture = document.get("architecture")
    layers = [Descriptor(mediatype.DOCKER_LAYER, each, -1) for each in reversed(digests) if each != _EMPTY_LAYER]
    return LegacyManifest(architecture if isinstance(architecture, str) else "", tuple(layers))
