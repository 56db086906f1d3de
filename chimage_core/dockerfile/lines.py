"""From the text of a Dockerfile to logical lines: what comes before the grammar.

Byte order mark, parser directives, comments, continuations and the bodies of here-documents all depend on whole lines
and on what came before, which no grammar expresses well. What is left, one logical line per instruction, is the
grammar's.

A logical line is put together from parts of physical lines, so it remembers where each part came from.
Source: Dockerfile reference ("Format", "Here-documents"), and what BuildKit does where that is silent.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.dockerfile.ast import Heredoc, ParseWarning
from chimage_core.dockerfile.errors import Fault

BLANK = r"[ \t\r\v\f]"
_BLANKS = " \t\r\v\f"

# Patterns that few files need are compiled when they are used.
_DIRECTIVE = r"(?s)#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S.*)"
_DIRECTIVES = ("syntax", "escape", "check")

_HAS_HEREDOCS = rf"(?i)(?:ONBUILD{BLANK}+)?(?:RUN|COPY|ADD)(?:{BLANK}|$)"

_OPENER = r"(\d*)<<(-?)"
_SHELL_END = "|&;()<>"
"""Characters that end a word in a shell, and so the name in `cat <<EOF|sh`."""


class Opener(NamedTuple):
    """A word that opens a here-document, and what it opened."""

    start: int
    end: int
    """Offsets in the logical line."""
    descriptor: str
    """Digits before `<<`, mostly none."""
    heredoc: Heredoc
    body_line: int
    """Physical line where the body begins."""

    def moved(self, distance: int) -> "Opener":
        """Return the same opener in a line that begins `distance` characters later."""
        return Opener(
            start=self.start - distance,
            end=self.end - distance,
            descriptor=self.descriptor,
            heredoc=self.heredoc,
            body_line=self.body_line,
        )


class LogicalLine(NamedTuple):
    """An instruction's text on one line, continuations joined, without the bodies of its here-documents."""

    text: str
    """Begins with the keyword; trailing blanks are kept."""
    segments: tuple[tuple[int, int, int], ...]
    """Offset in `text`, physical line, column: where each part begins. In order of offset."""
    end_line: int
    openers: tuple[Opener, ...] = ()

    def place(self, offset: int) -> tuple[int, int]:
        """Return the physical line and column of an offset, both from 1."""
        for start, line, column in reversed(self.segments):
            if start <= offset:
                return line, column + offset - start
        raise ValueError(f"no place has offset {offset}")

    def tail(self, offset: int) -> "LogicalLine":
        """Return the line without its first `offset` characters."""
        rest = [(start - offset, line, column) for start, line, column in self.segments if start > offset]
        return LogicalLine(
            text=self.text[offset:],
            segments=((0, *self.place(offset)), *rest),
            end_line=self.end_line,
            openers=tuple(opener.moved(offset) for opener in self.openers),
        )


class Source(NamedTuple):
    """A Dockerfile taken apart."""

    physical: tuple[str, ...]
    """Lines without their ends, for excerpts."""
    escape: str
    directives: dict[str, str]
    logical: tuple[LogicalLine, ...]
    warnings: tuple[ParseWarning, ...]
    faults: tuple[Fault, ...]

    def fault(self, line: int, column: int, message: str) -> Fault:
        """Return a syntax error at a place of this file."""
        return Fault(line=line, column=column, excerpt=self.physical[line - 1], message=message)


def read_lines(text: str) -> Source:
    """Take a Dockerfile apart. Errors (here-documents without an end) are collected in the result."""
    physical = text.removeprefix("\ufeff").split("\n")
    if physical[-1] == "":
        physical.pop()
    return _Reader(tuple(line.rstrip("\r") for line in physical)).read()


