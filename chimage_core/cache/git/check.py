"""What is wrong in the repository, and what that means for images, in words for the user."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from chimage_core.cache.git import tidy
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.examine import Examination, image_of, is_ours, misleading
from chimage_core.cache.git.refs import DELETED, IMAGES, PACKED, STATES
from chimage_core.cache.git.soundness import Problem
from chimage_core.text import plural

_ABANDONED = 3600
"""Seconds: what nobody has written to for so long is left over."""


class Finding(NamedTuple):
    """Something that is not as it should be."""

    severity: Literal["error", "warning", "note"]
    """`error`: something is lost or cannot be read; `warning`: something is not what was noted; `note`: harmless."""
    kind: str
    """What it is about: `pack`, `object`, `reference`, `content`, `history`, `configuration`, `stamp`, …"""
    subject: str
    """Which one: a path in the cache or in an image, a name."""
    text: str
    """What is wrong, and what it means."""
    images: tuple[str, ...] = ()
    """Images that cannot be brought back, or need a look."""
    deleted: tuple[str, ...] = ()
    """Deleted images that cannot be recovered."""
    states: tuple[str, ...] = ()
    """State IDs that cannot be used."""

    @property
    def is_wrong(self) -> bool:
        """Whether something has to be done."""
        return self.severity != "note"


def findings(engine: Engine, found: Examination) -> list[Finding]:
    """Return what is wrong, in words for the user."""
    return [
        *_reference_findings(engine, found),
        *_file_findings(engine.repository.path, found),
        *_content_findings(found),
        *_history_findings(found),
        *_leftovers(engine.repository.path, engine.options.clock()),
    ]


def _reference_findings(engine: Engine, found: Examination) -> Iterator[Finding]:
    for name in found.malformed:
        problem = engine.references.packed_problem() if name == PACKED else "it is malformed"
        yield _finding("reference", name, problem or "it was malformed", [name])
    for name, problem in misleading(found).items():
        yield _finding("reference", name, problem, [name])
    for name, commit in found.references.items():
        if not is_ours(name) and commit not in found.objects.kinds:
            yield Finding("error", "reference", name, f"object {commit.hex()} is missing or damaged")


def _file_findings(repository: str, found: Examination) -> Iterator[Finding]:
    for damage in found.objects.damaged:
        lost = [name for name in damage.objects if name not in found.objects.kinds]
        text = damage.reason + (f"; {plural(len(damage.objects), 'object')} damaged" if damage.objects else "")
        if damage.objects and len(lost) < len(damage.objects):
            text += f", {len(damage.objects) - len(lost)} of them intact elsewhere"
        kind = "pack" if damage.path.endswith(".idx") else "object"
        yield Finding("error", kind, os.path.relpath(damage.path.removesuffix(".idx"), repository), text)


def _content_findings(found: Examination) -> Iterator[Finding]:
    """Give one finding for each thing that is missing, with all that need it."""
    names: dict[bytes, list[str]] = {}
    for name, commit in found.references.items():
        names.setdefault(commit, []).append(name)
    needed: dict[str, tuple[Problem, list[str]]] = {}
    for commit, examined in found.commits.items():
        for problem in examined.problems:
            needed.setdefault(problem.subject, (problem, []))[1].extend(names.get(commit, ()))
    for subject, (problem, affected) in sorted(needed.items()):
        yield _finding("content", os.fsdecode(problem.path) or subject, problem.text, affected)


def _history_findings(found: Examination) -> Iterator[Finding]:
    cut = found.cut()
    if cut:
        names = [name for name, commit in found.references.items() if commit in cut]
        text = f"{plural(len(cut), 'snapshot')} intact, but not what came before"
        yield _finding("history", "snapshots", text, names)


def _finding(kind: str, subject: str, text: str, names: Sequence[str]) -> Finding:
    """Return an error that affects these references."""
    images = sorted({image_of(name) or "" for name in names if name.startswith(IMAGES)} - {""})
    deleted = sorted({image_of(name) or "" for name in names if name.startswith(DELETED)} - {""})
    states = sorted(name.removeprefix(STATES) for name in names if name.startswith(STATES))
    return Finding("error", kind, subject, text, tuple(images), tuple(deleted), tuple(states))


def _leftovers(repository: str, now: float) -> Iterator[Finding]:
    """Report temporary files that nobody has written to for a while."""
    old = []
    for path in tidy.leftovers(repository):
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(path).st_mtime < now - _ABANDONED:
                old.append(os.path.relpath(path, repository))
    if old:
        text = f"{plural(len(old), 'file')} of processes that were killed"
        yield Finding("note", "leftover", min(old), text)
