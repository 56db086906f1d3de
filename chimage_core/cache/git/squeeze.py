"""Deflate stored objects again, harder, in several processes.

A commit stores or deflates as fast as it can; what is kept longer is worth more time. On a Debian image zlib level 6
makes all 11 states of a history 1.10 times as big as Git's own best does, level 4 1.14 times, for three quarters of the
time. What ISA-L could not shrink at all is left alone.
"""

import os
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from chimage_core.cache.git import deflate, workers
from chimage_core.cache.git.entries import Entry
from chimage_core.cache.git.packfile import REPAIR_HINT, Pack
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, file_errors

_LEVEL = 6
_WHOLE = 4 << 20
"""Bigger objects are not in memory as a whole."""
_CHUNK = 1 << 20
_LEAST = 32
"""Shorter objects cannot shrink."""
_LEAST_DEFLATED = 16 << 10
"""Shorter objects that ISA-L has deflated have not much to gain (it is not given such, see `deflate`)."""
_SAMPLE = 64 << 10
_INCOMPRESSIBLE = 0.95
_WORTHWHILE = 0.98
_PART = 4 << 20
"""Bytes of entries in one part of the work, at least."""


class Squeezed(NamedTuple):
    """Entries as they stand in a file, one after the other."""

    path: str
    sizes: dict[bytes, int]
    """Bytes of each, by name, in the order of the file."""


def squeeze(entries: Sequence[Entry], directory: str, processes: int, cancel: CancelToken) -> list[Squeezed]:
    """Deflate entries that are no deltas into files in `directory`; leave out those that would not become smaller.

    Raises CacheError, CacheBroken, FileError, Cancelled.
    """
    parts = _divide(entries)
    indexes = list(dict.fromkeys(entry.pack.index_path for entry in entries))
    numbers = {index: number for number, index in enumerate(indexes)}
    places = [
        array("Q", [number for entry in part for number in (numbers[entry.pack.index_path], entry.start, entry.end)])
        for part in parts
    ]
    payload = directory, indexes, [place.tobytes() for place in places]
    answers = workers.run(squeeze_parts, payload, len(parts), processes, cancel) if parts else []
    found = []
    for number, sizes in sorted(each for answer in answers for each in answer):
        known = zip(parts[number], array("Q", sizes), strict=True)
        found.append(Squeezed(_path(directory, number), {entry.name: size for entry, size in known if size}))
    return found


def squeeze_parts(payload: Any, numbers: Iterator[int]) -> Any:
    """Deflate parts (a task of `workers`)."""
    directory, indexes, parts = payload
    packs: dict[int, Pack] = {}
    answers = []
    for number in numbers:
        path = _path(directory, number)
        sizes = array("Q")
        with file_errors("write", path), open(path, "wb") as file:
            places = array("Q", parts[number])
            for position in range(0, len(places), 3):
                index, start, end = places[position : position + 3]
                if index not in packs:
                    packs[index] = Pack(indexes[index])
                sizes.append(_squeeze(packs[index], start, end, file))
        answers.append((number, sizes.tobytes()))
    return answers


def _squeeze(pack: Pack, start: int, end: int, file: BinaryIO) -> int:
    """Append an entry to a file, unless it would not become smaller; return its new size, or 0."""
    try:
        _, size, stream = pack.head(start)
        raw = pack.data[stream:end]
        if _is_hopeless(raw, size):
            return 0
        before = file.tell()
        file.write(pack.data[start:stream])
        file.writelines(_deflated(raw, size))
    except (ValueError, IndexError) as error:
        raise CacheBroken(f"entry at {start} of {pack.path} is damaged: {error}", hint=REPAIR_HINT) from error
    if size > _WHOLE:
        pack.release()
    squeezed = file.tell() - before
    if squeezed < end - start:
        return squeezed
    file.seek(before)
    file.truncate()
    return 0


def _is_hopeless(raw: memoryview, size: int) -> bool:
    """Return whether an object is not worth trying. Of big ones, and those that were not deflated, only the beginning
    is tried."""
    is_deflated = len(raw) < _INCOMPRESSIBLE * size
    if size < _LEAST_DEFLATED:
        return is_deflated or size < _LEAST
    if is_deflated and size <= _WHOLE:
        return False
    sample = next(deflate.inflate_chunks(raw, _SAMPLE))
    before = len(deflate.deflated(sample))
    if is_deflated:
        return len(zlib.compress(sample, _LEVEL)) > _WORTHWHILE * before
    return before > _INCOMPRESSIBLE * len(sample)


def _deflated(raw: memoryview, size: int) -> Iterator[bytes]:
    if size <= _WHOLE:
        yield zlib.compress(deflate.inflate(raw, size), _LEVEL)
        return
    stream = zlib.compressobj(_LEVEL)
    for chunk in deflate.inflate_chunks(raw, _CHUNK):
        yield stream.compress(chunk)
    yield stream.flush()


def _divide(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Divide entries into parts of about the same size."""
    limit = max(_PART, sum(entry.size for entry in entries) // (workers.MAXIMUM_PARTS - 1) + 1)
    parts: list[list[Entry]] = []
    size = limit
    for entry in entries:
        if size >= limit:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += entry.size
    return parts


def _path(directory: str, number: int) -> str:
    return os.path.join(directory, f"squeezed-{number}")
