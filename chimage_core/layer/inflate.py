"""Compressed archives as streams of plain bytes.

The format is recognised by the first bytes, never by a name or media type, since both lie in the wild. What makes it
hard: several compressed members in a row are one stream (pigz, estargz and our own push write such files); a few
kilobytes may expand to terabytes, so each step gives a bounded amount; and inflating costs more than unpacking, so it
has a thread of its own (the libraries release the interpreter lock).
Sources: RFC 1952 (gzip), RFC 8878 (Zstandard), xz-file-format.txt.
"""

import bz2
import importlib
import lzma
import queue
import threading
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from chimage_core.errors import DependencyMissing, LayerError, file_errors
from chimage_core.image.digest import Digest, Readable, VerifyingReader

_READ = 256 << 10
"""Bytes per read of compressed data: fewer cost calls, more gain nothing (measured)."""
_CHUNK = 1 << 20
"""Most bytes that one step of inflating gives."""
_FULL_ENOUGH = 256 << 10
"""Bytes worth handing over at once: each hand-over between threads costs some 20 µs."""
_QUEUED = 8
"""Chunks that the thread may be ahead."""
_XZ_MEMORY = 512 << 20
"""Most memory for one xz stream; `xz -9` needs 65 MiB, the format allows 4 GiB."""
_ZSTD_WINDOW = 128 << 20
"""Largest window of Zstandard, which is memory: what `zstd -d` allows without being asked for more."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x9d": "compress",
    b"LZIP": "lzip",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"hsqs": "squashfs",
    b"7z\xbc\xaf\x27\x1c": "7-zip",
}


class _Engine(Protocol):
    """What zlib, isal, lzma and bz2 objects have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def recognise(beginning: bytes) -> str | None:
    """Return the name of the format that data with this beginning is in; None: none that we know, maybe a plain
    tar."""
    return next((name for magic, name in _MAGIC.items() if beginning.startswith(magic)), None)


