"""`pull`: an image from a registry into the storage directory, or into a directory.

The state of a pulled image follows from the digest of its manifest, which names all of its content. So an image that
has not changed is a hit, whatever it is called, and nothing but its manifest is asked for.
"""

import os
from dataclasses import dataclass
from typing import NamedTuple

from chimage_core.cache.protocol import Snapshot, StepRecord
from chimage_core.cache.state import StateID
from chimage_core.errors import UsageError, file_errors
from chimage_core.events import Notice
from chimage_core.events.images import ImageReady
from chimage_core.fs.atomic import temporary_directory
from chimage_core.fs.remove import remove_tree
from chimage_core.image.architecture import HOST, host_architecture
from chimage_core.image.config import ImageConfig
from chimage_core.image.platform import is_for
from chimage_core.image.reference import Reference
from chimage_core.ops.heads import note_origin, unpack
from chimage_core.rootfs import metadata
from chimage_core.rootfs.changes import AnythingChanged
from chimage_core.rootfs.place import ImagePlace
from chimage_core.storage.blobs import Blobs
from chimage_core.transfer.download import LayerDownloads
from chimage_core.transfer.resolve import Resolved, Resolver
from chimage_core.transfer.unpack import DamagedBlob, Unpacker, complete
from chimage_core.workspace import Workspace

_UNPACKING = 1
"""Version of what we make of layers: a part of the identity of what comes of them."""


class Manner(NamedTuple):
    """How to pull."""

    arch: str
    """`host`, `yolo` or an architecture."""
    with_xattrs: bool
    always_download: bool = False
    last_layer: int | None = None
    """Unpack only so many layers; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull."""

    reference: Reference
    destination: Reference | None = None
    """What to call it here; None: the same."""
    manner: Manner


class PullResult(NamedTuple):
    """What came of it."""

    reference: Reference
    path: str
    """The unpacked image."""
    architecture: str
    digest: str
    """Of the manifest."""
    state: str | None
    """State ID, hexadecimal; None: it is not in the storage directory."""
    is_new: bool
    """It was unpacked from layers, since the build cache did not have it."""


def pull(workspace: Workspace, request: PullRequest) -> PullResult:
    """Pull an image, replacing one of that name.

    Raises RegistryError, IntegrityError, LayerError, StorageError, FileError; an image of that name is then as it was.
    """
    reference, manner = request.destination or request.reference, request.manner
    announce(workspace, request.reference, None if request.destination is None else str(reference), manner.arch)
    resolved = resolve(workspace, request.reference, manner)
    with workspace.locks.images(write=(reference.file_name,)):
        snapshot, is_new = store(workspace, request.reference, reference, resolved, manner)
        unpack(workspace, reference.file_name, snapshot)
    path = workspace.images.published(reference.file_name).root
    _tell_architecture(workspace, resolved.architecture)
    workspace.emit(ImageReady(reference=str(reference), path=path))
    workspace.emit(Notice(level="info", text="done"))
    return PullResult(reference, path, resolved.architecture, str(resolved.digest), snapshot.state.hex, is_new)


def pull_directory(workspace: Workspace, reference: Reference, path: str, manner: Manner) -> PullResult:
    """Pull an image into a directory that does not exist or is empty; the storage directory keeps its layers only.

    Raises as `pull` does, and UsageError; what was at `path` is then as it was.
    """
    target = os.path.abspath(path)
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise UsageError(f"pull: exists, and is no empty directory: {path}", hint="name a directory that is to be made")
    announce(workspace, reference, path, manner.arch)
    resolved = resolve(workspace, reference, manner)
    parent = os.path.dirname(target)
    with file_errors("make image directory", path), temporary_directory(parent) as temporary:
        root = os.path.join(temporary, "root")
        config = _make(workspace, resolved, manner, root)
        metadata.write(root, config)
        os.rename(root, target)
    _tell_architecture(workspace, resolved.architecture)
    workspace.emit(Notice(level="info", text="done"))
    return PullResult(reference, target, resolved.architecture, str(resolved.digest), None, True)


def resolve(workspace: Workspace, reference: Reference, manner: Manner) -> Resolved:
    """Ask registries for an image. Needs no lock. Raises RegistryError, IntegrityError, UsageError, Cancelled."""
    resolver = Resolver(Blobs(workspace.layout.blobs), always=manner.always_download, emit=workspace.emit)
    return resolver.resolve(workspace.registries.clients(reference), reference, manner.arch)


