"""The states that led to a snapshot, one after the other."""

from typing import NamedTuple

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.objects import COMMIT, Commit
from chimage_core.cache.git.refs import IMAGES, unescape
from chimage_core.cache.protocol import Snapshot
from chimage_core.errors import NotInCache


class PastState(NamedTuple):
    """A state that an image was in."""

    snapshot: Snapshot
    text: str
    """The instruction that made it."""
    time: int
    """Seconds since the epoch."""
    images: tuple[str, ...]
    """Names (file form) of the images that are in this state now."""


def history(engine: Engine, snapshot: Snapshot) -> tuple[PastState, ...]:
    """Return the states that led to a snapshot, oldest first, and that itself. Raises NotInCache, CacheBroken.

    What was cut off (by a shallow fetch) is left out.
    """
    images: dict[bytes, list[str]] = {}
    for reference, commit_name in engine.references.below(IMAGES).items():
        images.setdefault(commit_name, []).append(unescape(reference.removeprefix(IMAGES)))
    found: list[PastState] = []
    name: bytes | None = bytes.fromhex(snapshot.token)
    while name is not None:
        try:
            commit = Commit.decode(engine.store.read_kind(name, COMMIT))
        except NotInCache:
            if not found:
                raise
            break
        here = tuple(sorted(images.get(name, ())))
        found.append(PastState(Snapshot(commit.state, name.hex()), commit.text, commit.time, here))
        name = commit.parents[0] if commit.parents else None
    return tuple(reversed(found))
