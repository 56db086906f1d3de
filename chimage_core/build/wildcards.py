"""Wildcards in sources, as Python's glob has them: a leading dot is matched by a dot only.

Not by `glob` itself: that follows symlinks out of the tree, and those of an image to the host. Source: ch-image manual,
"COPY".
"""

import fnmatch
import os
from collections.abc import Callable, Iterator

from chimage_core.errors import file_errors

Directory = Callable[[str], str | None]
"""Where a directory of the tree, by its relative name (the root is ``), really is; None if there is none."""

_ANY_DEPTH = "**"


def matches(directory: Directory, pattern: str, *, any_depth: bool) -> Iterator[str]:
    """Yield the names that a pattern relative to the root stands for, in no order; some may not exist.

    With `any_depth`, `**` stands for any number of directories (not through symlinks); else it is a `*`. Raises
    FileError for a directory that cannot be read.
    """
    # Two `**` can lead to the same name in several ways.
    yield from dict.fromkeys(_below(directory, "", pattern.split("/"), any_depth))


def _below(directory: Directory, top: str, parts: list[str], any_depth: bool) -> Iterator[str]:
    """Yield what the parts of a pattern stand for below a directory."""
    part, rest = parts[0], parts[1:]
    if part == _ANY_DEPTH and any_depth:
        tops = _directories(directory, top) if rest else [top or "."]
    elif any(character in part for character in "*?["):
        tops = [_joined(top, name) for name, _ in _listed(directory, top) if _fits(name, part)]
    else:
        tops = [_joined(top, part)]
    if not rest:
        yield from tops
        return
    for each in tops:
        yield from _below(directory, each, rest, any_depth)


def _directories(directory: Directory, top: str) -> list[str]:
    """Return a directory and all below it, but not hidden ones."""
    found, pending = [], [top]
    while pending:
        here = pending.pop()
        found.append(here)
        pending += [
            _joined(here, name)
            for name, is_directory in _listed(directory, here)
            if is_directory and not name.startswith(".")
        ]
    return found


def _listed(directory: Directory, name: str) -> list[tuple[str, bool]]:
    """Return the names in a directory, and which of them are directories and no symlinks to some."""
    path = directory(name)
    if path is None:
        return []
    with file_errors("read", path), os.scandir(path) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _fits(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))


def _joined(top: str, name: str) -> str:
    return f"{top}/{name}" if top else name
