"""`push`: copy images of the storage directory, or an unpacked one, to a registry. Source: ch-image(1), "push"."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chimage_core.errors import DependencyMissing, UsageError, file_errors
from chimage_core.events import Notice
from chimage_core.fs.atomic import write_file
from chimage_core.image import compose
from chimage_core.image.compose import IndexEntry
from chimage_core.image.config import ImageConfig
from chimage_core.image.oci import to_oci
from chimage_core.image.reference import Reference
from chimage_core.layer.compress import Compression, compressor_name
from chimage_core.ops.push_source import Packing, Source, from_directory, from_history, from_storage
from chimage_core.registry.uploads import Uploads
from chimage_core.storage.packed import PackedLayer, PackedLayers
from chimage_core.transfer.upload import Composed, Push, PushedImage, PushedLayer
from chimage_core.workspace import Workspace


class PushRequest(NamedTuple):
    """What to push, and to where."""

    images: tuple[Reference, ...]
    """One, or all those of an index. Nothing is pushed under these names."""
    destination: Reference
    compression: Compression = "gzip"
    directory: str | None = None
    """The unpacked image to push; None: that of the storage directory."""
    is_index: bool = False
    has_history: bool = False
    """One layer for each state that has changed files; else one in all."""
    with_xattrs: bool = True
    epoch: int | None = None
    """`$SOURCE_DATE_EPOCH`: later times become this one, which is also that of creation; None: all times stay."""
    digest_file: str | None = None
    """Gets the digest."""


class PushResult(NamedTuple):
    """What came of it."""

    destination: Reference
    digest: str
    """Of the manifest, or of the index."""
    media_type: str
    images: tuple["PushedOne", ...]


class PushedOne(NamedTuple):
    """An image that was pushed."""

    reference: Reference
    architecture: str
    digest: str
    layers: tuple[PushedLayer, ...]


def push_image(workspace: Workspace, request: PushRequest) -> PushResult:
    """Push an image, or several and an index of them.

    Raises UsageError, ImageNotFound, RegistryError, LayerError, FileError, CacheError, MetadataError, Cancelled; under
    the name of the destination is then what was there before.
    """
    _refuse(request)
    _announce(workspace, request)
    names = {image.file_name for image in request.images} if request.directory is None else set()
    with workspace.locks.images(read=names):
        sources = [_source(workspace, image, request) for image in request.images]
        _refuse_same_architecture(request, sources)
        with _opened(workspace, request) as push:
            result = _pushed(push, request, sources)
            workspace.emit(Notice(level="info", text="cleaning up"))
    workspace.emit(Notice(level="info", text=f"digest:          {result.digest}"))
    if request.digest_file is not None:
        with file_errors("write digest", request.digest_file):
            write_file(request.digest_file, result.digest.encode("ascii"))
    workspace.emit(Notice(level="info", text="done"))
    return result


def _refuse(request: PushRequest) -> None:
    """Raise for what cannot be done before anything is."""
    if request.destination.digest is not None:
        raise UsageError(
            f"push: the registry computes the digest: {request.destination}", hint="name a tag, or nothing"
        )
    if request.directory is not None and (request.is_index or request.has_history):
        raise UsageError("push: --image is one image of one layer: neither --index nor --layers=history go with it")
    try:
        compressor_name(request.compression)
    except DependencyMissing as error:
        raise UsageError(error.message, hint=error.hint) from error
    if request.digest_file is not None and not os.path.isdir(os.path.dirname(request.digest_file) or "."):
        raise UsageError(f"push: --digest-file: no such directory: {os.path.dirname(request.digest_file)}")


def _announce(workspace: Workspace, request: PushRequest) -> None:
    """Say what is going to be done, as the manual has it."""
    lines = [f"pushing image:   {image}" for image in request.images]
    if request.images != (request.destination,):
        lines.append(f"destination:     {request.destination}")
    if request.directory is not None:
        lines.append(f"image path:      {request.directory}")
    for line in lines:
        workspace.emit(Notice(level="info", text=line))


def _source(workspace: Workspace, image: Reference, request: PushRequest) -> Source:
    packing = Packing(request.compression, request.with_xattrs, request.epoch)
    if request.directory is not None:
        return from_directory(workspace, request.directory, packing)
    return (from_history if request.has_history else from_storage)(workspace, image, packing)


def _refuse_same_architecture(request: PushRequest, sources: Sequence[Source]) -> None:
    seen: dict[str, Reference] = {}
    for image, source in zip(request.images, sources, strict=True):
        other = seen.setdefault(source.config.architecture, image)
        if other is not image:
            raise UsageError(
                f"push: --index: two images for the same architecture, {source.config.architecture}: {other}, {image}"
            )


@contextlib.contextmanager
def _opened(workspace: Workspace, request: PushRequest) -> Iterator[Push]:
    client = workspace.registries.origin(request.destination)
    memory = PackedLayers(workspace.layout.uploads)
    with Push(client, Uploads(client), memory, emit=workspace.emit, cancel=workspace.cancel) as push:
        yield push


def _pushed(push: Push, request: PushRequest, sources: Sequence[Source]) -> PushResult:
    is_docker, tag = request.compression != "zstd", request.destination.full.tag
    done: list[tuple[Source, PushedImage]] = []
    for source in sources:
        config = source.config
        made = push.image(
            source.layers,
            lambda layers, config=config: _composed(config, layers, request),  # type: ignore[misc]
            None if request.is_index else tag,
        )
        done.append((source, made))
    images = tuple(
        PushedOne(image, source.config.architecture, str(made.manifest.digest), made.layers)
        for image, (source, made) in zip(request.images, done, strict=True)
    )
    blob = done[0][1].manifest
    if request.is_index:
        entries = [IndexEntry(made.manifest, source.config.architecture) for source, made in done]
        data = compose.index(entries, is_docker=is_docker)
        blob = compose.index_blob(data, is_docker=is_docker)
        push.manifest(data, blob, tag)
    return PushResult(request.destination, str(blob.digest), blob.media_type, images)


def _composed(config: ImageConfig, layers: Sequence[PackedLayer], request: PushRequest) -> Composed:
    """Return configuration and manifest. Docker's form has no zstd."""
    is_docker = request.compression != "zstd"
    layer_type = compose.layer_type(request.compression, is_docker=is_docker)
    blobs = [compose.Blob(layer_type, layer.digest, layer.size) for layer in layers]
    data = to_oci(config, [layer.diff_id for layer in layers], created=request.epoch or 0)
    blob = compose.config_blob(data, is_docker=is_docker)
    manifest = compose.manifest(blob, blobs, is_docker=is_docker)
    return Composed(data, blob, manifest, compose.manifest_blob(manifest, is_docker=is_docker))
