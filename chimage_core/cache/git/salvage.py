"""Take what is intact out of damaged packs, into a new one.

An entry is found by the index, or, where that is damaged, by going through the pack from its beginning, since each
entry ends where its stream does. Whatever is read is stored under the name that its content has: so nothing wrong can
come in, whatever the index says.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.cache.git.objects import KIND_NAMES, header, sha1
from chimage_core.cache.git.packfile import PackData, index_offsets
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError, file_errors

_CHUNK = 1 << 20
_FIRST = 12
"""Where the first entry begins."""
_DERIVED = ("multi-pack-index", "../info/commit-graph")
"""What git(1) computes from packs, to be quicker: wrong when packs go."""
_DAMAGE = (ValueError, IndexError, struct.error, zlib.error, CacheError)


class Salvaged(NamedTuple):
    """What came of a damaged pack."""

    pack: str
    """Path of the damaged one."""
    objects: int
    """Taken over."""


def suspects(objects: str, damaged: list[str]) -> list[str]:
    """Return the packs, by path, that are damaged or have no index. `damaged` are files said to be so."""
    directory = os.path.join(objects, "pack")
    with file_errors("read build cache", directory):
        names = set(os.listdir(directory)) if os.path.isdir(directory) else set()
    packs = {path.removesuffix(".idx") + ".pack" for path in damaged if path.endswith(".idx")}
    for name in names:
        if name.startswith("pack-") and name.endswith(".pack") and name.removesuffix(".pack") + ".idx" not in names:
            packs.add(os.path.join(directory, name))
    return sorted(packs)


def salvage(pack: str, objects: str, *, sync: bool, cancel: CancelToken) -> Salvaged:
    """Replace a damaged pack by one with what is intact in it. Raises FileError, Cancelled.

    The old one goes when the new one is complete: a crash leaves either, or both.
    """
    index, directory = pack.removesuffix(".pack") + ".idx", os.path.join(objects, "pack")
    count, new = 0, None
    with contextlib.suppress(FileNotFoundError, CacheError):
        data = PackData(pack)
        with PackWriter(directory, lambda _: False, deflated=True, sync=sync) as writer:
            count = _take_over(data, _offsets(data, index), writer, ObjectStore(objects, on_damage=_ignore), cancel)
            new = writer.finish()
    if new != index:  # It is the same if only the index was damaged.
        _remove(pack)
    for name in _DERIVED:
        with file_errors("remove", directory), contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    return Salvaged(pack, count)


def _take_over(data: PackData, offsets: list[int], writer: PackWriter, store: ObjectStore, cancel: CancelToken) -> int:
    names: set[bytes] = set()
    for offset in offsets:
        cancel.check()
        with contextlib.suppress(*_DAMAGE):
            kind, _, _ = data.head(offset)
            if kind in KIND_NAMES:
                name, end = _read_entry(data, offset)
                writer.copy_raw(name, data.data[offset:end])
            else:
                name = writer.add(*store.read_at(data, offset), deflated=True)
            names.add(name)
    return len(names)


def _offsets(data: PackData, index: str) -> list[int]:
    """Return where entries may begin."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, struct.error):
        found.update(offset for offset in index_offsets(index) if _FIRST <= offset < data.size)
    offset = _FIRST
    with contextlib.suppress(*_DAMAGE):
        while offset < data.size:
            found.add(offset)
            offset = _end(data, offset)
    return sorted(found)


def _read_entry(data: PackData, offset: int) -> tuple[bytes, int]:
    """Return the name of the object at an offset (no delta), and where its entry ends. Raises as zlib, ValueError."""
    kind, size, start = data.head(offset)
    digest, end = sha1(header(kind, size)), start
    for chunk, position in _inflated(data, start):
        digest.update(chunk)
        size -= len(chunk)
        end = position
    if size:
        raise ValueError("an object has another size than it says")
    return digest.digest(), end


def _end(data: PackData, offset: int) -> int:
    """Return where the entry at an offset ends, a delta or not."""
    kind, _, start = data.head(offset)
    if kind == 7:
        start += 20
    elif kind == 6:
        while data.data[start] & 0x80:
            start += 1
        start += 1
    elif kind not in KIND_NAMES:
        raise ValueError(f"unknown object type {kind}")
    return max(position for _, position in _inflated(data, start))


def _inflated(data: PackData, start: int) -> Iterator[tuple[bytes, int]]:
    """Give the content of a stream in pieces, each with where the stream ends as far as we know."""
    inflater = zlib.decompressobj()
    position = start
    while not inflater.eof:
        part = inflater.unconsumed_tail or data.data[position : position + _CHUNK]
        if not part:
            raise ValueError("object ends too early")
        position += 0 if inflater.unconsumed_tail else len(part)
        content = inflater.decompress(part, _CHUNK)
        yield content, position - len(inflater.unused_data)


def _remove(pack: str) -> None:
    """Remove a pack with all that belongs to it."""
    directory, stem = os.path.dirname(pack), os.path.basename(pack).removesuffix(".pack")
    with file_errors("remove", pack):
        for name in os.listdir(directory):
            if name.partition(".")[0] == stem:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, name))


def _ignore(*_: object) -> None:
    """A pack that cannot be opened has nothing for us."""
