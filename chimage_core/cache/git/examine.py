"""Examine the whole repository: its references, objects, and snapshots. Everything is read, nothing is changed.

References are read before objects are: what they lead to is then older than the objects that we see, since references
are written last.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.refs import DELETED, IMAGES, PACKED, STATES, unescape
from chimage_core.cache.git.soundness import Examined, Soundness
from chimage_core.cache.git.verify import Objects, verify
from chimage_core.errors import CacheBroken, InvalidReference
from chimage_core.image.reference import Reference

_KNOWN = (STATES, IMAGES, DELETED, "refs/heads/", "refs/tags/", "refs/remotes/", "refs/notes/")
"""What references begin with that are ours, or that users of git may have made."""


class Examination(NamedTuple):
    """All that was found out about a repository."""

    references: dict[str, bytes]
    malformed: list[str]
    """Names of references that cannot be read."""
    objects: Objects
    commits: dict[bytes, Examined]
    """All that references lead to, and their ancestors."""
    directories: int
    """Number of different directories in them."""

    def is_whole(self, commit: bytes) -> bool:
        """Tell whether the snapshot itself can be brought back, whatever happened to its ancestors."""
        examined = self.commits.get(commit)
        return examined is not None and not examined.problems

    def cut(self) -> set[bytes]:
        """Return the whole snapshots that have an ancestor that is not."""
        found: set[bytes] = set()
        for name in ancestors_first(self.commits):
            commit = self.commits[name].commit
            if commit is None or not self.is_whole(name):
                continue
            if any(parent in found or not self.is_whole(parent) for parent in commit.parents):
                found.add(name)
        return found


def examine(
    engine: Engine,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    objects: Objects | None = None,
) -> Examination:
    """Examine the whole repository; without the objects if they were verified already. Raises FileError, Cancelled."""
    repository, options = engine.repository, engine.options
    references, malformed = engine.references.survey("refs/")
    objects = objects or verify(repository.objects, options.workers, options.cancel, progress)
    store = ObjectStore(repository.objects, on_damage=lambda index, error: None)
    large = partial(engine.large.problem, reads=True)
    soundness = Soundness(store, objects, large, options.cancel)
    commits = soundness.examine(commit for name, commit in references.items() if is_ours(name))
    return Examination(references, malformed, objects, commits, soundness.directories)


def is_ours(reference: str) -> bool:
    """Tell whether a reference has to lead to a snapshot."""
    return reference.startswith((STATES, IMAGES, DELETED))


def ancestors_first(commits: dict[bytes, Examined]) -> Iterator[bytes]:
    """Give the names of commits, each after its parents."""
    given: set[bytes] = set()
    pending = list(commits)
    while pending:
        name = pending[-1]
        commit = commits[name].commit
        missing = [parent for parent in commit.parents if parent in commits and parent not in given] if commit else []
        if missing and name not in given:
            pending += missing
            continue
        pending.pop()
        if name not in given:
            given.add(name)
            yield name


def misleading(found: Examination) -> dict[str, str]:
    """Return the references that lead to something else than they say, and to what."""
    wrong = {}
    for name, commit in found.references.items():
        if name.startswith(STATES):
            snapshot = found.commits[commit].commit
            if snapshot is not None and snapshot.state.hex != name.removeprefix(STATES):
                wrong[name] = f"it leads to state {snapshot.state.hex[:12]}"
        elif not name.startswith(_KNOWN):
            wrong[name] = "it is none that we or git make"
        elif name.startswith((IMAGES, DELETED)) and image_of(name) is None:
            wrong[name] = "it is not the name of an image"
    return wrong


def lost_states(found: Examination) -> bool:
    """Tell whether references of states are gone that nobody removed: their file is damaged, or there is not one."""
    return PACKED in found.malformed or not any(name.startswith(STATES) for name in found.references)


def image_of(reference: str) -> str | None:
    """Return the image that a reference is about, as users write it; None if it is about none."""
    for prefix in (IMAGES, DELETED):
        if reference.startswith(prefix):
            component = reference.removeprefix(prefix).partition("/")[0]
            try:
                return str(Reference.from_file_name(unescape(component)))
            except (CacheBroken, InvalidReference):
                return None
    return None
