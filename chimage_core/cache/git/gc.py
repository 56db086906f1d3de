"""Garbage collection: drop what no image needs, nor a deletion that can still be undone, and store the rest well.

Order: references go first, then one pack takes the place of all, then large files go that nothing names any more. So
whatever is referred to is there at any time, and whoever is killed leaves at most something for the next collection.
If nothing has changed since the last one, nothing is done.
"""

import os
import time
from collections.abc import Container, Mapping
from typing import NamedTuple

from chimage_core.cache.git import tidy, uses
from chimage_core.cache.git.condense import Means, condense
from chimage_core.cache.git.dropping import loose_objects
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.graph import disk_use, read_commits
from chimage_core.cache.git.objects import sha1
from chimage_core.cache.git.packedrefs import pack_references
from chimage_core.cache.git.packfile import Pack
from chimage_core.cache.git.reachability import Reach
from chimage_core.cache.git.refs import PACKED, STATES, deletion_name, deletions
from chimage_core.cache.state import StateID
from chimage_core.errors import file_errors
from chimage_core.events.collect import CacheCollected
from chimage_core.fs.atomic import write_file

_NOTE = "gc"
"""Our file in the repository: the name of the last collection's pack and, when it was through, the checksum of
`packed-refs` then. Losing it costs time."""


class Request(NamedTuple):
    """What to collect, and how."""

    deleted_before: int
    """What was deleted before, ns since the epoch, cannot be undeleted any more."""
    means: Means
    large: str
    """Directory of the large files."""
    uses: str
    """The log of what was used when."""


class Collection(NamedTuple):
    """What was done."""

    event: CacheCollected
    states: tuple[StateID, ...]
    """Those that were dropped."""


class _Note(NamedTuple):
    """What the last collection left."""

    pack: str
    checksum: str
    """Of `packed-refs`; empty if it was not through."""


def collect(engine: Engine, request: Request) -> Collection:
    """Collect. The caller holds the storage lock exclusively.

    Raises NotInCache if something is missing that an image needs, CacheBroken, CacheError, FileError, Cancelled; what
    was dropped by then is dropped, and everything else is there.
    """
    started, path = time.monotonic(), engine.repository.path
    dropped: dict[str, bytes] = {}
    objects, large, size_before = 0, (0, 0), disk_use(path)[1]
    if engine.repository.id:
        tidy.sweep(path)
        dropped = expired(engine, request.deleted_before)
        if dropped or not engine.references.is_packed:
            pack_references(path, dropped, sync=engine.options.sync)
        if not is_compressed(engine) or os.path.isdir(request.large):
            objects, large = _collect_objects(engine, request)
    states = tuple(StateID.from_hex(name.removeprefix(STATES)) for name in dropped if name.startswith(STATES))
    event = CacheCollected(
        states=len(states),
        deletions=len(dropped) - len(states),
        objects=objects,
        size_before=size_before,
        size_after=disk_use(path)[1],
        large_files=large[0],
        large_size=large[1],
        seconds=time.monotonic() - started,
    )
    return Collection(event, states)


def expired(engine: Engine, deleted_before: int) -> dict[str, bytes]:
    """Return the references that nothing needs: deletions before a time (ns since the epoch), and states that neither
    an image nor another deletion was made from. Raises CacheBroken."""
    references = engine.references.below("refs/")
    old = {deletion_name(image, when) for image, when, _ in deletions(references) if when < deleted_before}
    heads = [commit for name, commit in references.items() if not name.startswith(STATES) and name not in old]
    needed = read_commits(engine.store, heads)
    return {
        name: commit
        for name, commit in references.items()
        if name in old or (name.startswith(STATES) and commit not in needed)
    }


def _collect_objects(engine: Engine, request: Request) -> tuple[int, tuple[int, int]]:
    """Drop objects and large files that no reference leads to; return how many, and number and bytes of large files."""
    objects, reach = compress(engine, request.means)
    large = _sweep_large(request.large, reach.large)
    with file_errors("write log", request.uses):
        uses.compact(
            request.uses, [bytes.fromhex(name.removeprefix(STATES)) for name in engine.references.names(STATES)]
        )
    return objects, large


def compress(engine: Engine, means: Means) -> tuple[int, Reach]:
    """Put all that a reference leads to into one pack, as small as is worth the time.

    Returns how many other objects were dropped, and what is needed. The caller holds the storage lock exclusively.
    Raises as `collect` does.
    """
    path = engine.repository.path
    if not engine.references.is_packed:
        pack_references(path, {}, sync=engine.options.sync)
    reach = Reach(engine.store, engine.options.cancel)
    reach.add(engine.references.below("refs/").values())

    def begin(pack: str) -> None:
        _write_note(path, _Note(pack, ""))

    objects = condense(engine, reach, {_read_note(path).pack}, means, begin)
    pack = _read_note(path).pack
    if pack:
        _write_note(path, _Note(pack, _checksum(path)))
    return objects, reach


def uncompressed(engine: Engine) -> list[Pack]:
    """Return the packs that no collection has made."""
    settled = _read_note(engine.repository.path).pack
    return [pack for pack in engine.store.packs() if os.path.basename(pack.path) != settled]


def follow(engine: Engine, renamed: Mapping[str, str]) -> None:
    """Take note that packs were written anew with less in them, by their old and new names."""
    note = _read_note(engine.repository.path)
    if note.pack in renamed:
        _write_note(engine.repository.path, _Note(renamed[note.pack], ""))


def is_compressed(engine: Engine) -> bool:
    """Return whether everything is as the last collection left it."""
    path = engine.repository.path
    note = _read_note(path)
    packs = [name for name in os.listdir(engine.repository.packs) if name.endswith(".pack")]
    if packs != [note.pack] or any(loose_objects(engine.repository.objects)):
        return False
    return bool(note.checksum) and note.checksum == _checksum(path)


def _read_note(path: str) -> _Note:
    try:
        with open(os.path.join(path, _NOTE), encoding="ascii", errors="replace") as file:
            words = file.read(256).split()
    except FileNotFoundError:
        words = []
    return _Note(*[*words, "", ""][:2])


def _write_note(path: str, note: _Note) -> None:
    with file_errors("write build cache", path):
        write_file(os.path.join(path, _NOTE), "\n".join([*note, ""]).encode("ascii"), sync=False)


def _checksum(path: str) -> str:
    with open(os.path.join(path, PACKED), "rb") as file:
        return sha1(file.read()).hexdigest()


def _sweep_large(directory: str, live: Container[bytes]) -> tuple[int, int]:
    """Remove large files that no state names; return their number and the bytes that they took."""
    files = size = 0
    with file_errors("remove large files", directory):
        for parent, _, names in os.walk(directory):
            for name in names:
                if os.fsencode(name).partition(b"-")[0] not in live:
                    path = os.path.join(parent, name)
                    status = os.lstat(path)
                    os.unlink(path)
                    files += 1
                    size += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return files, size
