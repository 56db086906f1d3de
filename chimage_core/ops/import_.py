"""`import`: copy an image from a directory or tarball into the storage directory."""

import os
from dataclasses import dataclass

from chimage_core.cache.protocol import Snapshot, StepRecord
from chimage_core.errors import LayerError, UsageError
from chimage_core.events import Notice, Warned
from chimage_core.events.images import ImageReady
from chimage_core.fs.copy import copy_tree
from chimage_core.fs.xattr import warn_left_out
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.layer.archive import unpack_tarball
from chimage_core.layer.report import tell
from chimage_core.ops.heads import note_origin
from chimage_core.rootfs import metadata, permissions, skeleton
from chimage_core.rootfs.changes import AnythingChanged
from chimage_core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What to import."""

    path: str
    """Directory or tarball."""
    reference: Reference
    with_xattrs: bool


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What came of it."""

    reference: Reference
    path: str
    """The unpacked image."""
    state: str
    """State ID, hexadecimal."""


def import_image(workspace: Workspace, request: ImportRequest) -> ImportResult:
    """Import an image, replacing one of that name.

    Metadata that comes with it (`/ch/metadata.json`) is kept. Raises FileError, LayerError, StorageError; an image of
    that name is then as it was.
    """
    emit, images, name = workspace.emit, workspace.images, request.reference.file_name
    emit(Notice(level="info", text=f"importing:    {request.path}"))
    emit(Notice(level="info", text=f"destination:  {request.reference}"))
    if not os.path.lexists(request.path):
        raise UsageError(f"import: not found: {request.path}")
    with workspace.locks.images(write=(name,)):
        images.discard_work(name)
        try:
            snapshot = _import(workspace, request, name)
        except BaseException:
            images.discard_work(name)
            raise
        workspace.cache.publish(name, snapshot)
        note_origin(workspace, str(request.reference.full), snapshot, os.path.abspath(request.path))
        path = images.publish(name).root
    emit(ImageReady(reference=str(request.reference), path=path))
    emit(Notice(level="info", text="done"))
    return ImportResult(request.reference, path, snapshot.state.hex)


def _import(workspace: Workspace, request: ImportRequest, name: str) -> Snapshot:
    place = workspace.images.workplace(name)
    if os.path.isdir(request.path):
        _copy(workspace, request, place.root)
    else:
        _unpack(workspace, request, place.root)
    skeleton.ensure(place.root)
    config = metadata.read(place.root, workspace.architecture)
    if config is None:
        workspace.emit(Warned(text="no metadata to load; using defaults"))
        config = ImageConfig(architecture=workspace.architecture)
    # The text names the reference, as in ch-image; the identity of the state is the content alone.
    record = StepRecord(
        parent=None, state=None, text=f"IMPORT {request.reference}", config=config, changes=AnythingChanged()
    )
    return workspace.cache.commit(place, record)


def _copy(workspace: Workspace, request: ImportRequest, root: str) -> None:
    """Copy a directory. It must not hold the storage directory, which would grow while it is copied."""
    source = os.path.realpath(request.path)
    if os.path.commonpath((source, os.path.realpath(workspace.layout.root))) == source:
        raise UsageError(f"import: the storage directory is inside the image directory: {request.path}")
    report = copy_tree(source, root, xattrs=request.with_xattrs, cancel=workspace.cancel)
    permissions.ensure_minimum(root, cancel=workspace.cancel)
    warn_left_out(report.refused_xattrs, workspace.emit)
    if report.sockets or report.devices:
        names = ", ".join(report.skipped)
        workspace.emit(Warned(text=f"sockets and devices left out: {report.sockets + report.devices} ({names})"))


def _unpack(workspace: Workspace, request: ImportRequest, root: str) -> None:
    os.mkdir(root)
    os.chmod(root, 0o755)
    try:
        report = unpack_tarball(request.path, root, xattrs=request.with_xattrs, cancel=workspace.cancel)
    except LayerError as error:
        if request.path not in error.message:  # Most come from where only a stream is known.
            error.message += f"\n  {request.path}"
        raise
    tell(report, workspace.emit)