class ArchiveStream:
    """The plain bytes of an archive file, compressed or not, checked against what was promised of them.

    A context manager; leaving it closes the file and ends the thread. Reading raises LayerError for data that cannot
    be decompressed, IntegrityError for data that is not what was promised, FileError.
    """

    def __init__(
        self, path: str, *, digest: Digest | None = None, size: int | None = None, diff_id: Digest | None = None
    ) -> None:
        """`digest` and `size` are those of the file, `diff_id` is the digest of the plain bytes; None: not
        checked."""
        self.path = path
        with ExitStack() as opened, file_errors("read archive", path):
            file = opened.enter_context(open(path, "rb", buffering=0))
            source: Readable = file if digest is None else VerifyingReader(file, digest, size)
            first = source.read(_READ)
            self._source = _plain(_Replay(first, source))
            if diff_id is not None:
                self._source = VerifyingReader(self._source, diff_id)
            # A thread costs more than it gains for small files, and plain bytes without a check need no work.
            if len(first) == _READ and (digest or diff_id or recognise(first)):
                self._source = opened.enter_context(_Ahead(self._source))
            self._opened = opened.pop_all()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` plain bytes (at least 1); none at the end, and then everything has been checked."""
        with file_errors("read archive", self.path):
            return self._source.read(size)

    def close(self) -> None:
        """Close the file; what was not read stays unchecked."""
        self._opened.close()

    def __enter__(self) -> "ArchiveStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(source: "_Replay") -> Readable:
    """Return a reader of the plain bytes."""
    found = recognise(source.beginning)
    match found:
        case None:
            return source
        case "gzip":
            module = _zlib()
            # 31: the largest window, and a gzip header is expected and its checksum verified.
            return _Inflating(source, found, b"\x1f\x8b", lambda: module.decompressobj(31), module.error)
        case "xz":
            make_engine = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _XZ_MEMORY)
            return _Inflating(source, found, b"\xfd7zXZ\0", make_engine, lzma.LZMAError)
        case "bzip2":
            return _Inflating(source, found, b"BZh", bz2.BZ2Decompressor, OSError)
        case "zstd":
            return _Zstd(source)
    raise LayerError(
        f"can't read archives of format {found}", hint="use tar, plain or compressed by gzip, zstd, xz or bzip2"
    )


def _zlib() -> Any:
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:  # No wheels for all architectures; zlib takes 2.5 times as long.
        return zlib


class _Replay:
    """A stream whose beginning has been looked at already."""

    def __init__(self, beginning: bytes, source: Readable) -> None:
        self.beginning = beginning
        self._left = beginning
        self._source = source

    def read(self, size: int, /) -> bytes:
        if not self._left:
            return self._source.read(size)
        data, self._left = self._left[:size], self._left[size:]
        return data


class _Inflating:
    """One or more compressed members in a row."""

    def __init__(
        self, source: Readable, name: str, magic: bytes, make_engine: Callable[[], _Engine], error: type[Exception]
    ) -> None:
        """`magic`: what each member begins with. `error`: what an engine raises for damaged data."""
        self._source = source
        self._name = name
        self._magic = magic
        self._make_engine = make_engine
        self._error = error
        self._engine: _Engine | None = make_engine()
        self._input = b""
        self._damage: LayerError | None = None
        """Met behind what was given last."""

    def read(self, size: int, /) -> bytes:
        if self._damage is not None:
            raise self._damage
        pieces: list[bytes] = []
        count = 0
        while self._engine is not None and count < min(size, _FULL_ENOUGH):
            try:
                data = self._step(self._engine, min(size, _CHUNK) - count)
            except LayerError as error:
                if not pieces:
                    raise
                self._damage = error  # What comes before it is good, and tells what kind of file it is.
                break
            if data:
                pieces.append(data)
                count += len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _step(self, engine: _Engine, size: int) -> bytes:
        """Give the next plain bytes; none if more input was needed, or a member ended."""
        try:
            data = engine.decompress(self._input, size)
        except self._error as error:
            _drain(self._source)  # If a digest was promised, this says more precisely what is wrong.
            raise LayerError(f"{self._name} data is damaged: {error}") from error
        # zlib gives back what it did not use; the others keep it.
        self._input = getattr(engine, "unconsumed_tail", b"")
        if engine.eof:
            self._engine = self._next_engine(engine.unused_data)
        elif not data:
            self._input = self._source.read(_READ)
            if not self._input:
                raise LayerError(f"{self._name} data ends too early; the file is incomplete")
        return data

    def _next_engine(self, rest: bytes) -> _Engine | None:
        """Begin the next member; None at the end of the stream."""
        while len(rest := rest.lstrip(b"\0")) < len(self._magic):  # Zeros are padding, see gzip(1) and xz(1).
            more = self._source.read(_READ)
            if not more:
                break
            rest += more
        if rest and not rest.startswith(self._magic):
            _drain(self._source)
            raise LayerError(f"{self._name} data is followed by something else")
        self._input = rest
        return self._make_engine() if rest else None


class _Zstd:
    """Zstandard frames in a row, by the optional package `zstandard`.

    The library does not say when the last frame is incomplete; the tar reader then finds that the archive is.
    """

    def __init__(self, source: Readable) -> None:
        try:
            zstandard: Any = importlib.import_module("zstandard")
        except ImportError as error:
            raise DependencyMissing(
                "this archive is compressed by zstd, which needs the Python package zstandard",
                hint="install chimage[zstd]",
            ) from error
        self._error: type[Exception] = zstandard.ZstdError
        self._source = source
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(source, read_size=_READ, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        try:
            data: bytes = self._reader.read(min(size, _CHUNK))
        except self._error as error:
            _drain(self._source)
            raise LayerError(f"zstd data is damaged: {error}") from error
        if not data:
            _drain(self._source)
        return data


def _drain(source: Readable) -> None:
    while source.read(_READ):
        pass


class _Ahead:
    """Reads a stream ahead in a thread, by a bounded number of chunks."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_QUEUED)
        self._left = b""
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="inflate", daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        item: bytes | BaseException = self._left or self._queue.get()
        if isinstance(item, BaseException):
            self._queue.put(item)  # Whoever asks again gets it again.
            raise item
        if not item:
            self._queue.put(item)
        data, self._left = (item, b"") if len(item) <= size else (item[:size], item[size:])
        return data

    def _work(self) -> None:
        try:
            while not self._stopped:
                data = self._source.read(_CHUNK)
                self._queue.put(data)
                if not data:
                    return
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that reads)
            self._queue.put(error)

    def __enter__(self) -> "_Ahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        while self._thread.is_alive():
            with suppress(queue.Empty):  # It may be waiting for a free place.
                self._queue.get(timeout=0.05)
        self._thread.join()