class _Reader:
    """Goes through the physical lines once."""

    def __init__(self, physical: tuple[str, ...]) -> None:
        self._physical = physical
        self._next = 0
        """Index of the line to read next; as a line number, of the line before it."""
        self._escape = "\\"
        self._warnings: list[ParseWarning] = []
        self._faults: list[Fault] = []

    def read(self) -> Source:
        directives = self._directives()
        logical = tuple(self._logical())
        return Source(
            physical=self._physical,
            escape=self._escape,
            directives=directives,
            logical=logical,
            warnings=tuple(self._warnings),
            faults=tuple(self._faults),
        )

    def _directives(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self._physical:
            directive = line.strip()
            match = re.fullmatch(_DIRECTIVE, directive) if directive.startswith("#") else None
            if match is None or match[1].lower() not in _DIRECTIVES:
                break
            self._next += 1
            name, value = match[1].lower(), match[2]
            if name == "escape" and name not in found and value in ("\\", "`"):
                self._escape = value
            else:
                text = f"not supported, ignored: parser directives: {line.strip()}"
                self._warn(self._next, text, "parser-directive")
            found.setdefault(name, value)
        return found

    def _logical(self) -> Iterator[LogicalLine]:
        while self._next < len(self._physical):
            if _is_noise(self._physical[self._next]):
                self._next += 1
                continue
            line = self._joined()
            if line.text.strip(_BLANKS):
                yield self._with_heredocs(line)

    def _joined(self) -> LogicalLine:
        """Read an instruction and its continuations."""
        first = self._physical[self._next]
        indent = len(first) - len(first.lstrip(_BLANKS))
        parts, segments, length = list[str](), list[tuple[int, int, int]](), 0
        is_open, warned = True, False
        while is_open and self._next < len(self._physical):
            line = self._physical[self._next]
            self._next += 1
            if parts and _is_noise(line):
                if not warned and not line.strip(_BLANKS):
                    warned = True
                    text = "empty continuation line: the instruction above goes on after it"
                    self._warn(self._next, text, "empty-continuation")
                continue
            part, is_open = self._continuation(line)
            start = 0 if parts else indent
            segments.append((length, self._next, start + 1))
            parts.append(part[start:])
            length += len(part) - start
        text = "".join(parts)
        line_ = LogicalLine(text=text, segments=tuple(segments), end_line=self._next)
        # A first line of nothing but the escape character leaves the next one's indentation in front.
        return line_.tail(len(text) - len(text.lstrip(_BLANKS))) if text[:1] in tuple(_BLANKS) else line_

    def _continuation(self, line: str) -> tuple[str, bool]:
        """Return the part of a line that counts, and whether the next line continues it."""
        stripped = line.rstrip(" \t")
        if stripped.endswith(self._escape) and not stripped.endswith(self._escape * 2):
            return stripped[:-1], True
        return line, False

    def _with_heredocs(self, line: LogicalLine) -> LogicalLine:
        if "<<" not in line.text or not re.match(_HAS_HEREDOCS, line.text):
            return line
        openers: list[Opener] = []
        for start, end, descriptor, heredoc in _openers(line.text, self._escape):
            found = self._body(heredoc)
            if found is None:
                number, column = line.place(start)
                message = f"here-document has no end: expected a line {heredoc.name}"
                excerpt = self._physical[number - 1]
                self._faults.append(Fault(line=number, column=column, excerpt=excerpt, message=message))
                break
            body, body_line = found
            closed = Heredoc(name=heredoc.name, expand=heredoc.expand, strip_tabs=heredoc.strip_tabs, body=body)
            openers.append(Opener(start=start, end=end, descriptor=descriptor, heredoc=closed, body_line=body_line))
        return LogicalLine(text=line.text, segments=line.segments, end_line=self._next, openers=tuple(openers))

    def _body(self, heredoc: Heredoc) -> tuple[str, int] | None:
        """Read up to the end of a here-document; None if there is no end, and then all is read."""
        start = self._next
        while self._next < len(self._physical):
            line = self._physical[self._next]
            self._next += 1
            if (line.lstrip("\t") if heredoc.strip_tabs else line) == heredoc.name:
                body = self._physical[start : self._next - 1]
                return "".join(f"{text}\n" for text in body), start + 1
        return None

    def _warn(self, line: int, text: str, code: str) -> None:
        self._warnings.append(ParseWarning(line=line, text=text, code=code))


def _is_noise(line: str) -> bool:
    stripped = line.lstrip(_BLANKS)
    return not stripped or stripped.startswith("#")


def _openers(text: str, escape: str) -> Iterator[tuple[int, int, str, Heredoc]]:
    """Yield offsets, descriptor and (without its body) here-document of every word `[N]<<[-]NAME`."""
    words = _shell_words(text, escape)
    pattern = re.compile(_OPENER)
    position, counted, depth = 0, 0, 0
    while position < len(words):
        start, end = words[position]
        position += 1
        match = pattern.match(text, start, end)
        if match is None:
            continue
        depth += text.count("((", counted, start) - text.count("))", counted, start)
        counted = start
        if depth > 0:  # `((1 << 2))` is arithmetic.
            continue
        name_start = match.end()
        if name_start == end and position < len(words):
            name_start, end = words[position]
            position += 1
        raw = _name(text[name_start:end], escape)
        if raw is None:
            continue
        name = _unquoted(raw, escape)
        heredoc = Heredoc(name=name, expand=name == raw, strip_tabs=match[2] == "-", body="")
        yield start, name_start + len(raw), match[1], heredoc


def _shell_words(text: str, escape: str) -> list[tuple[int, int]]:
    """Return the offsets of words, split at blanks outside quotes; none at all if a quote is not closed."""
    character = re.escape(escape)
    word = rf"""(?:[^\s"'{character}]|{character}(?s:.)?|"(?:[^"{character}]|{character}(?s:.))*"|'[^']*')+"""
    words, position = list[tuple[int, int]](), 0
    for match in re.finditer(word, text):
        if text[position : match.start()].strip():
            return []
        words.append(match.span())
        position = match.end()
    return [] if text[position:].strip() else words


def _name(word: str, escape: str) -> str | None:
    """Return the name at the start of `word`, as written; None if there is none, or a `<` follows."""
    character = re.escape(escape)
    match = re.match(rf"""(?:[^{re.escape(_SHELL_END)}"'{character}]|{character}.|"[^"]*"|'[^']*')+""", word)
    if match is None or word[match.end() : match.end() + 1] == "<":
        return None
    return match[0]


def _unquoted(word: str, escape: str) -> str:
    character = re.escape(escape)
    return re.sub(rf"""{character}(.)|"([^"]*)"|'([^']*)'""", lambda match: "".join(filter(None, match.groups())), word)
