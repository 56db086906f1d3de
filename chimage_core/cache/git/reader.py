"""Read objects, straight from packs and loose files.

Our packs hold no deltas and are often stored, so that an object is a slice of a mapped file. What git(1) makes of them
(`gc`, `repack`) has deltas, and `git` may add loose objects; both are read here as well, so that no program and no
library is needed to use the cache. Every object is checked by its stream's Adler-32.
Source: gitformat-pack(5).
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from chimage_core.cache.git import alternates, deflate
from chimage_core.cache.git.alternates import Alternates
from chimage_core.cache.git.objects import KIND_NAMES
from chimage_core.cache.git.packdirectory import ATTEMPTS, PackDirectory
from chimage_core.cache.git.packfile import OFFSET_DELTA, REPAIR_HINT, Pack, PackData
from chimage_core.errors import CacheBroken, NotInCache

_CHUNK = 1 << 20
_WHOLE = 4 << 20
"""Bigger objects are read in pieces."""
_BASES = 16 << 20
"""Bytes of delta bases kept."""


class ObjectStore:
    """All objects of a repository, and those that it borrows from others (see `alternates`)."""

    def __init__(
        self,
        objects: str,
        *,
        on_damage: Callable[[str, CacheBroken], None] | None = None,
        borrowed: Sequence[str] = (),
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`objects` is the repository's directory of this name. Nothing is opened before it is needed.

        `on_damage` is told of packs (by the path of their index) that cannot be opened, which then count as not there;
        without it, that is an error of every method. `borrowed` are `objects` directories besides those that the
        repository itself names; `complain` is told what cannot be read there.
        """
        self._objects = objects
        self._on_damage = on_damage
        self._more = borrowed
        self._complain = complain
        self._own = PackDirectory(objects)
        self._bases: dict[tuple[str, int], tuple[int, bytes]] = {}
        self._bases_size = 0
        self._is_listed = False

    @cached_property
    def alternates(self) -> Alternates:
        """What is borrowed from other repositories. Raises FileError."""
        return Alternates(alternates.reached_from(self._objects, self._more), self._complain)

    def contains(self, name: bytes) -> bool:
        """Return whether the object is in a pack of our own, written before `refresh`, or before the first use."""
        if not self._is_listed:
            self.refresh()
        return self._own.has(name)

    def borrows(self, name: bytes) -> bool:
        """Return whether the object is in a pack of another repository, as far as we know those."""
        return self.alternates.find(name) is not None

    def exists(self, name: bytes) -> bool:
        """Return whether the object is there now."""
        return self._locate(name) is not None or any(map(os.path.exists, self._loose(name)))

    def read(self, name: bytes) -> tuple[int, bytes]:
        """Return type and content of an object. Raises NotInCache, CacheBroken."""
        location = self._locate(name)
        if location is None:
            return self.read_loose(name)
        try:
            return self._read_entry(*location)
        except _DAMAGE as error:
            copy = self._read_copy(name, location[0])
            if copy is None:
                raise _damaged(name, error) from error
            return copy

    def read_at(self, pack: PackData, offset: int) -> tuple[int, bytes]:
        """Return type and content of the entry at an offset, whatever its name is. Raises CacheBroken, NotInCache."""
        try:
            return self._read_entry(pack, offset)
        except _DAMAGE as error:
            raise CacheBroken(f"entry at {offset} of {pack.path} is damaged: {error}", hint=REPAIR_HINT) from error

    def read_kind(self, name: bytes, kind: int) -> bytes:
        """Return the content of an object that must be of this type. Raises NotInCache, CacheBroken."""
        found, data = self.read(name)
        if found != kind:
            raise CacheBroken(f"object {name.hex()} in the build cache is no {KIND_NAMES[kind].decode()}")
        return data

    def chunks(self, name: bytes) -> Iterator[bytes]:
        """Give the content of a blob in pieces, so that a big one is never in memory. Raises as `read` does."""
        content = self.small(name)
        if content is not None:
            yield content
            return
        location = self._locate(name)
        assert location is not None, "a big one is in a pack"
        pack, offset = location
        try:
            yield from deflate.inflate_chunks(pack.data[pack.head(offset)[2] :], _CHUNK)
        except _DAMAGE as error:
            raise _damaged(name, error) from error

    def small(self, name: bytes) -> bytes | None:
        """Return the content of a blob; None of one that should be read in pieces. Raises as `read` does."""
        location = self._locate(name)
        if location is None:
            return self.read_loose(name)[1]
        pack, offset = location
        try:
            kind, size, start = pack.head(offset)
            if kind >= OFFSET_DELTA:
                return self._read_entry(pack, offset)[1]
            return None if size > _WHOLE else deflate.inflate(pack.data[start:], size)
        except _DAMAGE as error:
            raise _damaged(name, error) from error

    def refresh(self) -> None:
        """Take note of packs that were added since."""
        self._is_listed = True
        for _ in range(ATTEMPTS):
            try:
                indexes = self._own.unseen()
            except FileNotFoundError:
                return
            found = [self.add_pack(index) for index in indexes]
            if all(found):
                return

    def add_pack(self, index: str) -> bool:
        """Take note of a pack of the repository itself; return False if it has vanished."""
        try:
            return self._own.open(index)
        except CacheBroken as error:
            if self._on_damage is None:
                raise
            self._own.ignore(index)
            self._on_damage(index, error)
            return True

    def packs(self) -> list[Pack]:
        """Return the packs that we know; none that is borrowed."""
        if not self._is_listed:
            self.refresh()
        return list(self._own.packs)

    def release(self) -> None:
        """Give the memory of what was read back to the system: mapped pages count as ours."""
        self._own.release()
        self.alternates.release()

    def forget_removed(self) -> None:
        """Close packs whose files are gone."""
        self._own.forget_removed()

    def _locate(self, name: bytes) -> tuple[Pack, int] | None:
        location = self._locate_known(name)
        if location is None:
            self.refresh()
            self.alternates.refresh()
            location = self._locate_known(name)
        return location

    def _locate_known(self, name: bytes) -> tuple[Pack, int] | None:
        if not self._is_listed:
            self.refresh()
        return self._own.find(name) or self.alternates.find(name)

    def _read_copy(self, name: bytes, damaged: Pack) -> tuple[int, bytes] | None:
        """Return an object from another pack than the one where it is damaged, if it is there, too."""
        for pack in (*self._own.packs, *self.alternates.packs()):
            offset = None if pack is damaged else pack.find(name)
            if offset is not None:
                with contextlib.suppress(*_DAMAGE):
                    return self._read_entry(pack, offset)
        return None

    def _read_entry(self, pack: PackData, offset: int) -> tuple[int, bytes]:
        kind, size, start = pack.head(offset)
        if kind < OFFSET_DELTA:
            return kind, deflate.inflate(pack.data[start:], size)
        known = self._bases.get((pack.path, offset))
        if known is not None:
            return known
        base, start = pack.base(offset, kind, start)
        base_kind, base_data = self._read_base(pack, base)
        result = base_kind, _apply_delta(base_data, deflate.inflate(pack.data[start:], size))
        self._remember((pack.path, offset), result)
        return result

    def _read_base(self, pack: PackData, base: int | bytes) -> tuple[int, bytes]:
        """Return the object that a delta of this pack is against."""
        if isinstance(base, bytes):
            return self.read(base)
        result = self._read_entry(pack, base)
        self._remember((pack.path, base), result)
        return result

    def _remember(self, key: tuple[str, int], value: tuple[int, bytes]) -> None:
        if key in self._bases or len(value[1]) > _BASES // 4:
            return
        self._bases_size += len(value[1])
        while self._bases_size > _BASES:
            oldest = next(iter(self._bases))
            self._bases_size -= len(self._bases.pop(oldest)[1])
        self._bases[key] = value

    def _loose(self, name: bytes) -> Iterator[str]:
        """Give the paths where an object may be in a file of its own."""
        text = name.hex()
        for objects in (self._objects, *self.alternates.directories):
            yield os.path.join(objects, text[:2], text[2:])

    def read_loose(self, name: bytes) -> tuple[int, bytes]:
        """Return type and content of an object that is in no pack. Raises NotInCache, CacheBroken."""
        for number, path in enumerate(self._loose(name)):
            try:
                with open(path, "rb") as file:
                    return _decode_loose(name, file.read())
            except OSError as error:  # What we may not read of others counts as not there.
                if number == 0 and not isinstance(error, FileNotFoundError):
                    raise
        raise self._missing(name)

    def _missing(self, name: bytes) -> NotInCache:
        borrowed = self.alternates.directories
        if not borrowed:
            return NotInCache(f"object {name.hex()} is not in the build cache")
        return NotInCache(
            f"object {name.hex()} is neither in the build cache nor in the shared ones: {', '.join(borrowed)}",
            hint="if it is not there any more: build with --rebuild, or import the base image again; "
            "build-cache --repair gives up what needs it",
        )


