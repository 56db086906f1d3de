"""Images to a registry: layers, configuration, manifest.

As little as possible is packed and sent. What came of packing the same before is known without doing it again, so the
registry can be asked first; what it has in another repository is mounted. Whether we may push at all is found out
before anything is packed. The manifest comes last: a push that was interrupted has changed nothing that anybody sees.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from chimage_core.cancel import CancelToken
from chimage_core.errors import ImageUnavailable
from chimage_core.events import Notice, Sink
from chimage_core.events.transfer import TransferProgressed
from chimage_core.image.compose import Blob
from chimage_core.image.digest import Digest
from chimage_core.layer.compress import PackedStream
from chimage_core.registry.client import RegistryClient
from chimage_core.registry.uploads import Content, Upload, Uploads
from chimage_core.storage.packed import PackedLayer, PackedLayers, at_place

_TICK = 0.1
"""Seconds between reports."""

How = Literal["uploaded", "mounted", "present"]


class LayerPlan(NamedTuple):
    """A layer of the image, which may have to be packed."""

    key: str | None
    """What it is known by; None: nobody knows what is in it before it is packed."""
    pack: Callable[[str], PackedStream]
    """Packs it into a new file."""
    is_as_known: Callable[[], bool] = lambda: True
    """Tells whether what was packed is what the key says."""


class Composed(NamedTuple):
    """An image, when its layers are known."""

    config: bytes
    config_blob: Blob
    manifest: bytes
    manifest_blob: Blob


class PushedLayer(NamedTuple):
    """What came of a layer."""

    layer: PackedLayer
    how: How


class PushedImage(NamedTuple):
    """What came of an image."""

    manifest: Blob
    layers: tuple[PushedLayer, ...]


class Push:
    """Pushes images to one repository. A context manager, at whose end files that were packed go."""

    def __init__(
        self, client: RegistryClient, uploads: Uploads, memory: PackedLayers, *, emit: Sink, cancel: CancelToken
    ) -> None:
        self._client = client
        self._uploads = uploads
        self._memory = memory
        self._emit = emit
        self._cancel = cancel
        self._begun: list[Upload] = []
        """Uploads that wait to be used."""
        self._files = contextlib.ExitStack()

    def __enter__(self) -> "Push":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()
        for upload in self._begun:
            self._uploads.give_up(upload)

    def image(
        self, plans: Sequence[LayerPlan], compose: Callable[[Sequence[PackedLayer]], Composed], tag: str | None
    ) -> PushedImage:
        """Push an image, to its digest alone if there is no `tag`. `compose` makes it of its layers, lowest first.

        Raises RegistryError, LayerError, IntegrityError, FileError, Cancelled.
        """
        layers = [_Layer(plan, f"layer {number}/{len(plans)}") for number, plan in enumerate(plans, start=1)]
        for layer in layers:
            self._look_up(layer)
        if any(layer.how is None for layer in layers):
            self._require_permission()
        for layer in layers:
            if layer.how is None:
                self._pack(layer)
        self._say("preparing metadata")
        composed = compose([layer.known for layer in layers])
        self._say("starting upload")
        self._upload(layers)
        self._push_config(composed)
        self.manifest(composed.manifest, composed.manifest_blob, tag)
        return PushedImage(composed.manifest_blob, tuple(layer.pushed for layer in layers))

    def manifest(self, data: bytes, blob: Blob, tag: str | None) -> None:
        """Push a manifest or index, unless it is there."""
        version: str | Digest = blob.digest if tag is None else tag
        known = None
        with contextlib.suppress(ImageUnavailable):
            known = self._client.known(version)
        if known is not None and known.digest == blob.digest:
            self._say("manifest: already present")
            return
        self._say("manifest: uploading")
        self._uploads.put_manifest(version, data, blob.media_type)

    def _look_up(self, layer: "_Layer") -> None:
        """Find out whether the registry has what is known already."""
        key = layer.plan.key
        packed = None if key is None else self._memory.get(key)
        if packed is None:
            return
        layer.packed = packed
        layer.was_asked_for = packed.digest
        if self._is_present(layer.label, packed.digest):
            layer.how = "present"
        elif self._is_mounted(layer.label, packed):
            layer.how = "mounted"
        else:
            self._say(f"{layer.label}: {packed.digest.short}: not present, packing again")
        self._remember(layer)

    def _is_present(self, label: str, digest: Digest) -> bool:
        self._say(f"{label}: {digest.short}: checking if already in repository")
        try:
            is_present = self._client.has_blob(digest)
        except ImageUnavailable:  # Some registries say so of repositories that are not there yet.
            is_present = False
        if is_present:
            self._say(f"{label}: {digest.short}: already present")
        return is_present

    def _is_mounted(self, label: str, packed: PackedLayer) -> bool:
        """Try to have a blob mounted from where it is known to be; uploads that come of it are kept."""
        registry, _, own = self._client.name.partition("/")
        for place in packed.places:
            host, _, repository = place.partition("/")
            if host != registry or repository == own:
                continue
            upload = self._uploads.mount(packed.digest, repository)
            if upload is None:
                self._say(f"{label}: {packed.digest.short}: mounted from {repository}")
                return True
            self._begun.append(upload)
            return False
        return False

    def _require_permission(self) -> None:
        """Raise RegistryRefused if we may not push."""
        if not self._begun:
            self._begun.append(self._uploads.begin())

    def _pack(self, layer: "_Layer") -> None:
        self._say(f"{layer.label}: gathering")
        layer.path = self._files.enter_context(self._memory.scratch())
        stream = layer.plan.pack(layer.path)
        self._say(f"{layer.label}: preparing")
        before = layer.packed.places if layer.packed and layer.packed.digest == stream.digest else ()
        layer.packed = PackedLayer(stream.digest, stream.size, stream.diff_id, before)
        if not layer.plan.is_as_known():
            layer.plan = layer.plan._replace(key=None)

    def _upload(self, layers: "Sequence[_Layer]") -> None:
        missing = []
        for layer in layers:
            if layer.how is None:
                digest = layer.known.digest
                if layer.was_asked_for != digest and self._is_present(layer.label, digest):
                    layer.how = "present"
                    self._remember(layer)
                else:
                    missing.append(layer)
        progress = _Progress(sum(layer.known.size for layer in missing), self._emit)
        for layer in missing:
            self._send(layer, progress)
        progress.end()

    def _send(self, layer: "_Layer", progress: "_Progress") -> None:
        packed = layer.known
        assert layer.path is not None, "a layer that is to be sent was packed"
        self._say(f"{layer.label}: {packed.digest.short}: not present, uploading")
        upload = self._begun.pop() if self._begun else self._uploads.begin()
        self._uploads.send(upload, Content(layer.path, packed.digest, packed.size, progress.moved, self._cancel))
        progress.finished(packed.size)
        layer.how = "uploaded"
        self._remember(layer)

    def _push_config(self, composed: Composed) -> None:
        digest = composed.config_blob.digest
        if not self._is_present("config", digest):
            self._say(f"config: {digest.short}: not present, uploading")
            upload = self._begun.pop() if self._begun else self._uploads.begin()
            self._uploads.send_bytes(upload, digest, composed.config)

    def _remember(self, layer: "_Layer") -> None:
        if layer.plan.key is None or layer.how is None:
            return
        now = at_place(layer.known, self._client.name)
        if now != layer.packed or layer.path is not None:
            layer.packed = now
            self._memory.put(layer.plan.key, now)

    def _say(self, text: str) -> None:
        self._emit(Notice(level="info", text=text))


class _Layer:
    """A layer on its way."""

    def __init__(self, plan: LayerPlan, label: str) -> None:
        self.plan = plan
        self.label = label
        self.packed: PackedLayer | None = None
        self.path: str | None = None
        """Where it was packed."""
        self.how: How | None = None
        """None: not yet in the repository, as far as we know."""
        self.was_asked_for: Digest | None = None

    @property
    def known(self) -> PackedLayer:
        """The layer, which is known by now."""
        assert self.packed is not None
        return self.packed

    @property
    def pushed(self) -> PushedLayer:
        """What came of it."""
        assert self.how is not None
        return PushedLayer(self.known, self.how)


class _Progress:
    """Reports how far all uploads together have come."""

    def __init__(self, total: int, emit: Sink) -> None:
        self._total = total
        self._emit = emit
        self._began = self._told = time.monotonic()
        self._finished = self._done = 0

    def moved(self, done: int) -> None:
        """Take note of how far the current upload has come."""
        self._done = self._finished + done
        if time.monotonic() - self._told >= _TICK:
            self._tell()

    def finished(self, size: int) -> None:
        """Take note of the end of an upload."""
        self._finished += size
        self._done = self._finished

    def end(self) -> None:
        """Report the end of all."""
        if self._total:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._emit(TransferProgressed(done=self._done, total=self._total, seconds=self._told - self._began))
