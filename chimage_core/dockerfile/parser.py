"""Parse a Dockerfile.

Three stages: `lines` makes one logical line per instruction; a formal grammar (`grammar.lark`) parses what follows the
keyword of each of them alone, so that not only the first error is reported; `instructions` makes values of the parse
trees. Words are expanded (`substitute`) when the instruction is carried out; here is checked only that they can be.
"""

import functools
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chimage_core.dockerfile import substitute
from chimage_core.dockerfile.ast import Dockerfile, From, Instruction, ParseWarning, SourceRange
from chimage_core.dockerfile.context import Context, LineError, Token
from chimage_core.dockerfile.errors import MAX_SHOWN, Fault, NoInstructions, SyntaxProblem
from chimage_core.dockerfile.instructions import RULES, USAGE, rule_of, to_instruction
from chimage_core.dockerfile.lines import LogicalLine, Source, read_lines
from chimage_core.dockerfile.options import unknown_option

if TYPE_CHECKING:
    from lark import Lark

_KEYWORD = re.compile(r"[^ \t\r\v\f]+")


def parse(text: str | bytes, path: str) -> Dockerfile:
    """Parse a Dockerfile. `path` is for messages only; `-` means standard input.

    Raises SyntaxProblem with the first errors of the file, or NoInstructions.
    """
    source = read_lines(_decoded(text, path))
    if not source.logical:
        raise NoInstructions(f"no instructions found: {path}")
    parser = _Parser(source)
    instructions = parser.instructions()
    faults = [*source.faults, *parser.faults]
    faults += parser.order_faults(instructions) if not faults else ()
    if faults:
        raise SyntaxProblem(path, faults)
    return Dockerfile(
        path=path,
        directives=source.directives,
        instructions=instructions,
        warnings=tuple(sorted([*source.warnings, *parser.warnings], key=lambda warning: warning.line)),
        escape=source.escape,
    )


def parse_trigger(text: str, *, path: str, place: SourceRange) -> Instruction:
    """Parse an ONBUILD trigger that came with a base image, as `OnBuild.source` has it.

    `place` is that of the FROM, which the result gets too. `path` names the image in messages. Raises as `parse`.
    """
    source = read_lines(text)
    parser = _Parser(source)
    instructions = parser.instructions()
    faults = [*source.faults, *parser.faults]
    if faults:
        raise SyntaxProblem(path, faults)
    if len(instructions) != 1:
        raise NoInstructions(f"expected one instruction as ONBUILD trigger, not {len(instructions)}: {path}")
    return replace(instructions[0], range=place)


class _Parser:
    """Parses the logical lines of one file; errors and warnings are collected."""

    def __init__(self, source: Source) -> None:
        from lark.exceptions import UnexpectedInput

        self._source = source
        self._parse = _grammar(source.escape).parse
        self._refusal = UnexpectedInput
        self.faults: list[Fault] = []
        self.warnings: list[ParseWarning] = []

    def instructions(self) -> tuple[Instruction, ...]:
        """Parse the lines, up to the first error that is not shown any more."""
        parsed = []
        for line in self._source.logical:
            try:
                parsed.append(self._parsed(line))
            except LineError as error:
                self.faults.append(self._fault(line, error))
                if len(self.faults) > MAX_SHOWN:
                    break
        return tuple(parsed)

    def _fault(self, line: LogicalLine, error: LineError) -> Fault:
        number, column = error.place_in(line)
        keyword = _keyword(line.text).upper()
        message = f"{keyword}: {error.message}" if keyword in USAGE else error.message
        return self._source.fault(number, column, f"{line.place(0)[0]:3d} {message}")

    def _parsed(self, line: LogicalLine) -> Instruction:
        context = self._context(line)
        text = context.line.text[len(context.keyword) :].lstrip(substitute.BLANKS)
        start = len(context.line.text) - len(text)
        try:
            tree: Any = self._parse(text, start=rule_of(context.keyword))
        except self._refusal as error:
            raise _explained(error, start, context) from None
        tokens = [Token(leaf.type, str(leaf), start + leaf.start_pos) for leaf in tree.children]
        instruction = to_instruction(tokens, context, lambda offset: self._trigger(context.line, offset))
        for warning in context.warnings:
            self.warnings.append(ParseWarning(line=line.place(0)[0], text=warning, code="not-json"))
        return instruction

    def _trigger(self, line: LogicalLine, start: int) -> Instruction:
        try:
            return self._parsed(line.tail(start))
        except LineError as error:
            raise LineError(start + error.offset, error.message, place=error.place, is_behind=error.is_behind) from None

    def _context(self, line: LogicalLine) -> Context:
        word = _keyword(line.text)
        keyword = word.upper()
        # Capitals of a few other letters are ASCII letters.
        if keyword not in USAGE or not word.isascii():
            raise LineError(0, _unknown_keyword(word))
        if keyword not in ("RUN", "ONBUILD"):
            # Only the shell form of RUN has always shown and keyed trailing blanks.
            line = line._replace(text=line.text.rstrip(substitute.BLANKS))
        return Context(line=line, keyword=keyword, escape=self._source.escape, warnings=[])

    def order_faults(self, instructions: tuple[Instruction, ...]) -> list[Fault]:
        """Return what is wrong with the order of instructions: one fault at most."""
        for instruction in instructions:
            if isinstance(instruction, From):
                return []
            if instruction.name != "ARG":
                message = "first instruction must be ARG or FROM"
                if instruction is not instructions[0]:
                    message = f"{instruction.name} before the first FROM: only ARG may stand there"
                return [self._source.fault(instruction.range.line, instruction.range.column, message)]
        last = instructions[-1].range
        return [self._source.fault(last.line, last.column, "no FROM after this: expected FROM IMAGE")]


