"""Layers from registries: several at a time, resumed where connections break, checked while they are written.

Each byte passes once: it is hashed on its way to the disk, and the unpacking reads what is then still in memory. A
layer that was on its way when a command ended is gone on with.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chimage_core.cancel import CancelToken
from chimage_core.errors import (
    IntegrityError,
    RegistryError,
    RegistryUnreachable,
    file_errors,
)
from chimage_core.events import Notice, Sink
from chimage_core.events.transfer import LayerRequested, TransferProgressed
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import Descriptor
from chimage_core.registry.client import RegistryClient
from chimage_core.registry.transport import Broken
from chimage_core.storage.blobs import Blobs, PartialBlob

_AT_A_TIME = 4
_CHUNK = 256 << 10
"""Bytes; fewer cost calls, more gain nothing (measured)."""
_BREAKS = 5
"""Times in a row that a connection may break without having brought much."""
_PROGRESS = 64 << 10
"""Bytes that are much."""
_TICK = 0.1
"""Seconds between reports."""


class Layer(NamedTuple):
    """A layer that is here."""

    path: str
    is_checked: bool
    """Its content was checked in this process, while it came."""


class LayerDownloads:
    """The layers of one image on their way. A context manager; leaving it stops what is still on its way."""

    def __init__(
        self, clients: Sequence[RegistryClient], blobs: Blobs, *, always: bool, emit: Sink, cancel: CancelToken
    ) -> None:
        """With `always`, layers that are here are downloaded all the same."""
        self._clients = clients
        self._blobs = blobs
        self._always = always
        self._emit = emit
        self._stopped = contextlib.ExitStack()
        self._cancel = self._stopped.enter_context(cancel.part())
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._futures: dict[Digest, concurrent.futures.Future[Layer]] = {}
        self._meter: _Meter | None = None

    def start(self, layers: Sequence[Descriptor]) -> None:
        """Begin to download what is missing, the lowest first: it is unpacked first."""
        missing: dict[Digest, Descriptor] = {}
        for number, layer in enumerate(layers, start=1):
            path = None if self._always else self._blobs.find(layer.digest, _size(layer))
            self._emit(
                LayerRequested(
                    layer=number,
                    layers=len(layers),
                    digest=str(layer.digest),
                    size=_size(layer),
                    is_here=path is not None,
                )
            )
            if path is None:
                missing[layer.digest] = layer
            else:
                self._futures[layer.digest] = _finished(Layer(path, is_checked=False))
        if missing:
            sizes = [layer.size for layer in missing.values()]
            self._meter = _Meter(self._emit, None if min(sizes) < 0 else sum(sizes))
            self._pool = concurrent.futures.ThreadPoolExecutor(_AT_A_TIME, "download")
            for digest, layer in missing.items():
                self._futures[digest] = self._pool.submit(self._download, layer)

    def wait(self, layer: Descriptor) -> Layer:
        """Return a layer when it is here. If another one fails meanwhile, that is raised at once.

        Raises RegistryError, IntegrityError, StorageError, FileError, Cancelled.
        """
        wanted = self._futures[layer.digest]
        pending = set(self._futures.values())
        while not wanted.done():
            done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for each in done:
                each.result()
        result = wanted.result()
        if self._meter is not None and all(future.done() for future in self._futures.values()):
            self._meter.finish()
        return result

    def again(self, layer: Descriptor) -> None:
        """Download a layer once more: what was here is damaged. Raises as `wait` does."""
        self._blobs.discard(layer.digest)
        self._futures[layer.digest] = _finished(self._download(layer))

    def __enter__(self) -> "LayerDownloads":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._cancel.cancel()
            for future in self._futures.values():
                future.cancel()
            if any(not future.done() for future in self._futures.values()):
                self._clients[0].interrupt()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._stopped.close()

    def _download(self, layer: Descriptor) -> Layer:
        """Download a layer from the first who has it."""
        for client in self._clients:
            try:
                return self._from(client, layer)
            except RegistryError as error:
                self._cancel.check()
                if client is self._clients[-1]:
                    raise
                self._emit(Notice(level="verbose", text=f"not from {client.name}: {error.message}"))
        raise AssertionError("an image comes from somewhere")

    def _from(self, client: RegistryClient, layer: Descriptor) -> Layer:
        path = self._blobs.path(layer.digest)
        with self._blobs.partial(layer.digest, self._cancel) as partial:
            if not self._always and self._blobs.find(layer.digest, _size(layer)):  # By whom we waited for.
                return Layer(path, is_checked=False)
            with file_errors("write downloaded layer", path):
                _Download(client, layer, partial, self._count, self._cancel).run()
            partial.finish()
        return Layer(path, is_checked=True)

    def _count(self, size: int) -> None:
        if self._meter is not None:
            self._meter.add(size)


class _Download:
    """One layer."""

    def __init__(
        self,
        client: RegistryClient,
        layer: Descriptor,
        partial: PartialBlob,
        count: Callable[[int], None],
        cancel: CancelToken,
    ) -> None:
        self._client = client
        self._layer = layer
        self._partial = partial
        self._count = count
        self._cancel = cancel
        self._hash: Any = hashlib.new(layer.digest.algorithm)
        self._done = 0
        """Bytes written and hashed."""

    def run(self) -> None:
        """Write the layer. On an error, what was right so far stays for the next attempt.

        Raises RegistryError, IntegrityError, StorageError, OSError, Cancelled.
        """
        size = self._layer.size
        self._resume()
        self._partial.require_room(size)
        breaks = 0
        while size < 0 or self._done < size:
            self._cancel.check()
            before = self._done
            try:
                self._attempt()
                if size < 0:
                    break
                problem = "it ended too early"
            except Broken as error:
                problem = str(error) or "connection closed"
            if size >= 0 and self._done == size:
                break
            self._cancel.check()
            breaks = 1 if self._done - before > _PROGRESS else breaks + 1
            if breaks > _BREAKS:
                raise RegistryUnreachable(
                    f"connection keeps breaking: {self._client.name}, {self._layer.digest}: {problem}",
                    hint=f"{self._done} bytes came, and are kept; try again later",
                )
            self._client.pause_before(breaks)
        self._check()

    def _resume(self) -> None:
        """Take what an earlier attempt has left as the beginning."""
        size, there = self._layer.size, self._partial.size
        if size < 0 or there > size:
            self._restart()
            return
        os.lseek(self._partial.descriptor, 0, os.SEEK_SET)
        while data := os.read(self._partial.descriptor, 1 << 20):
            self._cancel.check()
            self._hash.update(data)
            self._done += len(data)
        self._count(self._done)

    def _restart(self) -> None:
        os.ftruncate(self._partial.descriptor, 0)
        os.lseek(self._partial.descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._layer.digest.algorithm)
        self._count(-self._done)
        self._done = 0

    def _attempt(self) -> None:
        """Ask for what is missing, and write it. Raises Broken."""
        with self._client.blob(self._layer.digest, self._done) as (response, start):
            if start != self._done:
                self._restart()
            size, descriptor = self._layer.size, self._partial.descriptor
            while data := response.read(_CHUNK):
                if 0 <= size < self._done + len(data):
                    self._partial.discard()
                    raise self._wrong(f"more than the promised {size} bytes")
                self._cancel.check()
                self._hash.update(data)
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                self._done += len(data)
                self._count(len(data))

    def _check(self) -> None:
        found = Digest(self._layer.digest.algorithm, self._hash.hexdigest())
        if found != self._layer.digest:
            self._partial.discard()
            raise self._wrong(f"its content has the digest {found}")

    def _wrong(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"layer is not what was promised: {self._client.name}, {self._layer.digest}: {what}",
            hint="nothing was kept; try again, and if it is always so, tell who runs the registry",
        )


class _Meter:
    """Adds up what all downloads bring, and reports it now and then. Several threads may use it."""

    def __init__(self, emit: Sink, total: int | None) -> None:
        self._emit = emit
        self._total = total
        self._done = 0
        self._began = self._told = time.monotonic()
        self._is_finished = False
        self._turn = threading.Lock()

    def add(self, size: int) -> None:
        with self._turn:
            self._done += size
            if time.monotonic() - self._told >= _TICK:
                self._tell()

    def finish(self) -> None:
        with self._turn:
            if not self._is_finished:
                self._is_finished = True
                self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._emit(TransferProgressed(done=self._done, total=self._total, seconds=self._told - self._began))


def _size(layer: Descriptor) -> int | None:
    return None if layer.size < 0 else layer.size


def _finished(layer: Layer) -> "concurrent.futures.Future[Layer]":
    future: concurrent.futures.Future[Layer] = concurrent.futures.Future()
    future.set_result(layer)
    return future
