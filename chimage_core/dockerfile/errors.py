"""Errors in a Dockerfile: all syntax errors of a file at once, or one instruction that cannot be carried out."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chimage_core.dockerfile.ast import Instruction, SourceRange
from chimage_core.errors import Cancelled, ChimageError, DockerfileError, RunFailed
from chimage_core.text import printable

MAX_SHOWN = 10
"""More errors than this in one file are not shown: it is of another kind, or the first ones tell enough."""

_WIDEST = 120
"""Characters of a line that are shown: the line may be a whole binary file."""


class Fault(NamedTuple):
    """One syntax error."""

    line: int
    column: int
    """Both count from 1, in characters."""
    excerpt: str | None
    """The physical line; None if there is nothing to show."""
    message: str
    """What was wrong and what was expected."""


class SyntaxProblem(DockerfileError):
    """A file that does not parse. Its message shows the first errors with their places; `faults` has them as values."""

    code = "dockerfile.syntax"

    def __init__(self, path: str, faults: Sequence[Fault]) -> None:
        """`faults` holds at least one; those that come first in the file, MAX_SHOWN at most, are kept."""
        self.path = path
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line, fault.column))[:MAX_SHOWN])
        self.has_more = len(faults) > MAX_SHOWN
        parts = [_show(path, fault) for fault in self.faults]
        if self.has_more:
            parts.append("… and more errors")
        super().__init__("\n".join(parts))


class NoInstructions(DockerfileError):
    """A file without any instruction, or only with ARG."""

    code = "dockerfile.empty"


class InstructionProblem(DockerfileError):
    """An instruction that parses but cannot be carried out."""

    code = "dockerfile.instruction"

    def __init__(self, path: str, place: SourceRange, message: str, *, hint: str | None = None) -> None:
        """`message` starts with the keyword: `COPY: repeated option --chown`."""
        super().__init__(f"{place.line:3d} {message}", hint=hint)
        self.path = path
        self.range = place


class ExpansionProblem(DockerfileError):
    """A word whose variables cannot be expanded."""

    code = "dockerfile.expansion"

    def __init__(self, word: str, offset: int, message: str) -> None:
        """`offset` is the place in `word`, of the `$` if there is one."""
        before, after = _around(word, offset)
        super().__init__(f"{message}: {before}{after}")
        self.word = word
        self.offset = offset
        self.reason = message


@contextlib.contextmanager
def telling_where(path: str, instruction: Instruction) -> Iterator[None]:
    """Add the place in the Dockerfile `path` to an error: whoever raises it below does not know it."""
    try:
        yield
    except (Cancelled, RunFailed):  # Nobody's fault; and the one that tells itself, with the whole command.
        raise
    except ChimageError as error:
        error.message += f"\n  {path}:{instruction.range.line}: {instruction.name}"
        raise


def _show(path: str, fault: Fault) -> str:
    lines = [f"can’t parse: {path}:{fault.line},{fault.column}"]
    if fault.excerpt is not None:
        before, after = (printable(part, keep="\t") for part in _around(fault.excerpt, fault.column - 1))
        # Tabs stay in both lines, so that the caret is below its character at any tab width.
        margin = "".join(character if character == "\t" else " " for character in before)
        lines += [f"  {before}{after}", f"  {margin}^"]
    lines.append(f"  {fault.message}")
    return "\n".join(lines)


def _around(line: str, place: int) -> tuple[str, str]:
    """Return what is shown of a line before a place, and from there on: all, or an excerpt of a long line."""
    start = 0 if len(line) <= _WIDEST else max(0, place - _WIDEST // 2)
    end = start + _WIDEST
    before, after = line[start:place], line[place:end]
    return f"…{before}" if start else before, f"{after}…" if end < len(line) else after