@functools.cache
def _grammar(escape: str) -> "Lark":
    """Return the parser for logical lines of files with this escape character: made before, if that is possible."""
    import lark

    from chimage_core.dockerfile import tables

    if escape == "\\" and lark.__version__ == tables.LARK_VERSION:
        return lark.Lark.load({"data": tables.DATA, "memo": tables.MEMO})
    return build_grammar(escape)


def build_grammar(escape: str) -> "Lark":
    """Make the parser of the grammar."""
    from lark import Lark

    with open(os.path.join(os.path.dirname(__file__), "grammar.lark"), encoding="utf-8") as file:
        text = file.read()
    if escape != "\\":
        text = text.replace("\\\\", escape)
    return Lark(text, start=list(RULES), parser="lalr", lexer="contextual", maybe_placeholders=False)


def _keyword(text: str) -> str:
    match = _KEYWORD.match(text)
    assert match is not None, "a logical line is not blank"
    return match[0]


def _decoded(text: str | bytes, path: str) -> str:
    """Return valid text, or raise SyntaxProblem at the first byte that is not UTF-8, or at a NUL."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    bad = None if text.isascii() and "\0" not in text else re.search("[\0\ud800-\udfff]", text)
    if bad is None:
        return text
    code, position = ord(bad[0]), bad.start()
    message = f"byte 0x{code & 0xFF:02x} is not UTF-8" if code else "a NUL byte: this is no text file"
    end = text.find("\n", position)
    start = text.rfind("\n", 0, position) + 1
    excerpt = text[start : end if end >= 0 else len(text)].rstrip("\r")
    line, column = text.count("\n", 0, position) + 1, position - start + 1
    raise SyntaxProblem(path, [Fault(line=line, column=column, excerpt=excerpt, message=message)])


def _unknown_keyword(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word.upper(), USAGE, 1)
    expected = f"did you mean {near[0]}?" if near else "expected a keyword such as FROM, RUN or COPY"
    return f"unknown instruction {word[:40]}; {expected}"


def _explained(error: Exception, start: int, context: Context) -> LineError:
    """Turn an error of the grammar into one that says what is wrong and what was expected.

    `start` is where in the line what the grammar was given begins.
    """
    from lark.exceptions import UnexpectedToken

    text = context.line.text
    is_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    offset = len(text.rstrip(substitute.BLANKS)) if is_end else start + getattr(error, "pos_in_stream", 0)
    rest = "" if is_end else text[offset:]
    expected = f"expected: {USAGE[context.keyword]}"
    if not rest:
        return LineError(offset, f"the line ends too early; {expected}", is_behind=True)
    word = rest.split(maxsplit=1)[0] if rest.split() else rest
    quote = _open_quote(rest, context.escape)
    if quote is not None:
        return LineError(offset + quote, f"quote {rest[quote]} is not closed")
    if word.startswith("--"):
        return LineError(offset, unknown_option(context.keyword, word[2:].partition("=")[0]))
    if context.keyword in ("ENV", "LABEL") and "=" not in word:
        return LineError(offset, f"{word[:40]} has no value; {expected}")
    return LineError(offset, f"unexpected {word[:40]}; {expected}")


def _open_quote(text: str, escape: str) -> int | None:
    """Return the offset of a quote that is never closed in the word at the start of `text`."""
    character = re.escape(escape)
    word = rf"""(?:[^\s"'{character}]|{character}.|"(?:[^"{character}]|{character}.)*"|'[^']*')*"""
    match = re.match(word, text)
    end = match.end() if match else 0
    return end if text[end : end + 1] in ("'", '"') else None
