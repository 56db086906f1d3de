"""`import`: copy an image into the storage directory: files as such or in an archive, or an archive of layers."""

import contextlib
import os
from dataclasses import dataclass

from chimage_core.cache.protocol import Snapshot, StepRecord
from chimage_core.errors import ChimageError, IntegrityError, LayerError, UsageError, file_errors
from chimage_core.events import Notice, Warned
from chimage_core.events.images import ImageReady
from chimage_core.fs.copy import copy_tree
from chimage_core.fs.xattr import warn_left_out
from chimage_core.image.architecture import YOLO
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.layer.archive import image_archive, unpack_tarball
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.report import tell
from chimage_core.ops.heads import note_origin
from chimage_core.rootfs import metadata, permissions, skeleton
from chimage_core.rootfs.changes import AnythingChanged
from chimage_core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What to import."""

    path: str
    """Directory or archive: of files, or of layers."""
    reference: Reference
    with_xattrs: bool
    name: str | None = None
    """What the image is called in an archive of several; None: as `reference`, or it is the only one."""
    architecture: str | None = None
    """The one that is asked for; `yolo`: any; None: of several the host's."""


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

    Metadata that comes with it (`/ch/metadata.json`) is kept; archives of layers have a configuration instead. Raises
    FileError, LayerError, IntegrityError, StorageError; an image of that name is then as it was.
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
    with workspace.images.aside(name) as aside:
        config = _fill(workspace, request, place.root, aside.root)
    skeleton.ensure(place.root)
    if config is None:
        config = metadata.read(place.root, workspace.architecture)
    if config is None:
        workspace.emit(Warned(text="no metadata to load; using defaults"))
        config = ImageConfig(architecture=workspace.architecture)
    # The text names the reference, as in ch-image; the identity of the state is the content alone.
    record = StepRecord(
        parent=None, state=None, text=f"IMPORT {request.reference}", config=config, changes=AnythingChanged()
    )
    return workspace.cache.commit(place, record)


def _fill(workspace: Workspace, request: ImportRequest, root: str, aside: str) -> ImageConfig | None:
    """Make the root of the image; return its configuration, if it is not in it.

    `aside`: where an archive of layers may be meanwhile.
    """
    if os.path.isdir(request.path):
        with file_errors("read directory", request.path):
            kind = image_archive(request.path)
        if kind is None:
            _copy(workspace, request, root)
            return None
        aside = request.path
    else:
        _unpack(workspace, request, root)
        kind = image_archive(root)
        if kind is None:
            return None
        os.rename(root, aside)
    try:
        return _unpack_layers(workspace, request, (aside, kind), root)
    except (LayerError, IntegrityError) as error:
        raise _naming(error, request.path) from None


def _unpack_layers(workspace: Workspace, request: ImportRequest, archived: tuple[str, str], root: str) -> ImageConfig:
    """Unpack an image of an archive of layers: the directory that it is in, and its kind."""
    from chimage_core.transfer.layouts import DockerArchive, OciLayout, layer_streams
    from chimage_core.transfer.selecting import select
    from chimage_core.transfer.unpack import complete

    directory, kind = archived
    archive = DockerArchive(directory) if kind == "docker" else OciLayout(directory)
    listed = select(
        archive.images(),
        name=request.name,
        reference=request.reference,
        architecture=request.architecture or workspace.architecture,
        is_required=request.architecture not in (None, YOLO),
    )
    workspace.emit(Notice(level="verbose", text=f"image in archive: {', '.join(listed.names) or 'without a name'}"))
    image = archive.read(listed)
    os.mkdir(root)
    os.chmod(root, 0o755)
    with contextlib.closing(layer_streams(image)) as layers:
        report = unpack(layers, root, UnpackOptions(xattrs=request.with_xattrs), cancel=workspace.cancel)
    tell(report, workspace.emit)
    complete(root, image.config, workspace.emit)
    return image.config


def _naming(error: ChimageError, path: str) -> ChimageError:
    """Add the archive to an error: most come from where only a stream is known."""
    if path not in error.message:
        error.message += f"\n  {path}"
    return error


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
        raise _naming(error, request.path) from None
    tell(report, workspace.emit)
