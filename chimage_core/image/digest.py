"""Digests: the name of content by its hash, `sha256:9f86d0…`.

Everything a registry sends is checked against the digest that named it, while it is read: content that was not checked
to its end must not be used.
Source: OCI image-spec v1.1, descriptor.md, "Digests".
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from chimage_core.errors import IntegrityError

HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Algorithms we can check, and how many hexadecimal digits each has."""

_HEX = re.compile(r"[0-9a-f]+")


class Readable(Protocol):
    """Something to read bytes from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The hash that names some content. The constructor raises ValueError for what is none."""

    algorithm: str
    """`sha256`, `sha384` or `sha512`."""
    hex: str
    """Lower-case hexadecimal digits."""

    def __post_init__(self) -> None:
        length = HEX_LENGTHS.get(self.algorithm)
        if length is None:
            raise ValueError(f"unknown digest algorithm {self.algorithm!r}, expected one of {', '.join(HEX_LENGTHS)}")
        if len(self.hex) != length:
            raise ValueError(f"expected {length} hexadecimal digits for {self.algorithm}, found {len(self.hex)}")
        if not _HEX.fullmatch(self.hex):
            raise ValueError("expected lower-case hexadecimal digits")

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `ALGORITHM:HEX`. Raises ValueError saying what is wrong."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise ValueError("expected ALGORITHM:HEX")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> "Digest":
        """Return the digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The beginning, for people: `892e38d`."""
        return self.hex[:7]


class VerifyingReader:
    """Reads a stream and checks on the way that it is what its digest promises.

    Reading raises IntegrityError as soon as there are more bytes than promised, and at the end if there are fewer or
    the content differs. Only who has read to the end (`read` returned no bytes) has checked content. Does not close the
    stream.
    """

    def __init__(self, stream: Readable, digest: Digest, size: int | None = None) -> None:
        """`size`: the promised number of bytes; None if nobody promised one."""
        self._stream = stream
        self._digest = digest
        self._size = size
        self._hash = hashlib.new(digest.algorithm)
        self._done = 0

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._done

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes (at least 1), none at the end. Raises IntegrityError."""
        if size < 1:
            raise ValueError("size must be at least 1: an empty result means the end")
        data = self._stream.read(size)
        self._done += len(data)
        if self._size is not None and self._done > self._size:
            raise IntegrityError(f"{self._digest}: more than the promised {self._size} bytes")
        if data:
            self._hash.update(data)
        else:
            self._check()
        return data

    def _check(self) -> None:
        if self._size is not None and self._done != self._size:
            raise IntegrityError(f"{self._digest}: expected {self._size} bytes, got {self._done}")
        found = Digest(self._digest.algorithm, self._hash.hexdigest())
        if found != self._digest:
            raise IntegrityError(f"content differs from its digest: expected {self._digest}, found {found}")
