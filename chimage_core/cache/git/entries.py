"""Entries of packs, copied into other packs as they are: what they take there is known before anything is written.

A delta says how far in front of it its base is. In another pack that distance is another one, and the number may take
more or fewer bytes; everything else of an entry stays as it is. Bases always come first. A delta that names its base
(as in packs that came by fetch) gets a distance, too.
Source: gitformat-pack(5).
"""

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from chimage_core.cache.git import deflate
from chimage_core.cache.git.packfile import OFFSET_DELTA, REPAIR_HINT, Pack
from chimage_core.cache.git.packs import PACK_HEAD, PackWriter, entry_head
from chimage_core.errors import CacheBroken

_TRAILER = 20
_INDEX = 8 + 1024 + 40
_INDEX_ENTRY = 20 + 4 + 4
_PIECE = 16 << 20
_SHORT_OFFSETS = 1 << 31


class Entry(NamedTuple):
    """An entry of a pack."""

    name: bytes
    pack: Pack
    start: int
    end: int
    checksum: int
    """CRC-32 of its bytes, from the index."""
    base: bytes | None
    """The object that it is a difference to."""

    @property
    def size(self) -> int:
        """Bytes in its pack."""
        return self.end - self.start


def read_entries(pack: Pack) -> list[Entry]:
    """Return all entries of a pack, by offset. Raises CacheBroken."""
    found = pack.entries()
    names = dict(found)
    ends = [offset for offset, _ in found[1:]] + [pack.end]
    try:
        return [
            Entry(name, pack, offset, end, checksum, _base(pack, offset, names))
            for (offset, name), end, checksum in zip(found, ends, pack.checksums(), strict=True)
        ]
    except (ValueError, IndexError, KeyError) as error:
        raise CacheBroken(f"pack in the build cache is damaged: {pack.path}: {error}", hint=REPAIR_HINT) from error


def with_bases(names: Container[bytes], entries: Mapping[bytes, Entry]) -> set[bytes]:
    """Return which of the entries have these names, or are bases of such as have."""
    needed: set[bytes] = set()
    for entry in entries.values():
        if entry.name in names:
            found: Entry | None = entry
            while found is not None and found.name not in needed:
                needed.add(found.name)
                found = None if found.base is None else entries[found.base]
    return needed


def bases_first(entries: Mapping[bytes, Entry]) -> list[Entry]:
    """Return the entries in their order, but each after its base. Raises KeyError if a base is missing."""
    ordered: dict[bytes, Entry] = {}
    for entry in entries.values():
        chain = [entry]
        while chain[-1].base is not None and chain[-1].base not in ordered:
            chain.append(entries[chain[-1].base])
        for link in reversed(chain):
            ordered.setdefault(link.name, link)
    return list(ordered.values())


def pack_bytes(entries: Iterable[Entry]) -> int:
    """Return the size of a pack of these entries, with its index, to the byte; 0 without entries.

    They are in the order in which they will stand there.
    """
    return sum(file_sizes(entries))


def file_sizes(entries: Iterable[Entry]) -> tuple[int, int]:
    """Return the sizes of a pack of these entries and of its index, to the byte; 0 without entries."""
    end, total, long_offsets = PACK_HEAD, 0, 0
    places: dict[bytes, int] = {}
    for entry in entries:
        places[entry.name] = end
        total += 1
        long_offsets += end >= _SHORT_OFFSETS
        if entry.base is None:
            end += entry.size
        else:
            head, stream = _delta_head(entry, end - places[entry.base])
            end += len(head) + entry.end - stream
    return (end + _TRAILER, _INDEX + _INDEX_ENTRY * total + 8 * long_offsets) if total else (0, 0)


def copy_entry(writer: PackWriter, entry: Entry) -> None:
    """Copy an entry whose base, if it has one, has been written. Raises CacheBroken if it is damaged, FileError."""
    checksum = 0
    for piece in _pieces(entry, entry.start):
        checksum = deflate.crc32(piece, checksum)
    if checksum != entry.checksum:
        raise CacheBroken(
            f"object {entry.name.hex()} in the build cache is damaged: {entry.pack.path}", hint=REPAIR_HINT
        )
    if entry.base is None:
        writer.copy_parts(entry.name, _pieces(entry, entry.start))
    else:
        head, stream = _delta_head(entry, writer.end - writer.place(entry.base))
        writer.copy_parts(entry.name, itertools.chain([head], _pieces(entry, stream)))


def _pieces(entry: Entry, start: int) -> Iterator[memoryview]:
    """Give the bytes of an entry from `start` on, without having a big one in memory as a whole."""
    for position in range(start, entry.end, _PIECE):
        yield entry.pack.data[position : min(position + _PIECE, entry.end)]
        if entry.size > _PIECE:
            entry.pack.release()


def _base(pack: Pack, offset: int, names: Mapping[int, bytes]) -> bytes | None:
    kind, _, start = pack.head(offset)
    if kind < OFFSET_DELTA:
        return None
    base, _ = pack.base(offset, kind, start)
    return base if isinstance(base, bytes) else names[base]


def _delta_head(entry: Entry, distance: int) -> tuple[bytes, int]:
    """Return what goes before the stream of a delta, and where the stream is in the old pack."""
    kind, size, start = entry.pack.head(entry.start)
    _, stream = entry.pack.base(entry.start, kind, start)
    digits = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        digits.append(0x80 | distance & 0x7F)
    return entry_head(OFFSET_DELTA, size) + bytes(reversed(digits)), stream
