"""Which parts of a tree may have changed, by name."""

import os
from collections.abc import Iterable
from typing import Union

Touched = dict[bytes, Union["Touched", None]]
"""The entries of a directory that may differ, by name. None: the entry, with all that is below it. Another dict: a
directory of which only these entries may differ, and its own metadata. A directory with an empty dict has only its
own metadata touched."""


def touched_paths(paths: Iterable[str]) -> Touched | None:
    """Return paths (relative, as in `PathsChanged`) as one Touched of the root; None for everything."""
    root: Touched = {}
    for path in paths:
        parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
        if not parts:
            return None
        touch(root, parts)
    return root


def touch(root: Touched, parts: list[bytes]) -> None:
    """Add a path to `root`: the entry and all that is below it."""
    here = root
    for part in parts[:-1]:
        below = here.setdefault(part, {})
        if below is None:
            return
        here = below
    here[parts[-1]] = None
