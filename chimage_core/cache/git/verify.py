"""Verify all objects of the repository: each must inflate, have its size, and be what its name says.

Readers trust the Adler-32 of a stream; here nothing is trusted. A repository may have gigabytes, so the entries of all
packs are divided into parts for several processes. Others may write meanwhile, and merge packs: a pack that is gone
when it is looked at has left its objects to another one, which is found at the next look.
Source: gitformat-pack(5).
"""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from chimage_core.cache.git import deflate, workers
from chimage_core.cache.git.objects import KIND_NAMES, header, identify, sha1
from chimage_core.cache.git.packfile import Pack
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError, NotInCache, file_errors

_PART = 16 << 20
"""Bytes of a pack that are verified at a time."""
_ROUND = 1 << 30
"""Bytes after which progress is told."""
_LITTLE = 8 << 20
"""Less than this is no matter for several processes."""
_CHUNK = 1 << 20

_Part = tuple[str, int, int]
"""Path of an index, and a range of the entries of its pack, by offset."""


class Damage(NamedTuple):
    """A file of the repository that is damaged."""

    path: str
    reason: str
    objects: tuple[bytes, ...] = ()
    """The damaged objects in it; empty: nobody can say, because the file as a whole cannot be read."""


class Objects(NamedTuple):
    """All objects that are in order, and what is not."""

    kinds: dict[bytes, int]
    """Types of the objects in order, by name."""
    damaged: list[Damage]
    packs: int
    size: int
    """Bytes of the packs."""


def verify(
    objects: str, processes: int, cancel: CancelToken, progress: Callable[[int, int], None] = lambda done, total: None
) -> Objects:
    """Verify the repository's directory `objects`; `progress` gets bytes done, and in all.

    Raises FileError for what cannot be read at all, Cancelled.
    """
    found = Objects({}, [], 0, 0)
    rounds, packs, size = _plan(objects, found.damaged)
    done = 0
    for parts in rounds:
        payload = objects, [part for part, _ in parts]
        length = sum(weight for _, weight in parts)
        answers = workers.run(verify_parts, payload, len(parts), processes if length > _LITTLE else 1, cancel)
        _take(answers, payload[1], found)
        done += length
        progress(done, size)
    _verify_loose(objects, found, cancel)
    return found._replace(packs=packs, size=size)


def verify_parts(payload: Any, numbers: Iterator[int]) -> Any:
    """Verify ranges of entries (a task of `workers`)."""
    objects, parts = payload
    # Bases of deltas may be elsewhere. Packs that cannot be opened are the parent's matter.
    verifier = _Verifier(ObjectStore(objects, on_damage=lambda index, error: None))
    return [(number, *verifier.verify(*parts[number])) for number in numbers]


def index_problem(index: str) -> str | None:
    """Return what is wrong with an index and the pack's size, without looking at entries; None if nothing is.

    Raises FileNotFoundError.
    """
    with open(index, "rb") as file:
        data = file.read()
    if sha1(data[:-20]).digest() != data[-20:]:
        return "checksum of the index is wrong"
    if not os.path.exists(index.removesuffix(".idx") + ".pack"):
        return "the pack of this index is missing"
    try:
        Pack(index)
    except CacheError as error:
        return error.message
    return None


