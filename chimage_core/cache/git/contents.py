"""Read the contents of an image's files into the cache, by several processes where that pays."""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chimage_core.cache.git import workers
from chimage_core.cache.git.known import Known
from chimage_core.cache.git.objects import BLOB, identify
from chimage_core.cache.git.packs import PackWriter, identify_file
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.trees import ObjectSink
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError, FileError
from chimage_core.fs.contents import data_extents

MANY_FILES = 200
MANY_BYTES = 8 << 20
"""From here on the contents of a commit are a matter for several processes, and worth deflating."""

_MINIMUM_HOLE = 64 << 10
_PART_FILES = 64
_PART_BYTES = 4 << 20
_LONGEST_TEXT = 16 << 20
"""Bytes up to which a text is kept in packs, whatever else is done with contents of its size: it becomes small there,
and versions of it next to nothing."""
_TEXT_SAMPLE = 8 << 10
_READ_AT_ONCE = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Content:
    """The content of a file or symbolic link."""

    size: int
    """Of the file."""
    may_be_sparse: bool = False
    name: bytes = b""
    """The blob; empty before it was read."""
    extents: list[tuple[int, int]] | None = None
    """The (offset, length) parts that the blob holds; None: all."""
    is_candidate: bool = False
    """It belongs to the large files, unless it turns out to be sparse, or a text: it is named, but not stored."""
    large: bytes = b""
    """Its name among the large files; empty: it is a blob."""


def content_of(status: os.stat_result) -> Content:
    """Return the content of a regular file, not yet read."""
    size = status.st_size
    return Content(size, size >= _MINIMUM_HOLE and status.st_blocks * 512 < size)


def read_content(path: bytes, content: Content, sink: ObjectSink) -> None:
    """Read a file into the sink, or only name it, if it is a large one.

    Raises FileError; CacheError if it changes meanwhile.
    """
    # No context manager: this is done for every file of an image.
    try:
        _read(path, content, sink)
    except OSError as error:
        raise FileError("read file", os.fsdecode(path), error) from error
    except CacheError as error:
        raise CacheError(f"{error.message}: {os.fsdecode(path)}") from error


def _read(path: bytes, content: Content, sink: ObjectSink) -> None:
    descriptor = os.open(path, _OPEN)
    try:
        read_open(descriptor, content, sink)
    finally:
        os.close(descriptor)


def read_open(descriptor: int, content: Content, sink: ObjectSink) -> None:
    """Read an open file into the sink, or only name it, if it is a large one.

    Raises OSError, before anything of the file is in the sink if it is not above 4 MiB; CacheError if it changes
    meanwhile.
    """
    size = content.size
    if content.may_be_sparse:
        content.extents = _find_extents(descriptor, size)
        if content.extents is not None:
            size = sum(length for _, length in content.extents)
    name = _identify_large(descriptor, size) if content.is_candidate and content.extents is None else None
    if name is None:
        content.name = sink.add_file(descriptor, size, content.extents)
    else:
        content.name, content.large = name, name.hex().encode()


def is_text(data: bytes | memoryview) -> bool:
    """Return whether a content is what Git takes for a text: there is no NUL at its beginning."""
    return b"\0" not in bytes(data[:_TEXT_SAMPLE])


def _identify_large(descriptor: int, size: int) -> bytes | None:
    """Return the name of the blob that a file would be; None for a text, which is to be packed."""
    if size > _READ_AT_ONCE:
        if size <= _LONGEST_TEXT and is_text(os.pread(descriptor, _TEXT_SAMPLE, 0)):
            return None
        return identify_file(descriptor, size, [(0, size)])
    data = os.pread(descriptor, size, 0)
    if len(data) != size:
        raise CacheError("a file changed while it was read")
    return None if is_text(data) else identify(BLOB, data)


