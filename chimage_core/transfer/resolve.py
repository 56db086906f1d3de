"""From the name of an image to its manifest for one architecture.

A name may stand for one image, for an index of images, or for an index of indexes. An index may hold what is no image
(attestations, signatures), images for other systems, the same architecture twice (the first one counts), and images
that do not say what they are for: their configurations do then. Everything is bounded, since all of it comes from
strangers. Source: ch-image(1), "Architecture"; OCI image-spec v1.1, image-index.md.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from chimage_core.errors import ImageUnavailable, PlatformUnavailable, RegistryError, RegistryProtocol, UsageError
from chimage_core.events import Notice, Sink, Warned
from chimage_core.events.transfer import DocumentRequested
from chimage_core.image import mediatype
from chimage_core.image.architecture import HOST, YOLO, best_available, host_architecture
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import Descriptor, Index, LegacyManifest, Manifest, parse_manifest
from chimage_core.image.oci import OciConfig, from_oci
from chimage_core.image.platform import Platform, is_for
from chimage_core.image.reference import Reference
from chimage_core.registry.client import LARGEST_MANIFEST, Document, RegistryClient
from chimage_core.storage.blobs import Blobs

_DEFAULT = "amd64"
"""What images are for that do not say, and what registries give to who does not ask."""
_LARGEST_CONFIG = 16 << 20
_MOST_NESTED = 4
_MOST_REQUESTS = 64
"""Manifests and configurations that one name may cost."""


class Resolved(NamedTuple):
    """An image, before its layers are there."""

    clients: tuple[RegistryClient, ...]
    """Who may have its layers; first, who had the manifest."""
    digest: Digest
    """Of the manifest."""
    layers: tuple[Descriptor, ...]
    config: OciConfig | None
    """None: the image is of schema 1, which has none."""
    architecture: str


class Available(NamedTuple):
    """An image that a registry has."""

    architecture: str
    digest: Digest
    """Of its manifest."""


_Parsed = Manifest | Index | LegacyManifest


class Details(NamedTuple):
    """What a registry has under a name."""

    client: RegistryClient
    digest: Digest
    """Of the manifest or index."""
    is_index: bool
    images: tuple[Available, ...]
    """In the order of the index, one for each architecture."""


class Resolver:
    """Looks up images in registries, or what stands in for them."""

    def __init__(self, blobs: Blobs | None, *, always: bool, emit: Sink) -> None:
        """Manifests are kept in `blobs`, if given; with `always`, they are nevertheless asked for again."""
        self._blobs = blobs
        self._always = always
        self._emit = emit
        self._requests = 0

    def resolve(self, clients: Sequence[RegistryClient], reference: Reference, arch: str) -> Resolved:
        """Find an image for `arch`: `host`, `yolo` or an architecture.

        Raises ImageUnavailable, PlatformUnavailable, RegistryError, IntegrityError, UsageError, Cancelled.
        """
        wanted = host_architecture(os.uname().machine) if arch == HOST else arch
        client, digest, parsed = self._first(clients, reference)
        ordered = (client, *(other for other in clients if other is not client))
        self._emit(DocumentRequested(kind="manifest list" if isinstance(parsed, Index) else "manifest", is_here=False))
        if not isinstance(parsed, Index):
            image = self._image(ordered, parsed, digest, _DEFAULT)
            _check_single(image, wanted, reference)
            return image
        chosen = _choose(self._images(client, parsed), wanted, reference)
        digest = chosen.digest
        is_here = not self._always and self._blobs is not None and self._blobs.find(digest, None) is not None
        self._emit(DocumentRequested(kind="manifest", is_here=is_here))
        single = self._parsed(client, digest)
        if isinstance(single, Index):
            raise RegistryProtocol(f"index where an image should be: {client.name}, {digest}")
        return self._image(ordered, single, digest, chosen.architecture)

    def details(self, clients: Sequence[RegistryClient], reference: Reference) -> Details:
        """Return what a registry has under a name. Raises as `resolve` does."""
        client, digest, parsed = self._first(clients, reference)
        if isinstance(parsed, Index):
            return Details(client, digest, True, self._images(client, parsed))
        image = self._image((client,), parsed, digest, _DEFAULT)
        return Details(client, digest, False, (Available(image.architecture, digest),))

    def _first(self, clients: Sequence[RegistryClient], reference: Reference) -> tuple[RegistryClient, Digest, _Parsed]:
        """Get the manifest or index from the first who has it."""
        problem: RegistryError | None = None
        for client in clients:
            try:
                if reference.digest is not None:
                    return client, reference.digest, self._parsed(client, reference.digest)
                self._count()
                document = client.manifest(reference.version)
                self._keep(document)
                return client, document.digest, parse_manifest(document.data, document.media_type)
            except RegistryError as error:
                if client.endpoint.is_mirror:
                    self._emit(Notice(level="verbose", text=f"not from {client.name}: {error.message}"))
                problem = error
        assert problem is not None
        raise problem

    def _parsed(self, client: RegistryClient, digest: Digest) -> _Parsed:
        """Get a manifest or index by its digest."""
        if self._blobs is not None and not self._always:
            data = self._blobs.read(digest, LARGEST_MANIFEST)
            if data is not None:
                return parse_manifest(data, "")
        self._count()
        document = client.manifest(digest)
        self._keep(document)
        return parse_manifest(document.data, document.media_type)

    def _keep(self, document: Document) -> None:
        if self._blobs is not None:
            self._blobs.write(document.digest, document.data)

    def _count(self) -> None:
        self._requests += 1
        if self._requests > _MOST_REQUESTS:
            raise RegistryProtocol(f"more than {_MOST_REQUESTS} manifests and configurations for one image")

    def _images(self, client: RegistryClient, index: Index) -> tuple[Available, ...]:
        """Return the images for Linux of an index and of those in it, one for each architecture."""
        found: dict[str, Available] = {}
        pending = [(entry, 1) for entry in reversed(index.manifests)]
        while pending:
            entry, depth = pending.pop()
            if not entry.is_image or entry.system not in (None, "linux") or entry.architecture == "unknown":
                continue
            architecture = entry.architecture
            if architecture is None or entry.media_type in mediatype.INDEXES:
                parsed = self._parsed(client, entry.digest)
                if isinstance(parsed, Index):
                    if depth >= _MOST_NESTED:
                        raise RegistryProtocol(f"indexes are nested more than {_MOST_NESTED} deep: {client.name}")
                    pending += [(below, depth + 1) for below in reversed(parsed.manifests)]
                    continue
                architecture = architecture or self._declared(client, parsed, entry.digest)
            if architecture is not None:
                found.setdefault(architecture, Available(architecture, entry.digest))
        return tuple(found.values())

    def _declared(self, client: RegistryClient, manifest: Manifest | LegacyManifest, digest: Digest) -> str | None:
        """Return what an image says itself that it is for, where the index does not; None: it is none."""
        try:
            return self._image((client,), manifest, digest, _DEFAULT).architecture
        except ImageUnavailable:  # A chart, a signature, or what else people keep in registries.
            return None

    def _image(
        self,
        clients: tuple[RegistryClient, ...],
        manifest: Manifest | LegacyManifest,
        digest: Digest,
        architecture: str,
    ) -> Resolved:
        name = f"{clients[0].name}, {digest}"
        if isinstance(manifest, LegacyManifest):
            self._emit(Warned(text="image has a manifest of schema 1, which is obsolete; no metadata to load"))
            return Resolved(clients, digest, manifest.layers, None, manifest.architecture or architecture)
        _refuse_other_things(manifest, name)
        config = self._config(clients, manifest.config, name)
        if len(config.diff_ids) != len(manifest.layers):
            raise RegistryProtocol(
                f"manifest and configuration differ in the number of layers: {name}: "
                f"{len(manifest.layers)} and {len(config.diff_ids)}"
            )
        return Resolved(clients, digest, manifest.layers, config, config.config.architecture)

    def _config(self, clients: Sequence[RegistryClient], entry: Descriptor, name: str) -> OciConfig:
        data = None
        if self._blobs is not None and not self._always:
            data = self._blobs.read(entry.digest, _LARGEST_CONFIG)
        self._emit(DocumentRequested(kind="config", is_here=data is not None))
        if data is None:
            self._count()
            data = clients[0].document(entry.digest, entry.size, _LARGEST_CONFIG)
            if self._blobs is not None:
                self._blobs.write(entry.digest, data)
        try:
            return from_oci(data)
        except ValueError as error:
            raise RegistryProtocol(f"configuration makes no sense: {name}: {str(error)[:300]}") from None


def _refuse_other_things(manifest: Manifest, name: str) -> None:
    """Raise ImageUnavailable for what is no image, and for images that cannot be unpacked."""
    if manifest.config.media_type not in mediatype.CONFIGS:
        raise ImageUnavailable(
            f"not a container image: {name}: it is of type {manifest.config.media_type or 'unknown'}"
        )
    for layer in manifest.layers:
        if mediatype.is_foreign(layer.media_type):
            raise ImageUnavailable(
                f"image has a layer that its registry may not give away (“foreign layer”): {name}, {layer.digest}",
                hint="images of Windows have such layers; look for an image for Linux",
            )
        if layer.media_type and not mediatype.is_layer(layer.media_type):
            raise ImageUnavailable(f"image has a layer of a type that can’t be unpacked: {name}: {layer.media_type}")


def _choose(images: Sequence[Available], wanted: str, reference: Reference) -> Available:
    by_name = {image.architecture: image for image in images}
    if wanted == YOLO:
        name = _DEFAULT if _DEFAULT in by_name else next(iter(by_name), None)
    else:
        # What an image says of itself may be a longer name for the usual one.
        usual = {str(Platform.parse(name).usual): name for name in reversed(by_name) if _is_platform(name)}
        name = best_available(wanted, by_name)
        if name is None and _is_platform(wanted):
            other = best_available(str(Platform.parse(wanted).usual), usual)
            name = None if other is None else usual[other]
    if name is None:
        raise _unavailable(wanted, list(by_name), reference)
    return by_name[name]


def _check_single(image: Resolved, wanted: str, reference: Reference) -> None:
    """Raise PlatformUnavailable if an image that is the only one of its name is not wanted.

    The manual has it that such images are taken as amd64, whatever they say; what they say is believed, too.
    """
    if wanted in (YOLO, _DEFAULT) or is_for(image.architecture, wanted):
        return
    raise _unavailable(wanted, [image.architecture], reference)


def _unavailable(wanted: str, names: Sequence[str], reference: Reference) -> PlatformUnavailable:
    there = ", ".join(sorted(names)[:50]) or "none for Linux"
    return PlatformUnavailable(
        f"image is not there for architecture {wanted}: {reference}; available: {there}",
        hint="choose one of these with --arch, or whatever the registry gives by --arch=yolo",
    )


def _is_platform(name: str) -> bool:
    try:
        Platform.parse(name)
    except UsageError:
        return False
    return True
