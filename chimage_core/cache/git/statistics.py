"""Numbers about the repository, as `git count-objects -v` gives them, without Git.

Source: git-count-objects(1), gitformat-pack(5).
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.cache.git.engine import Engine
from chimage_core.errors import file_errors

_COUNT_AT = 8 + 255 * 4
"""Where an index of version 2 says how many objects there are."""
_FOLDER = re.compile(r"[0-9a-f]{2}")
_LOOSE = re.compile(r"[0-9a-f]{38}")
_PACK_FILE = re.compile(r"pack-[0-9a-f]{40}\.(pack|idx|keep|rev|bitmap|mtimes|promisor)")


class Statistics(NamedTuple):
    """Numbers about the repository. Sizes are bytes."""

    loose_objects: int
    loose_bytes: int
    """On the disk."""
    packed_objects: int
    """Those that are in several packs count several times."""
    packs: int
    pack_bytes: int
    """With their indexes."""
    redundant_objects: int
    """Loose ones that are in a pack, too."""
    garbage_files: int
    """What belongs to no pack: left by killed processes."""
    garbage_bytes: int


def statistics(engine: Engine) -> Statistics:
    """Count. Others may write or merge packs meanwhile. Raises FileError, CacheBroken."""
    loose = list(_loose(engine.repository.objects))
    packs = packed = pack_bytes = garbage = garbage_bytes = 0
    for path, status in _files(engine.repository.packs):
        kind = _pack_file(path)
        if kind is None:
            garbage += 1
            garbage_bytes += status.st_size
        elif kind in ("pack", "idx"):
            pack_bytes += status.st_size
        if kind == "idx":
            packs += 1
            packed += _object_count(path)
    return Statistics(
        loose_objects=len(loose),
        loose_bytes=sum(size for _, size in loose),
        packed_objects=packed,
        packs=packs,
        pack_bytes=pack_bytes,
        redundant_objects=sum(engine.store.contains(name) for name, _ in loose),
        garbage_files=garbage,
        garbage_bytes=garbage_bytes,
    )


def configuration(engine: Engine) -> tuple[str, ...]:
    """Return the lines of the repository's configuration; none before it exists. Raises FileError."""
    path = os.path.join(engine.repository.path, "config")
    with file_errors("read build cache", path):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return tuple(file.read().splitlines())
        except FileNotFoundError:
            return ()


def _pack_file(path: str) -> str | None:
    """Return what kind of file of a pack this is; None: of no complete pack."""
    match = _PACK_FILE.fullmatch(os.path.basename(path))
    if match is None:
        return None
    stem = os.path.splitext(path)[0]
    return match[1] if os.path.exists(f"{stem}.idx") and os.path.exists(f"{stem}.pack") else None


def _loose(objects: str) -> Iterator[tuple[bytes, int]]:
    """Yield name and size of the objects that are files of their own."""
    for folder in _names(objects):
        if _FOLDER.fullmatch(folder):
            for path, status in _files(os.path.join(objects, folder)):
                name = os.path.basename(path)
                if _LOOSE.fullmatch(name):
                    yield bytes.fromhex(folder + name), status.st_blocks * 512


def _files(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    for name in _names(directory):
        path = os.path.join(directory, name)
        with contextlib.suppress(FileNotFoundError):  # Merged into another one just now.
            yield path, os.lstat(path)


def _names(directory: str) -> list[str]:
    with file_errors("read build cache", directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []


def _object_count(index: str) -> int:
    with file_errors("read build cache", index):
        try:
            with open(index, "rb") as file:
                return int.from_bytes(os.pread(file.fileno(), 4, _COUNT_AT), "big")
        except FileNotFoundError:
            return 0
