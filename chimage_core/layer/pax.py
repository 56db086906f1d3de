"""Extended headers of pax archives: records `LENGTH KEY=VALUE\n` that override the fields of a header.

Source: POSIX.1-2017 pax, "pax Extended Header".
"""

from collections.abc import Mapping
from types import MappingProxyType

from chimage_core.errors import LayerError

NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_LIST = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
"""Keys that are repeated, once per extent (sparse format 0.0)."""
_MAX_DIGITS = 20
"""Digits of a 64-bit number; Python's limit is 4300, and its time quadratic."""


class Extended:
    """What extended headers say: the global ones of all members to come, the others of the next one."""

    def __init__(self, limit: int) -> None:
        """`limit`: most bytes of global records together."""
        self._limit = limit
        self._global: dict[bytes, bytes] = {}
        self._local: dict[bytes, bytes] = {}
        self.records: Mapping[bytes, bytes] = {}
        """All that holds for the next member."""

    def __bool__(self) -> bool:
        return bool(self.records)

    @property
    def is_pending(self) -> bool:
        """Whether a header has come that is for the next member only."""
        return bool(self._local)

    @property
    def is_sparse(self) -> bool:
        """Whether the next member is a sparse file."""
        return bool(self.records) and any(key.startswith(_SPARSE) for key in self.records)

    def add(self, data: bytes, *, is_global: bool) -> None:
        """Take the records of a header. Raises LayerError for data that is not of that form."""
        (self._global if is_global else self._local).update(_parse(data))
        if is_global and sum(len(key) + len(value) for key, value in self._global.items()) > self._limit:
            raise LayerError(f"archive has more than {self._limit} bytes of global headers")
        # An empty value takes a record back, so that the header's own field holds.
        self.records = {key: value for key, value in {**self._global, **self._local}.items() if value}

    def next_member(self) -> None:
        """Forget what was for one member only."""
        if self._local:
            self._local = {}
            self.records = self._global

    def xattrs(self) -> Mapping[str, bytes]:
        """Return the extended attributes."""
        found = {
            key[len(_XATTR) :].decode("utf-8", "surrogateescape"): value
            for key, value in self.records.items()
            if key.startswith(_XATTR)
        }
        return found or NO_XATTRS


def number(value: bytes, what: str) -> int:
    """Read a decimal number that is not negative. Raises LayerError."""
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise LayerError(f"archive is damaged: {what} in an extended header is not a number")
    return int(value)


def time(value: bytes) -> int:
    """Read a time in seconds, with an optional sign and fraction, as ns (rounded down). Raises LayerError."""
    sign, digits = (-1, value[1:]) if value.startswith(b"-") else (1, value)
    whole, point, fraction = digits.partition(b".")
    if not point or not fraction:
        return sign * number(whole, "time") * 1_000_000_000
    if not fraction.isdigit():
        raise LayerError("archive is damaged: time in an extended header is not a number")
    nanoseconds = number(whole or b"0", "time") * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    is_cut = bool(fraction[9:].strip(b"0"))
    return nanoseconds if sign > 0 else -nanoseconds - is_cut


def _parse(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + _MAX_DIGITS)
        digits = data[position:blank]
        end = position + int(digits) if blank > 0 and digits.isdigit() else 0
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not blank < end <= len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise LayerError("archive is damaged: an extended header does not parse")
        if b"\0" in key or (b"\0" in value and not key.startswith(_XATTR)):
            raise LayerError("archive is damaged: an extended header has a NUL character in a name")
        if key in _LIST:  # As format 0.1 has it: one list of pairs.
            known = records.get(b"GNU.sparse.map")
            records[b"GNU.sparse.map"] = value if known is None else known + b"," + value
        else:
            records[key] = value
        position = end
    return records
