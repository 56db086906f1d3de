"""Read image archives: OCI layouts, and docker-archives as `docker save` writes them; both unpacked in a directory.

They come from strangers. Names of blobs are made from checked digests; names that a docker-archive gives its files are
resolved inside of the directory; what is read into memory is bounded; and of a layer, nothing counts before its digest
was checked. Which image is meant, if there are several, is asked rather than guessed.
Sources: OCI image-spec v1.1, image-layout.md; Docker image specification v1.2, "Combined Image JSON + Filesystem
Changeset Format".
"""

import json
import os
import re
import stat
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from chimage_core.errors import ChimageError, FileError, IntegrityError, LayerError, RegistryProtocol, file_errors
from chimage_core.fs.paths import resolve_in_root
from chimage_core.image import mediatype
from chimage_core.image.config import ImageConfig
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import Descriptor, Index, Manifest, parse_manifest
from chimage_core.image.oci import from_oci
from chimage_core.layer.inflate import ArchiveStream
from chimage_core.text import printable

_LARGEST_DOCUMENT = 16 << 20
"""Bytes of a manifest, index or configuration. The largest in the wild have some hundred KiB."""
_DEEPEST_INDEX = 3
_MOST_IMAGES = 10_000
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
"""Annotations in the index that say what an image is called, the fullest first."""


class LayerFile(NamedTuple):
    """A layer in a file, and what its content must be."""

    path: str
    diff_id: Digest
    digest: Digest | None = None
    size: int | None = None


class ArchivedImage(NamedTuple):
    """An image, ready to be unpacked."""

    config: ImageConfig
    layers: tuple[LayerFile, ...]
    """Lowest first."""
    digest: Digest | None
    """Of its manifest; None: it has none."""


class Listed(NamedTuple):
    """An image that is in an archive."""

    names: tuple[str, ...]
    """What it is called there; raw."""
    architecture: str | None
    """None: the index does not say."""
    key: Any
    """What `read` needs to find it."""


