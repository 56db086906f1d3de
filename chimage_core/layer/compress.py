"""Compress a stream in blocks: on all processors, and always to the same bytes.

Each block becomes a gzip member, or Zstandard frame, of its own; in a row they are one stream (RFC 1952, 2.2; RFC 8878,
3.1). So blocks are compressed side by side, and what comes out depends neither on the number of processors nor on the
time. It does depend on the compressor and its version, so nobody may expect other machines to give equal digests of
*compressed* data. The headers of gzip members are ours, since libraries differ in them.

Of everything that goes by, the digest is taken: of the plain bytes (`diff_id`), and of the compressed ones.
"""

import hashlib
import importlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing
from chimage_core.image.digest import Digest

if TYPE_CHECKING:
    # Imported where it is used: small layers need no threads.
    from concurrent.futures import Future, ThreadPoolExecutor

Compression = Literal["none", "gzip", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "gzip", "zstd")
Block = bytes | bytearray | memoryview

BLOCK_SIZES: dict[Compression, int] = {"none": 1 << 20, "gzip": 1 << 20, "zstd": 4 << 20}
"""Plain bytes per block. The window of gzip is 32 KiB, so nothing is lost; that of Zstandard is larger."""

_ISAL_LEVEL = 3
"""The best of isal: 3 % smaller than level 1, for a third more time (measured)."""
_ZLIB_LEVEL = 6
_ZSTD_LEVEL = 3
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Deflate, no time, no name, unknown system."""
_MOST_WORKERS = 16
_QUEUED = 2
"""Blocks per worker that may be under way."""


class PackedStream(NamedTuple):
    """What went by."""

    digest: Digest
    """Of what was written."""
    size: int
    """Bytes written."""
    diff_id: Digest
    """Of the plain bytes."""
    plain_size: int


class BlockCompressor:
    """Takes plain blocks and writes them compressed, in order. A context manager, which ends its threads."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        compression: Compression,
        *,
        cancel: CancelToken,
        workers: int | None = None,
    ) -> None:
        """`write` takes all of its argument and is called in the thread of the caller. `workers`: threads; None: as
        many as there are processors for us. Raises DependencyMissing."""
        self._write = write
        self._compress = compressor(compression)
        self._cancel = cancel
        self._workers = workers or min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[bytes]] = deque()
        self._plain, self._written = hashlib.sha256(), hashlib.sha256()
        self._plain_size = self._size = 0
        self.block_size = BLOCK_SIZES[compression]
        """Plain bytes that each block, but the last, has to have."""

    def __enter__(self) -> "BlockCompressor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, block: Block) -> None:
        """Take the next block, which nobody may change any more. Raises what `write` raises, Cancelled."""
        self._cancel.check()
        if self._compress is not None:
            self._submit(block)
        self._plain.update(block)
        self._plain_size += len(block)
        if self._compress is None:
            self._emit(bytes(block))
        elif len(self._pending) > _QUEUED * self._workers:
            self._emit(self._pending.popleft().result())

    def finish(self) -> PackedStream:
        """Write what is left and tell what went by. Raises what `write` raises."""
        while self._pending:
            self._emit(self._pending.popleft().result())
        diff_id = Digest("sha256", self._plain.hexdigest())
        # What is not compressed has one digest, which was taken once.
        digest = diff_id if self._compress is None else Digest("sha256", self._written.hexdigest())
        return PackedStream(digest, self._size, diff_id, self._plain_size)

    def _submit(self, block: Block) -> None:
        assert self._compress is not None
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._workers, "compress")
        self._pending.append(self._pool.submit(self._compress, block))

    def _emit(self, data: bytes) -> None:
        if self._compress is not None:
            self._written.update(data)
        self._size += len(data)
        self._write(data)


def compressor(compression: Compression) -> Callable[[Block], bytes] | None:
    """Return what compresses one block; None: nothing does. Raises DependencyMissing."""
    if compression == "none":
        return None
    return _gzip() if compression == "gzip" else _zstd()


def compressor_name(compression: Compression) -> str:
    """Return a name that changes whenever the same plain bytes may become other compressed ones: `isal 1.7.0`.

    Raises DependencyMissing.
    """
    if compression == "none":
        return "none"
    if compression == "zstd":
        return f"zstandard {_zstandard().__version__} level {_ZSTD_LEVEL}"
    try:
        return f"isal {importlib.import_module('isal').__version__} level {_ISAL_LEVEL}"
    except ImportError:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION} level {_ZLIB_LEVEL}"


def _gzip() -> Callable[[Block], bytes]:
    module: Any
    try:
        module, level = importlib.import_module("isal.isal_zlib"), _ISAL_LEVEL
    except ImportError:  # No wheels for all architectures.
        module, level = zlib, _ZLIB_LEVEL

    def compress(block: Block) -> bytes:
        deflated: bytes = module.compress(block, level, -15)
        return b"".join((_GZIP_HEADER, deflated, struct.pack("<II", module.crc32(block), len(block))))

    return compress


def _zstd() -> Callable[[Block], bytes]:
    zstandard = _zstandard()

    def compress(block: Block) -> bytes:
        # One per block: they cannot be shared between threads. The frame tells its content's size, and its checksum,
        # so that `zstd -t` finds damage.
        made: bytes = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(block)
        return made

    return compress


def _zstandard() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        raise DependencyMissing(
            "compression by zstd needs the Python package zstandard", hint="install chimage[zstd], or use gzip"
        ) from error
