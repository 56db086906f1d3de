"""Write an image in a form that other programs read: OCI layout, docker-archive, tar, squashfs, directory.

The same image gives the same bytes. What is written gets its name when it is whole and on the disk: on any error, a
full disk included, what was there before is still there, and nothing else. Layers and archives belong to root:root and
have no setuid bits, as when pushed; layers have not the files whose content is in the configuration.
Sources: OCI image-spec v1.1, image-layout.md; Docker image specification v1.2, "Combined Image JSON + Filesystem
Changeset Format"; mksquashfs(1).
"""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from chimage_core import proc
from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing, FileError, UsageError, file_errors
from chimage_core.fs.atomic import exchange, temporary_directory
from chimage_core.fs.copy import copy_tree
from chimage_core.fs.entry import Entry, EntryKind
from chimage_core.image import compose
from chimage_core.image.config import ImageConfig
from chimage_core.image.digest import Digest
from chimage_core.image.oci import to_oci
from chimage_core.image.reference import Reference
from chimage_core.layer.compress import Compression, PackedStream
from chimage_core.layer.pack import PackReport, pack, rootfs_entries, without_whiteouts
from chimage_core.transfer.formats import Format, compression_of

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation in the index of a layout: the tag, by convention."""
FULL_NAME = "io.containerd.image.name"
"""The whole reference, as containerd and Docker write it there."""

_Layers = list[tuple[str, PackedStream]]
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_COPY = 1 << 20


class ExportOptions(NamedTuple):
    """How to write an image."""

    xattrs: bool = True
    """Keep `user.*` attributes."""
    replaces: bool = False
    """What is at the path may go, if it is a file, or an image."""
    compression: Compression = "gzip"
    """Of the layer in an OCI layout."""
    epoch: int | None = None
    """`$SOURCE_DATE_EPOCH`: later times become this one, which is also that of creation; None: all times stay, and the
    creation is in 1970."""
    search_path: str | None = None
    """Where `mksquashfs` is looked for."""


class SourceImage(NamedTuple):
    """The image to write."""

    root: str
    config: ImageConfig
    reference: Reference
    """What it is called in archives that have names."""
    layers: tuple[Callable[[], Iterable[Entry]], ...] | None = None
    """What gives the entries of each layer, lowest first; None: there is one, of all that is in `root`."""


class Exported(NamedTuple):
    """What was written."""

    digest: Digest | None
    """Of the manifest in an OCI layout, or the configuration in a docker-archive; None: there is nothing like that."""
    size: int | None
    """Bytes of the file; None: it is a directory."""


def export(
    image: SourceImage,
    path: str,
    form: Format,
    options: ExportOptions,
    *,
    report: PackReport,
    cancel: CancelToken,
) -> Exported:
    """Write an image to `path`, which must be free, or replaceable. Nobody may change the image meanwhile.

    Raises UsageError if something is at the path, LayerError for a file that changes, FileError, DependencyMissing,
    Cancelled.
    """
    path = path.rstrip("/") or "/"
    require_free(path, form, replaces=options.replaces)
    writer = _Export(image, options, report, cancel)
    with file_errors("write", path), temporary_directory(os.path.dirname(path) or ".") as scratch:
        target = os.path.join(scratch, "image")
        with _full_disk_is_of(path):
            digest = writer.write(form, target, path)
        if not form.is_directory:
            _sync(target)
        size = None if form.is_directory else os.stat(target).st_size
        _put_in_place(target, path, scratch)
    return Exported(digest, size)


def require_free(path: str, form: Format, *, replaces: bool) -> None:
    """Raise UsageError if something is at the path that is not to be replaced by an image, FileError."""
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent):
        raise UsageError(f"export: no such directory: {parent}", hint="make it first")
    if not os.path.lexists(path):
        return
    is_directory = os.path.isdir(path) and not os.path.islink(path)
    with file_errors("read directory", path):
        if is_directory and form.is_directory and not os.listdir(path):
            return
    if not replaces:
        raise UsageError(f"export: already there: {path}", hint="choose another path, or replace it with --overwrite")
    if is_directory and not _looks_like_image(path):
        raise UsageError(
            f"export: --overwrite replaces files and images, but this is another directory: {path}",
            hint="remove it first, if that is what you want",
        )


def _looks_like_image(path: str) -> bool:
    return any(
        os.path.isfile(os.path.join(path, name)) for name in ("oci-layout", "ch/metadata.json", "ch/environment")
    )


@contextlib.contextmanager
def _full_disk_is_of(path: str) -> Iterator[None]:
    """Name what we write when the disk is full, and not the file that was copied just then."""
    try:
        yield
    except FileError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FileError("write", path, OSError(error.errno, os.strerror(error.errno))) from error
        raise


def _put_in_place(target: str, path: str, scratch: str) -> None:
    """Give what is finished its name, in one step; what had it goes away with the scratch directory."""
    if os.path.isdir(path) and not os.path.islink(path):
        exchange(target, path)
    elif os.path.isdir(target) and os.path.lexists(path):
        os.rename(path, os.path.join(scratch, "replaced"))
        os.rename(target, path)
    else:
        os.rename(target, path)


class _Export:
    """An image being written."""

    def __init__(self, image: SourceImage, options: ExportOptions, report: PackReport, cancel: CancelToken) -> None:
        self._image = image
        self._options = options
        self._report = report
        self._cancel = cancel

    def write(self, form: Format, target: str, path: str) -> Digest | None:
        """Write to `target`, which is not there; `path` is what it will be called."""
        if form is Format.DIRECTORY:
            self._write_directory(target)
        elif form is Format.SQUASHFS:
            self._write_squashfs(target)
        elif form is Format.TAR:
            self._pack_into(target, compression_of(path), is_layer=False)
        elif form is Format.OCI:
            return self._write_layout(target)
        elif form is Format.OCI_ARCHIVE:
            layout = f"{target}-layout"
            digest = self._write_layout(layout)
            self._archive(target, _layout_files(layout))
            return digest
        else:
            return self._write_docker_archive(target)
        return None

    def _write_directory(self, target: str) -> None:
        report = copy_tree(self._image.root, target, xattrs=self._options.xattrs, cancel=self._cancel)
        self._report.sockets += report.sockets
        self._report.devices += report.devices
        self._report.named.extend(report.skipped[:5])

    def _write_squashfs(self, target: str) -> None:
        program = proc.find_program("mksquashfs", self._options.search_path)
        if program is None:
            raise DependencyMissing("program not found: mksquashfs", hint="install squashfs-tools")
        argv = [program, self._image.root, target, "-noappend", "-all-root", "-no-progress"]
        argv += [] if self._options.xattrs else ["-no-xattrs"]
        environment = {"PATH": self._options.search_path or os.defpath, "LC_ALL": "C"}
        if self._options.epoch is not None:
            environment["SOURCE_DATE_EPOCH"] = str(self._options.epoch)
        else:
            argv += ["-mkfs-time", "0"]
        proc.run(argv, environment=environment, cancel=self._cancel)

    def _write_layout(self, directory: str) -> Digest:
        """Write an OCI layout; return the digest of the manifest."""
        blobs = os.path.join(directory, "blobs", "sha256")
        os.makedirs(blobs)
        compression = self._options.compression
        layers = self._pack_layers(blobs, compression)
        for path, packed in layers:
            os.rename(path, os.path.join(blobs, packed.digest.hex))
        kind = compose.layer_type(compression)
        config = self._oci_config(layers)
        described = [compose.Blob(kind, packed.digest, packed.size) for _, packed in layers]
        manifest = compose.manifest(compose.config_blob(config), described)
        for data in (config, manifest):
            _write_bytes(os.path.join(blobs, Digest.of(data).hex), data)
        blob = compose.manifest_blob(manifest)
        entry = compose.IndexEntry(blob, self._image.config.architecture, _annotations(self._image.reference))
        _write_bytes(os.path.join(directory, "index.json"), compose.index([entry]))
        _write_bytes(os.path.join(directory, "oci-layout"), _LAYOUT)
        return blob.digest

    def _write_docker_archive(self, target: str) -> Digest:
        """Write a docker-archive; return the digest of the configuration, which Docker calls the image's ID."""
        layers = self._pack_layers(os.path.dirname(target), "none")
        config = self._oci_config(layers)
        digest = Digest.of(config)
        name, files = f"{digest.hex}.json", {f"{packed.diff_id.hex}.tar": path for path, packed in layers}
        reference = self._image.reference
        tags = [] if reference.digest is not None else [str(reference.full)]
        names = [f"{packed.diff_id.hex}.tar" for _, packed in layers]
        manifest = json.dumps([{"Config": name, "RepoTags": tags or None, "Layers": names}]).encode()
        self._archive(target, [*files.items(), (name, config), ("manifest.json", manifest)])
        return digest

    def _oci_config(self, layers: _Layers) -> bytes:
        diff_ids = [packed.diff_id for _, packed in layers]
        return to_oci(self._image.config, diff_ids, created=self._options.epoch or 0)

    def _pack_layers(self, directory: str, compression: Compression) -> _Layers:
        """Write the layers into a directory; return their paths and what they are, lowest first."""
        if self._image.layers is None:
            path = os.path.join(directory, "layer")
            return [(path, self._pack_into(path, compression, is_layer=True))]
        paths = [os.path.join(directory, f"layer{number}") for number in range(len(self._image.layers))]
        return [
            (path, self._write_archive(path, compression, without_whiteouts(entries(), self._report)))
            for path, entries in zip(paths, self._image.layers, strict=True)
        ]

    def _pack_into(self, path: str, compression: Compression, *, is_layer: bool) -> PackedStream:
        entries = rootfs_entries(
            self._image.root, self._report, xattrs=self._options.xattrs, is_layer=is_layer, cancel=self._cancel
        )
        return self._write_archive(path, compression, entries)

    def _archive(self, path: str, files: Iterable[tuple[str, str | bytes | None]]) -> None:
        """Write a tar archive of files: names, and paths or contents; None: it is a directory."""
        self._write_archive(path, "none", _file_entries(files))

    def _write_archive(self, path: str, compression: Compression, entries: Iterable[Entry]) -> PackedStream:
        with open(path, "wb", buffering=0) as file:
            return pack(entries, _writer(file.fileno()), compression, latest=self._options.epoch, cancel=self._cancel)