class OciLayout:
    """An OCI layout in a directory."""

    def __init__(self, directory: str) -> None:
        self._files = _Files(directory)

    def images(self) -> tuple[Listed, ...]:
        """Return which images there are. Raises LayerError, IntegrityError, FileError."""
        data = self._files.document("index.json")
        found: dict[Digest, Listed] = {}
        for listed in self._listed(data, mediatype.OCI_INDEX, (), 0):
            known = found.get(listed.key.digest)
            names = listed.names if known is None else tuple(dict.fromkeys((*known.names, *listed.names)))
            found[listed.key.digest] = listed._replace(names=names)
            if len(found) > _MOST_IMAGES:
                raise LayerError(f"archive has more than {_MOST_IMAGES} images")
        return tuple(found.values())

    def read(self, listed: Listed) -> ArchivedImage:
        """Return one of the images. Raises LayerError, IntegrityError, FileError."""
        descriptor: Descriptor = listed.key
        manifest = _parsed(self._blob(descriptor), descriptor.media_type)
        if not isinstance(manifest, Manifest):
            raise LayerError(f"manifest is of a kind that OCI layouts don’t have: {descriptor.digest}")
        for layer in manifest.layers:
            if mediatype.is_foreign(layer.media_type):
                raise LayerError(f"image has a layer that nobody may pass on, and so it is not here: {layer.digest}")
            if not mediatype.is_layer(layer.media_type):
                raise LayerError(f"not an image: it has a layer of type {printable(layer.media_type) or 'unknown'}")
        config, diff_ids = _configuration(self._blob(manifest.config), len(manifest.layers))
        layers = [
            LayerFile(self._files.path(_blob_name(layer.digest)), diff_id, layer.digest, layer.size)
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)
        ]
        return ArchivedImage(config, tuple(layers), descriptor.digest)

    def _listed(self, data: bytes, media_type: str, names: tuple[str, ...], depth: int) -> Iterator[Listed]:
        """Give the images of an index, and of indexes in it. What is described but not here is left out there: an
        image may be saved for one platform alone."""
        index = _parsed(data, media_type)
        if not isinstance(index, Index):
            raise LayerError("archive has an index that lists no images")
        if depth > _DEEPEST_INDEX:
            raise LayerError("archive has indexes in indexes in indexes")
        for descriptor, own in zip(index.manifests, _names(data), strict=True):
            called = own or names
            if not descriptor.is_image or (depth and not self._files.has(_blob_name(descriptor.digest))):
                continue
            if descriptor.media_type in mediatype.INDEXES:
                yield from self._listed(self._blob(descriptor), descriptor.media_type, called, depth + 1)
            else:
                yield Listed(called, descriptor.architecture, descriptor)

    def _blob(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > _LARGEST_DOCUMENT:
            raise LayerError(f"archive describes a document of {descriptor.size} bytes: {descriptor.digest}")
        data = self._files.document(_blob_name(descriptor.digest))
        if len(data) != descriptor.size:
            raise IntegrityError(f"{descriptor.digest}: expected {descriptor.size} bytes, got {len(data)}")
        _check(data, descriptor.digest)
        return data


class DockerArchive:
    """What `docker save` has written, unpacked in a directory."""

    def __init__(self, directory: str) -> None:
        self._files = _Files(directory)

    def images(self) -> tuple[Listed, ...]:
        """Return which images there are. Raises LayerError, FileError."""
        try:
            entries = json.loads(self._files.document("manifest.json"))
        except (ValueError, RecursionError):
            raise LayerError("archive has a manifest.json that is no JSON") from None
        if not isinstance(entries, list) or not all(map(_is_docker_entry, entries)) or len(entries) > _MOST_IMAGES:
            raise LayerError("archive has a manifest.json that does not list images as docker save does")
        return tuple(Listed(tuple(entry.get("RepoTags") or ()), None, entry) for entry in entries)

    def read(self, listed: Listed) -> ArchivedImage:
        """Return one of the images. Raises LayerError, IntegrityError, FileError."""
        name, layers = listed.key["Config"], listed.key["Layers"]
        data = self._files.document(name)
        match = re.search(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", name)
        if match:  # By convention, the configuration is called by its digest.
            _check(data, Digest("sha256", match.group()))
        config, diff_ids = _configuration(data, len(layers))
        files = [LayerFile(self._files.path(each), diff_id) for each, diff_id in zip(layers, diff_ids, strict=True)]
        return ArchivedImage(config, tuple(files), None)


def layer_streams(image: ArchivedImage) -> Generator[ArchiveStream, None, None]:
    """Give the layers, lowest first, each until the next one is asked for; reading checks them."""
    for layer in image.layers:
        with ArchiveStream(layer.path, digest=layer.digest, size=layer.size, diff_id=layer.diff_id) as stream:
            yield stream


class _Files:
    """The files of an archive, below a directory that nothing leads out of."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        try:
            self.path(name)
        except (LayerError, FileError):
            return False
        return True

    def path(self, name: str) -> str:
        """Return where a file is. Raises LayerError if it is not there, FileError."""
        try:
            is_possible = b"\0" not in os.fsencode(name)
        except UnicodeEncodeError:
            is_possible = False
        if not is_possible:
            raise LayerError(f"archive refers to a file that cannot be: {printable(name)}")
        path = resolve_in_root(self._directory, name)
        try:
            is_file = stat.S_ISREG(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_file = False
        if not is_file:
            raise LayerError(f"archive lacks a file that it refers to: {printable(name)}")
        return path

    def document(self, name: str) -> bytes:
        """Return the content of a small file. Raises LayerError, FileError."""
        path = self.path(name)
        with file_errors("read", path), open(path, "rb") as file:
            data = file.read(_LARGEST_DOCUMENT + 1)
        if len(data) > _LARGEST_DOCUMENT:
            raise LayerError(f"archive has a document of more than {_LARGEST_DOCUMENT} bytes: {printable(name)}")
        return data


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _check(data: bytes, digest: Digest) -> None:
    found = Digest.of(data, digest.algorithm)
    if found != digest:
        raise IntegrityError(f"content differs from its digest: expected {digest}, found {found}")


def _parsed(data: bytes, media_type: str) -> Any:
    try:
        return parse_manifest(data, media_type)
    except RegistryProtocol as error:
        raise LayerError(f"archive is damaged: {error.message}") from error


def _names(data: bytes) -> list[tuple[str, ...]]:
    """Return what each entry of an index is called. It has been parsed before."""
    found = []
    for entry in json.loads(data)["manifests"]:
        annotations = entry.get("annotations")
        values = [annotations.get(key) for key in _NAMES] if isinstance(annotations, dict) else []
        found.append(tuple(value for value in values if isinstance(value, str) and value))
    return found


def _configuration(data: bytes, layers: int) -> tuple[ImageConfig, Sequence[Digest]]:
    try:
        config, diff_ids = from_oci(data)
    except ValueError as error:
        raise LayerError(f"image configuration can’t be used: {printable(str(error))}") from None
    if len(diff_ids) != layers:
        raise LayerError(f"image has {layers} layers, but its configuration tells of {len(diff_ids)}")
    return config, diff_ids


def _is_docker_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        return False
    lists = (entry.get("RepoTags") or [], entry.get("Layers"))
    return all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in lists)


def unsuitable(problem: str, listed: Sequence[Listed]) -> ChimageError:
    """Return the error that tells which images there are to choose from."""
    lines = sorted(f"  {', '.join(each.names) or 'no name'} ({each.architecture or 'unknown'})" for each in listed)
    shown = [printable(line) for line in lines[:20]] + (["  …"] if len(lines) > 20 else [])
    return LayerError(
        "\n".join([problem, *shown]), hint="choose with --select=NAME, and between architectures with --arch"
    )