def _find_extents(descriptor: int, size: int) -> list[tuple[int, int]] | None:
    """Return the parts of a file that hold data, as (offset, length), or None for a file without holes worth keeping.

    Holes shorter than 64 KiB count as data.
    """
    if os.fstat(descriptor).st_size != size:  # Changed meanwhile; who reads it will notice.
        return None
    extents: list[tuple[int, int]] = []
    for start, end in data_extents(descriptor, size):
        previous = sum(extents[-1]) if extents else 0
        if start - previous < _MINIMUM_HOLE:
            start = extents.pop()[0] if extents else 0
        extents.append((start, min(end, size) - start))
    if extents and size - sum(extents[-1]) < _MINIMUM_HOLE:
        start = extents.pop()[0]
        extents.append((start, size - start))
    return None if extents == [(0, size)] else extents


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read many files."""

    objects: str
    """The `objects` directory of the repository."""
    deflated: bool
    sync: bool
    workers: int
    cancel: CancelToken
    parent: bytes = b""
    """The commit on top of which this is; empty: none."""


def is_heavy(files: Sequence[tuple[bytes, Content]]) -> bool:
    """Return whether the files are worth several processes, and deflating."""
    return len(files) > MANY_FILES or sum(content.size for _, content in files) > MANY_BYTES


def read_in_parallel(files: Sequence[tuple[bytes, Content]], reading: Reading, store: ObjectStore) -> None:
    """Read files, given by full path, into packs of their own. Raises FileError, CacheError, Cancelled."""
    parts = _divide(files)
    payload = (
        reading.objects,
        reading.parent,
        reading.deflated,
        reading.sync,
        [
            (
                b"\0".join([files[number][0] for number in part]),
                array("Q", [files[number][1].size for number in part]).tobytes(),
                [position for position, number in enumerate(part) if files[number][1].may_be_sparse],
                [position for position, number in enumerate(part) if files[number][1].is_candidate],
            )
            for part in parts
        ],
    )
    for index, answers in workers.run(pack_files, payload, len(parts), reading.workers, reading.cancel):
        if index is not None:
            store.add_pack(index)
        for part_number, names, extents, large in answers:
            for position, number in enumerate(parts[part_number]):
                content = files[number][1]
                content.name = names[20 * position : 20 * position + 20]
                content.extents = extents.get(position)
                if position in large:
                    content.large = content.name.hex().encode()


def pack_files(payload: Any, numbers: Iterator[int]) -> Any:
    """Read parts of the files into one pack (a task of `workers`)."""
    objects, parent, deflated, sync, parts = payload
    known = Known(ObjectStore(objects), parent)
    answers = []
    with PackWriter(os.path.join(objects, "pack"), known, deflated=deflated, sync=sync) as pack:
        for number in numbers:
            paths, sizes, sparse, candidates = parts[number]
            names, extents, large = [], {}, []
            for position, (path, size) in enumerate(zip(paths.split(b"\0"), array("Q", sizes), strict=True)):
                content = Content(size, position in sparse, is_candidate=position in candidates)
                read_content(path, content, pack)
                names.append(content.name)
                if content.extents is not None:
                    extents[position] = content.extents
                if content.large:
                    large.append(position)
            answers.append((number, b"".join(names), extents, large))
        return pack.finish(), answers


def _divide(files: Sequence[tuple[bytes, Content]]) -> list[list[int]]:
    """Divide files into parts of similar cost, the biggest first, so that no worker ends long after the others."""
    limit = 1
    while True:
        parts, weights, count, size = [[]], [0], 0, 0  # type: tuple[list[list[int]], list[int], int, int]
        for number, (_, content) in enumerate(files):
            if parts[-1] and (count >= _PART_FILES * limit or size + content.size > _PART_BYTES * limit):
                parts.append([])
                weights.append(0)
                count = size = 0
            parts[-1].append(number)
            count += 1
            size += content.size
            weights[-1] = size
        if len(parts) <= workers.MAXIMUM_PARTS:
            order = sorted(range(len(parts)), key=weights.__getitem__, reverse=True)
            return [parts[number] for number in order]
        limit *= 2
