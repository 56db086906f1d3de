"""`export`: write an image of the storage directory in a form that other programs read."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.errors import DependencyMissing, UsageError
from chimage_core.events import Notice
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.layer.compress import Compression, compressor
from chimage_core.layer.pack import PackReport, tell
from chimage_core.ops.heads import unpacked
from chimage_core.ops.past_layers import past_layers
from chimage_core.rootfs import metadata
from chimage_core.transfer import export as transfer
from chimage_core.transfer.export import ExportOptions, SourceImage
from chimage_core.transfer.formats import LAYERED, Format, compression_of, format_of
from chimage_core.workspace import Workspace


class ExportRequest(NamedTuple):
    """What to export, and to where."""

    reference: Reference
    path: str
    format: Format | None
    """None: the path tells."""
    compression: Compression | None
    """Of the layer in an OCI layout; None: gzip."""
    options: ExportOptions
    has_history: bool = False
    """A layer for each state that the build cache has, with what changed; else all is in one layer."""


class ExportResult(NamedTuple):
    """What came of it."""

    reference: Reference
    path: str
    format: Format
    digest: str | None
    """Of the manifest in an OCI layout, of the configuration in a docker-archive."""
    size: int | None
    """Bytes of the file; None: it is a directory."""


def export_image(workspace: Workspace, request: ExportRequest) -> ExportResult:
    """Export an image. What is at the path stays as it is until all is done.

    Raises UsageError, ImageNotFound, FileError, LayerError, MetadataError, DependencyMissing, Cancelled.
    """
    form, emit, report = request.format or format_of(request.path), workspace.emit, PackReport()
    options = _options(request, form)
    transfer.require_free(request.path, form, replaces=options.replaces)
    if request.has_history and form not in LAYERED:
        raise UsageError(f"--layers=history is for formats that have layers, not for {form.value}")
    with _source(workspace, request) as image:
        emit(Notice(level="info", text=f"exporting:    {request.reference}"))
        emit(Notice(level="info", text=f"destination:  {request.path} ({form.value})"))
        written = transfer.export(image, request.path, form, options, report=report, cancel=workspace.cancel)
    tell(report, emit)
    digest = None if written.digest is None else str(written.digest)
    if digest is not None:
        emit(Notice(level="info", text=f"digest:       {digest}"))
    emit(Notice(level="info", text="done"))
    return ExportResult(request.reference, request.path, form, digest, written.size)


@contextlib.contextmanager
def _source(workspace: Workspace, request: ExportRequest) -> Iterator[SourceImage]:
    """Give the image, which stays as it is while in the block."""
    reference = request.reference
    if request.has_history:
        with workspace.locks.images(read=(reference.full.file_name,)):
            past = past_layers(workspace, reference, xattrs=request.options.xattrs)
            yield SourceImage("", past.config, reference, past.layers)
        return
    with unpacked(workspace, reference.full) as root:
        config = metadata.read(root, workspace.architecture) or ImageConfig(architecture=workspace.architecture)
        yield SourceImage(root, config, reference)


def _options(request: ExportRequest, form: Format) -> ExportOptions:
    """Raise for what cannot be done before anything is."""
    compression = request.compression
    if compression is not None and form not in (Format.OCI, Format.OCI_ARCHIVE):
        hint = "end PATH in .tar.gz or .tar.zst" if form is Format.TAR else None
        raise UsageError(f"--compress is for OCI layouts, not for format {form.value}", hint=hint)
    if form is Format.TAR:
        _require_compressor(compression_of(request.path))
    options = request.options._replace(compression=compression or "gzip")
    _require_compressor(options.compression)
    return options


def _require_compressor(compression: Compression) -> None:
    try:
        compressor(compression)
    except DependencyMissing as error:
        raise UsageError(error.message, hint=error.hint) from error