def _plan(objects: str, damaged: list[Damage]) -> tuple[list[list[tuple[_Part, int]]], int, int]:
    """Return the parts of all packs that can be opened, in rounds, with their weights; number and size of the packs."""
    rounds: list[list[tuple[_Part, int]]] = [[]]
    packs = size = weight = 0
    for index in _indexes(os.path.join(objects, "pack")):
        with file_errors("read build cache", index), contextlib.suppress(FileNotFoundError):
            problem = index_problem(index)
            if problem is not None:
                damaged.append(Damage(index, problem))
                continue
            pack = Pack(index)
            packs, size = packs + 1, size + pack.size
            step = max(1, pack.count * _PART // pack.size)
            for first in range(0, max(pack.count, 1), step):
                if weight > _ROUND or len(rounds[-1]) == workers.MAXIMUM_PARTS:
                    rounds.append([])
                    weight = 0
                share = pack.size * min(step, pack.count - first) // max(pack.count, 1)
                rounds[-1].append(((index, first, first + step), share))
                weight += share
    return rounds, packs, size


def _indexes(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [os.path.join(directory, name) for name in sorted(names) if name.endswith(".idx")]


def _take(answers: list[Any], parts: list[_Part], found: Objects) -> None:
    """Put what the workers found together."""
    broken: dict[str, tuple[str, list[bytes]]] = {}
    for number, names, kinds, problem, bad in (each for answer in answers for each in answer):
        for position, kind in enumerate(kinds):
            found.kinds[names[20 * position : 20 * position + 20]] = kind
        if problem:
            reason, objects = broken.get(parts[number][0], (problem, []))
            broken[parts[number][0]] = reason, objects + bad
    found.damaged.extend(Damage(index, reason, tuple(objects)) for index, (reason, objects) in sorted(broken.items()))


class _Verifier:
    """Verifies entries in one process; keeps the last pack open."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._pack: Pack | None = None
        self._entries: list[tuple[int, bytes]] = []

    def verify(self, index: str, first: int, last: int) -> tuple[bytes, bytes, str, list[bytes]]:
        """Return names and types of the objects in order; what is wrong, if anything; the damaged objects."""
        try:
            pack = self._open(index)
        except (FileNotFoundError, CacheError):
            return b"", b"", "", []
        entries, ends = self._entries[first:last], self._entries[first + 1 : last + 1]
        names, kinds, problem, bad = [], bytearray(), "", []
        for (offset, name), (end, _) in zip(entries, [*ends, (pack.end, b"")], strict=False):
            try:
                kind = self._verify_entry(pack, offset, end, name)
            except (ValueError, IndexError, struct.error, CacheError) as error:
                problem = problem or f"an object cannot be read: {error}"
                bad.append(name)
            else:
                names.append(name)
                kinds.append(kind)
        if first == 0:
            problem = problem or _file_problem(pack)
        pack.release()
        return b"".join(names), bytes(kinds), problem, bad

    def _open(self, index: str) -> Pack:
        if self._pack is None or self._pack.index_path != index:
            self._pack = Pack(index)
            self._entries = self._pack.entries()
        return self._pack

    def _verify_entry(self, pack: Pack, offset: int, end: int, name: bytes) -> int:
        """Return the type of an object. Raises ValueError, IndexError, struct.error, CacheError."""
        kind, size, start = pack.head(offset)
        if kind in KIND_NAMES:
            digest = sha1(header(kind, size))
            for chunk in deflate.inflate_chunks(pack.data[start:end], _CHUNK):
                digest.update(chunk)
                size -= len(chunk)
            if size:
                raise ValueError("it has another size than it says")
            actual = digest.digest()
        else:
            kind, data = self._store.read_at(pack, offset)
            actual = identify(kind, data)
        if actual != name:
            raise ValueError("it is not what its name says")
        return kind


def _file_problem(pack: Pack) -> str:
    magic, version, count = struct.unpack_from(">4sII", pack.data)
    if magic != b"PACK" or version not in (2, 3) or count != pack.count:
        return "the head of the pack is wrong"
    digest = sha1()
    for start in range(0, pack.end, _CHUNK):
        digest.update(pack.data[start : min(start + _CHUNK, pack.end)])
    return "" if digest.digest() == pack.data[pack.end :] else "checksum of the pack is wrong"


def _verify_loose(objects: str, found: Objects, cancel: CancelToken) -> None:
    """Verify the objects that git(1) left outside of packs; we make none."""
    store = ObjectStore(objects)
    for path, name in loose_objects(objects):
        cancel.check()
        try:
            kind, data = store.read_loose(name)
        except NotInCache:  # Packed by git(1) just now.
            continue
        except CacheError as error:
            found.damaged.append(Damage(path, error.message, (name,)))
            continue
        if identify(kind, data) == name:
            found.kinds[name] = kind
        else:
            found.damaged.append(Damage(path, "an object is not what its name says", (name,)))


def loose_objects(objects: str) -> Iterator[tuple[str, bytes]]:
    """Give path and name of all loose objects."""
    for number in range(256):
        directory = os.path.join(objects, f"{number:02x}")
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(os.listdir(directory)):
                with contextlib.suppress(ValueError):  # A temporary file.
                    name = bytes.fromhex(f"{number:02x}{file}")
                    if len(name) == 20:
                        yield os.path.join(directory, file), name
