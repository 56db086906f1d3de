"""A finding: one thing that is to be said about a Dockerfile."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from chimage_core.dockerfile.ast import Instruction

Severity = Literal["error", "warning", "note"]
"""The build will fail; it is probably not what was meant; it differs from Docker, or is worth knowing."""


_NEAR = 0.8
"""How alike two names must be to be called a slip (see difflib)."""
_MOST = 200
"""Names that are compared: more of them has no file that people write, and it takes time."""


class Finding(NamedTuple):
    """One thing to say, with its place."""

    severity: Severity
    code: str
    """Stable, for scripts: `unset-variable`."""
    line: int
    column: int
    """Both count from 1."""
    text: str
    suggestion: str | None = None
    """What to do; None: nothing has to be done, or `text` says it."""


def at(instruction: Instruction, severity: Severity, code: str, text: str, suggestion: str | None = None) -> Finding:
    """Return a finding about an instruction; `text` goes on after its name."""
    place = instruction.range
    return Finding(severity, code, place.line, place.column, f"{instruction.name}: {text}", suggestion)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that was probably meant; None: there is none so near."""
    import difflib

    near = difflib.get_close_matches(name, known, 1, _NEAR) if len(known) <= _MOST else ()
    return near[0] if near else None