def _decode_loose(name: bytes, raw: bytes) -> tuple[int, bytes]:
    try:
        head, _, data = zlib.decompress(raw).partition(b"\0")
        kind_name, _, size = head.partition(b" ")
        kinds = {value: key for key, value in KIND_NAMES.items()}
        if int(size) != len(data):
            raise ValueError("malformed head")
        return kinds[kind_name], data
    except (*_DAMAGE, KeyError) as error:
        raise _damaged(name, error) from error


_DAMAGE = (ValueError, IndexError, OverflowError, RecursionError, struct.error, zlib.error)
"""What reading damaged data may raise."""


def _damaged(name: bytes, error: Exception) -> CacheBroken:
    return CacheBroken(f"object {name.hex()} in the build cache is damaged: {error}", hint=REPAIR_HINT)


def _apply_delta(base: bytes, delta: bytes) -> bytes:
    base_size, position = _delta_size(delta, 0)
    size, position = _delta_size(delta, position)
    if base_size != len(base):
        raise ValueError("delta does not fit its base")
    parts = []
    while position < len(delta):
        code = delta[position]
        position += 1
        if code & 0x80:
            start = length = 0
            for bit in range(4):
                if code & (1 << bit):
                    start |= delta[position] << (8 * bit)
                    position += 1
            for bit in range(3):
                if code & (0x10 << bit):
                    length |= delta[position] << (8 * bit)
                    position += 1
            length = length or 0x10000
            parts.append(base[start : start + length])
        elif code:
            parts.append(delta[position : position + code])
            position += code
        else:
            raise ValueError("unknown delta instruction")
    result = b"".join(parts)
    if len(result) != size:
        raise ValueError("delta gives an object of another size")
    return result


def _delta_size(delta: bytes, position: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        byte = delta[position]
        position += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, position