def store(
    workspace: Workspace, source: Reference, reference: Reference, resolved: Resolved, manner: Manner
) -> tuple[Snapshot, bool]:
    """Make an image that was resolved what `reference` names; return its snapshot, and whether it is a new one.

    If it is not, it need not have a directory. The caller holds the lock of the name. Raises as `pull` does.
    """
    cache, images, name = workspace.cache, workspace.images, reference.file_name
    images.discard_work(name)
    snapshot = None if manner.always_download else cache.find(state_of(resolved, manner))
    is_new = snapshot is None
    try:
        if snapshot is None:
            snapshot = commit(workspace, source, resolved, manner, images.workplace(name))
        else:
            workspace.emit(Notice(level="info", text="image is unchanged: using the build cache"))
        cache.publish(name, snapshot)
        note_origin(workspace, str(reference.full), snapshot, f"{source.canonical()}@{resolved.digest}")
        if is_new:
            images.publish(name)
    except BaseException:
        images.discard_work(name)
        raise
    return snapshot, is_new


def commit(workspace: Workspace, source: Reference, resolved: Resolved, manner: Manner, place: ImagePlace) -> Snapshot:
    """Download and unpack an image at a place, and have the build cache remember it. Raises as `pull` does."""
    config = _make(workspace, resolved, manner, place.root)
    record = StepRecord(
        parent=None,
        state=state_of(resolved, manner),
        text=f"PULL {source}",
        config=config,
        changes=AnythingChanged(),
    )
    return workspace.cache.commit(place, record)


def state_of(resolved: Resolved, manner: Manner) -> StateID:
    """Return the identity of what an image becomes."""
    parts = [f"pull {_UNPACKING}", str(resolved.digest)]
    if manner.last_layer is not None and manner.last_layer < len(resolved.layers):
        parts.append(f"layers {manner.last_layer}")
    if not manner.with_xattrs:
        parts.append("no xattrs")
    return StateID.root("\0".join(parts).encode())


def _make(workspace: Workspace, resolved: Resolved, manner: Manner, root: str) -> ImageConfig:
    """Make the files of an image in `root`, which does not exist; return its configuration."""
    emit, cancel = workspace.emit, workspace.cancel
    layers = resolved.layers[: manner.last_layer]
    diff_ids = None if resolved.config is None else resolved.config.diff_ids[: len(layers)]
    config = ImageConfig(architecture=resolved.architecture) if resolved.config is None else resolved.config.config
    blobs = Blobs(workspace.layout.blobs)
    with LayerDownloads(resolved.clients, blobs, always=manner.always_download, emit=emit, cancel=cancel) as downloads:
        downloads.start(layers)
        emit(Notice(level="info", text="flattening image"))
        emit(Notice(level="info", text="validating tarball members"))
        emit(Notice(level="info", text="resolving whiteouts"))
        unpacker = Unpacker(downloads, xattrs=manner.with_xattrs, emit=emit, cancel=cancel)
        while True:
            with file_errors("make image directory", root):
                os.mkdir(root)
                os.chmod(root, 0o755)
            try:
                unpacker.unpack(layers, diff_ids, root)
                break
            except DamagedBlob as damaged:
                emit(Notice(level="info", text=f"damaged since it was downloaded: {damaged.layer.digest}"))
                remove_tree(root)
                downloads.again(damaged.layer)
    complete(root, config, emit)
    return config


def announce(workspace: Workspace, reference: Reference, destination: str | None, arch: str) -> None:
    """Say what is going to be pulled."""
    rows = [("pulling image:", str(reference))]
    if destination is not None:
        rows.append(("destination:", destination))
    rows.append(("requesting arch:", host_architecture(os.uname().machine) if arch == HOST else arch))
    for label, value in rows:
        workspace.emit(Notice(level="info", text=f"{label:<17} {value}"))


def _tell_architecture(workspace: Workspace, architecture: str) -> None:
    host = host_architecture(os.uname().machine)
    doubt = "" if is_for(architecture, host) else f" (may not match host {host})"
    workspace.emit(Notice(level="info", text=f"image arch: {architecture}{doubt}"))