def _writer(descriptor: int) -> Callable[[bytes], None]:
    """Return what writes all of its argument: a disk that fills up may take a part first."""

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


def _annotations(reference: Reference) -> dict[str, str]:
    return {REF_NAME: reference.full.tag or reference.version, FULL_NAME: str(reference.full)}


def _layout_files(directory: str) -> Iterator[tuple[str, str | None]]:
    """Give the files of a layout, small ones first: a reader of streams knows soon what it is.

    Directories are there, too (None): programs of the skopeo family make those that are missing as root.
    """
    for name in ("oci-layout", "index.json"):
        yield name, os.path.join(directory, name)
    yield from (("blobs", None), ("blobs/sha256", None))
    blobs = os.path.join(directory, "blobs", "sha256")
    found = [(os.path.getsize(os.path.join(blobs, name)), name) for name in os.listdir(blobs)]
    for _, name in sorted(found):
        yield f"blobs/sha256/{name}", os.path.join(blobs, name)


def _file_entries(files: Iterable[tuple[str, str | bytes | None]]) -> Iterator[Entry]:
    for name, source in files:
        if source is None:
            yield Entry(name.encode(), EntryKind.DIRECTORY, 0o755)
            continue
        if isinstance(source, bytes):
            yield Entry(name.encode(), EntryKind.FILE, 0o644, 0, len(source), content=source)
            continue
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            yield Entry(name.encode(), EntryKind.FILE, 0o644, 0, size, content=descriptor)
        finally:
            os.close(descriptor)


def _write_bytes(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _sync(path: str) -> None:
    """Wait until a file is on the disk: that it is full, some file systems say only now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
