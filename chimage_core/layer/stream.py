"""The bytes of an archive in the portions that a tar reader asks for.

Chunks of about a megabyte come in; headers and small files go out as slices of them. Copying and system calls per
member decide the speed of unpacking, so a small file is written by a single call straight from the chunk.
"""

import os

from chimage_core.cancel import CancelToken
from chimage_core.errors import LayerError
from chimage_core.image.digest import Readable

BLOCK = 512
"""Bytes per tar block."""
_CHUNK = 1 << 20


class BlockStream:
    """Reads a tar archive: blocks, and the data of the member at hand, which `begin` announces."""

    __slots__ = ("_cancel", "_chunk", "_limit", "_padding", "_position", "_source", "_view", "left", "total")

    def __init__(self, source: Readable, *, limit: int, cancel: CancelToken) -> None:
        """`limit`: most bytes that may come, LayerError beyond; a compressed archive can hold any amount of zeros."""
        self._source = source
        self._limit = limit
        self._cancel = cancel
        self._chunk = b""
        self._view = memoryview(b"")
        self._position = 0
        self._padding = 0
        self.left = 0
        """Bytes of data of the current member that have not been read."""
        self.total = 0
        """Bytes that came so far."""

    def header(self) -> bytes | None:
        """Return the next block; None at the end of the stream. Skips what is left of the current member."""
        if self.left or self._padding:
            self._skip(self.left + self._padding)
            self.left = self._padding = 0
        position = self._position
        block = self._chunk[position : position + BLOCK]
        if len(block) == BLOCK:
            self._position = position + BLOCK
            return block
        return self._take(BLOCK) if block or self._refill() else None

    def begin(self, size: int) -> None:
        """Say that the next `size` bytes, and padding up to a full block, are data of the current member."""
        if size > self._limit:
            raise LayerError(f"archive has a member of {size} bytes, but there is room for {self._limit} only")
        self.left = size
        self._padding = -size % BLOCK

    def data(self, size: int) -> bytes:
        """Return the next `size` bytes of the current member's data. Raises LayerError if there are fewer."""
        if size > self.left:
            raise LayerError("archive has a member that is shorter than what it says to hold")
        self.left -= size
        return self._take(size)

    def write_to(self, target: int, size: int) -> None:
        """Write the next `size` bytes of the current member's data to a descriptor."""
        self.left -= size
        while size:
            position = self._position
            piece = self._view[position : position + size]
            if not piece:
                self._refill_or_fail()
                continue
            count = os.write(target, piece)
            self._position = position + count
            size -= count

    def drain(self) -> None:
        """Read to the end: only then the source has checked all it promised."""
        self._position = len(self._chunk)
        while self._refill():
            pass

    def _take(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._chunk[self._position : self._position + size]
            if not piece:
                self._refill_or_fail()
                continue
            pieces.append(piece)
            self._position += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        while size:
            count = min(size, len(self._chunk) - self._position)
            if not count:
                self._refill_or_fail()
                continue
            self._position += count
            size -= count

    def _refill_or_fail(self) -> None:
        if not self._refill():
            raise LayerError(f"archive ends too early, after {self.total} bytes; it is incomplete")

    def _refill(self) -> bool:
        """Replace the chunk, all of which has been used; return False at the end of the stream."""
        self._cancel.check()
        self._chunk = self._source.read(_CHUNK)
        self._view = memoryview(self._chunk)
        self._position = 0
        self.total += len(self._chunk)
        if self.total > self._limit:
            raise LayerError(f"archive holds more than {self._limit} bytes, for which there is room")
        return bool(self._chunk)
