"""Contents of files: the same bytes in every run, as compressible as what images hold."""

import random
import struct
from collections.abc import Iterator

MIB = 1 << 20
_POOL = 2 * MIB
_KINDS = ("text", "mixed", "text", "mixed", "noise")
"""In turn. Level 1 of zlib shrinks text to 0.4 of its size, mixed (as in programs) to 0.6, noise not at all."""


class Contents:
    """A source of file contents. Each is cut out of a pool at a place of its own and begins with its number, so that no
    two are alike."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        noise = source.randbytes(_POOL)
        self._pools = {"text": _text(source), "mixed": _mixed(source, noise), "noise": noise}

    def pieces(self, number: int, size: int) -> Iterator[bytes]:
        """Give the content of file `number` in pieces, `size` bytes in all."""
        pool = self._pools[_KINDS[number % len(_KINDS)]]
        head = (b"%d\n" % number)[:size]
        yield head
        left, start = size - len(head), number * 7919 * 64 % _POOL
        while left > 0:
            piece = pool[start : start + left]
            yield piece
            # Not from the start again, or a file of several pools would hold the same thing twice at one distance.
            left, start = left - len(piece), (start * 3 + 4099) % (_POOL // 2)

    def whole(self, number: int, size: int) -> bytes:
        """Return the content of file `number`."""
        return b"".join(self.pieces(number, size))


def _text(source: random.Random) -> bytes:
    """Return lines of words, few of them frequent and many rare."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(source.choices(letters, range(26, 0, -1), k=source.randrange(2, 11))) for _ in range(2000)]
    weights = [1 / rank for rank in range(2, len(words) + 2)]
    text = bytearray()
    while len(text) < _POOL:
        text += " ".join(source.choices(words, weights, k=12)).encode() + b"\n"
    return bytes(text[:_POOL])


def _mixed(source: random.Random, noise: bytes) -> bytes:
    """Return records in which noise and small numbers take turns."""
    records = bytearray()
    while len(records) < _POOL:
        start = source.randrange(_POOL - 64)
        records += noise[start : start + 12]
        records += struct.pack("<14H", *source.choices(range(16), k=14))
    return bytes(records[:_POOL])
