"""What is known about a logical line while it becomes an instruction, and how errors in it are raised."""

import re
from typing import NamedTuple

from chimage_core.dockerfile import substitute
from chimage_core.dockerfile.ast import Heredoc, SourceRange
from chimage_core.dockerfile.errors import ExpansionProblem
from chimage_core.dockerfile.lines import LogicalLine, Opener

_WORD = re.compile(r"[^ \t\r\v\f]+")


class LineError(Exception):
    """A syntax error in a logical line. Never leaves the parser."""

    def __init__(
        self, offset: int, message: str, *, place: tuple[int, int] | None = None, is_behind: bool = False
    ) -> None:
        """`offset` counts in the logical line; `place` (physical line, column) overrules it, for here-documents.

        `is_behind`: something is missing behind the character before, which may be the last of its physical line.
        """
        super().__init__(message)
        self.offset = offset
        self.message = message
        self.place = place
        self.is_behind = is_behind

    def place_in(self, line: LogicalLine) -> tuple[int, int]:
        """Return the physical line and column of the error."""
        if self.place is not None:
            return self.place
        number, column = line.place(self.offset - self.is_behind)
        return number, column + self.is_behind


class Token(NamedTuple):
    """A terminal of the grammar, found."""

    type: str
    text: str
    start: int
    """Offset in the logical line."""


class Context(NamedTuple):
    """A logical line and its surroundings."""

    line: LogicalLine
    keyword: str
    """In upper case, as written: NSYNC stays NSYNC."""
    escape: str
    warnings: list[str]
    """Of lists that are no JSON. Grows while the line is read."""

    @property
    def range(self) -> SourceRange:
        """Where the instruction stands."""
        number, column = self.line.place(0)
        return SourceRange(line=number, end_line=self.line.end_line, column=column)

    @property
    def text(self) -> str:
        """What follows the keyword, for announcements."""
        text = self.line.text[len(self.keyword) :].lstrip(substitute.BLANKS)
        return f"{text} <<..." if self.line.openers else text

    @property
    def heredocs(self) -> tuple[Heredoc, ...]:
        """All here-documents of the line."""
        return tuple(opener.heredoc for opener in self.line.openers)

    def words(self, text: str, offset: int) -> list[tuple[int, str]]:
        """Split `text`, which begins at `offset`, at blanks whatever the quotes: offsets in the line, and words.

        Words that open here-documents are left out.
        """
        pieces, copied = list[str](), 0
        for opener in self.line.openers:
            start, end = opener.start - offset, opener.end - offset
            pieces += [text[copied:start], " " * (end - start)]
            copied = end
        text = "".join([*pieces, text[copied:]])
        return [(offset + match.start(), match[0]) for match in _WORD.finditer(text)]

    def check(self, word: str, offset: int, *, exact: bool = True) -> None:
        """Raise LineError if a word that begins at `offset` cannot be expanded, at the `$` or quote.

        Not `exact`: the word has been decoded, so places inside it are not those of the line.
        """
        try:
            substitute.check(word, escape=self.escape)
        except ExpansionProblem as problem:
            raise LineError(offset + problem.offset if exact else offset, problem.reason) from None

    def check_body(self, opener: Opener) -> None:
        """Raise LineError if the body of a here-document that is to be expanded cannot be."""
        body = opener.heredoc.body
        if not opener.heredoc.expand:
            return
        try:
            substitute.check(body, escape=self.escape, has_quotes=False)
        except ExpansionProblem as problem:
            line = opener.body_line + body.count("\n", 0, problem.offset)
            column = problem.offset - body.rfind("\n", 0, problem.offset)
            raise LineError(opener.start, problem.reason, place=(line, column)) from None
