"""Which states there are by the beginning of their names, what one was made from, and which images build on it."""

from typing import NamedTuple

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.graph import read_commits
from chimage_core.cache.git.objects import COMMIT, Commit
from chimage_core.cache.git.refs import IMAGES, STATES, unescape
from chimage_core.cache.state import StateID
from chimage_core.errors import NotInCache


class Lineage(NamedTuple):
    """Where a state stands among others."""

    state: StateID
    text: str
    """The instruction that made it."""
    time: int
    """Seconds since the epoch."""
    parent: StateID | None
    images: tuple[str, ...]
    """Names (file form) of the images that are at this state, or were made from it."""


def states_beginning_with(engine: Engine, digits: str) -> list[str]:
    """Return the hexadecimal names of all states of our own cache that begin so, sorted."""
    names = (name.removeprefix(STATES) for name in engine.references.names(STATES))
    return sorted(name for name in names if name.startswith(digits))


def lineage(engine: Engine, state: StateID) -> Lineage | None:
    """Return where a state stands, also one of a shared cache; None if it is not cached. Raises CacheBroken."""
    reference = STATES + state.hex
    name = engine.lookup(reference)
    if name is None:
        shared = engine.lookup_shared(reference)
        if shared is None:
            return None
        name = shared[0]
    commit = Commit.decode(engine.store.read_kind(name, COMMIT))
    parents = [_state(engine, parent) for parent in commit.parents]
    return Lineage(state, commit.text, commit.time, parents[0] if parents else None, _images_with(engine, name))


def _state(engine: Engine, commit: bytes) -> StateID | None:
    try:
        return engine.snapshot(commit).state
    except NotInCache:  # A history that was cut off.
        return None


def _images_with(engine: Engine, wanted: bytes) -> tuple[str, ...]:
    heads = engine.references.below(IMAGES)
    commits = read_commits(engine.store, set(heads.values()))
    found = []
    for reference, name in heads.items():
        step: bytes | None = name
        while step is not None and step != wanted:
            commit = commits.get(step)
            step = commit.parents[0] if commit is not None and commit.parents else None
        if step is not None:
            found.append(unescape(reference.removeprefix(IMAGES)))
    return tuple(sorted(found))
