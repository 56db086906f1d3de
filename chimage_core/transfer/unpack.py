"""Layers and a configuration, as registries and archives have them, become an image directory."""

from collections.abc import Iterator, Sequence

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, IntegrityError, LayerError
from chimage_core.events import Sink, Warned
from chimage_core.events.transfer import LayerUnpacking
from chimage_core.image.config import ImageConfig
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import Descriptor
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.inflate import ArchiveStream
from chimage_core.layer.report import tell
from chimage_core.rootfs import skeleton
from chimage_core.rootfs.directories import make_directories
from chimage_core.transfer.download import LayerDownloads


class DamagedBlob(Exception):
    """A layer that was downloaded before is not what it was."""

    def __init__(self, layer: Descriptor) -> None:
        super().__init__(str(layer.digest))
        self.layer = layer


class Unpacker:
    """Unpacks one image."""

    def __init__(self, downloads: LayerDownloads, *, xattrs: bool, emit: Sink, cancel: CancelToken) -> None:
        self._downloads = downloads
        self._xattrs = xattrs
        self._emit = emit
        self._cancel = cancel

    def unpack(self, layers: Sequence[Descriptor], diff_ids: Sequence[Digest] | None, root: str) -> None:
        """Unpack layers, lowest first, into the empty directory `root`. Each is begun as soon as it is here.

        `diff_ids`: digests of the plain layers; None: not known. On an error, what is in `root` is for the caller to
        remove. Raises DamagedBlob, LayerError, IntegrityError, RegistryError, FileError, Cancelled.
        """
        plain: Sequence[Digest | None] = [None] * len(layers) if diff_ids is None else diff_ids
        streams = _Streams(self._downloads, layers, plain, self._emit)
        try:
            report = unpack(streams, root, UnpackOptions(xattrs=self._xattrs), cancel=self._cancel)
        except (LayerError, IntegrityError) as error:
            raise streams.explained(error) from error
        finally:
            streams.close()
        tell(report, self._emit)


class _Streams:
    """The plain layers one after the other; each is closed when the next one is asked for."""

    def __init__(
        self, downloads: LayerDownloads, layers: Sequence[Descriptor], plain: Sequence[Digest | None], emit: Sink
    ) -> None:
        self._downloads = downloads
        self._layers = layers
        self._plain = plain
        self._emit = emit
        self._stream: ArchiveStream | None = None
        self._at: Descriptor | None = None
        self._is_checked = True

    def __iter__(self) -> Iterator[ArchiveStream]:
        for number, (layer, diff_id) in enumerate(zip(self._layers, self._plain, strict=True), start=1):
            here = self._downloads.wait(layer)
            self._emit(LayerUnpacking(layer=number, layers=len(self._layers), digest=str(layer.digest)))
            self._at, self._is_checked = layer, here.is_checked
            self._stream = ArchiveStream(here.path, digest=None if here.is_checked else layer.digest, diff_id=diff_id)
            yield self._stream
            self.close()

    def close(self) -> None:
        """Close the layer at hand."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def explained(self, error: LayerError | IntegrityError) -> Exception:
        """Return the error with the layer that it is about, or that this layer has to be downloaded again."""
        if self._at is None:
            return error
        if isinstance(error, IntegrityError) and not self._is_checked and str(self._at.digest) in error.message:
            return DamagedBlob(self._at)
        if str(self._at.digest) not in error.message:
            error.message += f"\n  layer {self._at.digest}"
        return error


def complete(root: str, config: ImageConfig, emit: Sink) -> None:
    """Make what every image has, and the directories that it says are volumes. Raises FileError."""
    skeleton.ensure(root)
    for volume in config.volumes:
        try:
            make_directories(root, volume)
        except (FileError, ValueError) as error:  # A file is in the way; nobody promised more than a mount point.
            emit(Warned(text=f"VOLUME: {error}"))
