"""Layouts, frames, and how an instruction in them becomes a file with its expected parse."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

MARK = "‡"
"""Stands in a text before the character that an error must point at; it is taken out again."""

Fields = dict[str, Any]


class Layout(NamedTuple):
    """What stands between two words of an instruction."""

    name: str
    gap: str
    """As in the file; `\\` is the escape character."""
    joined: str
    """What remains of it on the logical line: continuation lines join with their indentation."""
    warns: bool = False
    """It has a blank line, which may have been meant as the end."""


LAYOUTS = (
    Layout("one blank", " ", " "),
    Layout("tabs", "\t\t", "\t\t"),
    Layout("many blanks", " " * 60, " " * 60),
    Layout("continued", " \\\n", " "),
    Layout("continued and indented", " \\\n    ", "     "),
    Layout("continued, indented by 60 blanks", " \\\n" + " " * 60, " " * 61),
    Layout("continued, indented by tabs", "\\\n\t\t", "\t\t"),
    Layout("blanks behind the escape character", " \\ \t \n ", "  "),
    Layout("comment in between", " \\\n# a comment\n ", "  "),
    Layout("indented comments in between", " \\\n\t# one\n  #two\n ", "  "),
    Layout("comment that ends in the escape character", " \\\n# a comment \\\n ", "  "),
    Layout("comment that looks like an instruction", " \\\n#RUN false\n ", "  "),
    Layout("lines of nothing but the escape character", " \\\n  \\\n\\\n ", "    "),
    Layout("blank line in between", " \\\n\n ", "  ", warns=True),
    Layout("line of blanks in between", " \\\n \t \n ", "  ", warns=True),
)


class Frame(NamedTuple):
    """What stands around an instruction."""

    name: str
    before: str = "FROM x\n"
    """Ends with the only FROM. What comes before it is no instruction."""
    indent: str = ""
    keyword: Callable[[str], str] = str.upper
    trailing: str = ""
    """Blanks at the end of the instruction."""
    after: str = "\n"
    newline: str = "\n"
    bom: str = ""
    escape: str = "\\"


def _mixed_case(keyword: str) -> str:
    return "".join(character.upper() if index % 2 else character.lower() for index, character in enumerate(keyword))


FRAMES = (
    Frame("plain"),
    Frame("no newline at the end", after=""),
    Frame("lower case", keyword=str.lower),
    Frame("mixed case", keyword=_mixed_case),
    Frame("indented", indent="   "),
    Frame("indented by a tab", indent="\t"),
    Frame("blank lines and comments around", before="\n# a\n  # b \\\nFROM x\n\n \n#c\n", after="\n\n# d\n\n"),
    Frame("CRLF", newline="\r\n"),
    Frame("CRLF, no newline at the end", newline="\r\n", after=""),
    Frame("byte order mark", bom="\ufeff"),
    Frame("byte order mark and CRLF", bom="\ufeff", newline="\r\n"),
    Frame("blanks at the end", trailing="  \t"),
    Frame("escape character at the end of the file", trailing=" ", after="\\\n"),
    Frame("escape directive", before="# escape=`\nFROM x\n", escape="`"),
    Frame("escape directive in capitals, with CRLF", before="#ESCAPE = `\nFROM x\n", escape="`", newline="\r\n"),
    Frame("needless escape directive", before="# escape=\\\nFROM x\n"),
    Frame("escape directive after a comment, so none", before="# c\n# escape=`\nFROM x\n"),
    Frame("escape directive after a blank line, so none", before="\n# escape=`\nFROM x\n"),
)


class Case(NamedTuple):
    """A file and what must come of it."""

    name: str
    text: str
    expected: list[Fields] | None = None
    """The instructions after the FROM, as `as_json` has them; None: refused."""
    warned: tuple[int, ...] = ()
    """Lines of warnings."""
    errors: tuple[tuple[int, int, str], ...] = ()
    """Line, column, and a part of the message."""


class Sample(NamedTuple):
    """An instruction: words that layouts may part, and what they mean."""

    keyword: str
    words: Sequence[str]
    fields: Callable[[str, str], Fields]
    """From the joined gap and the blanks at the end."""
    options: Fields
    body: str = ""
    """What follows the instruction's line: a newline, and here-documents, the last line of which has none."""


def parsed_case(sample: Sample, layout: Layout, frame: Frame) -> Case:
    """Put a good instruction into a layout and a frame."""
    shown = _instruction(sample.keyword, sample.words, layout, frame)
    line = 1 + frame.before.count("\n")
    place = {"line": line, "end": line + shown.count("\n") + sample.body.count("\n")}
    fields = sample.fields(layout.joined, frame.trailing)
    if "trigger" in fields:
        fields["trigger"].update(place, line=line + layout.gap.count("\n"))
    expected = {"name": sample.keyword.replace("NSYNC", "RSYNC"), **place, "options": sample.options, **fields}
    return Case(
        name=f"{sample.keyword} {' '.join(sample.words)} - {layout.name} - {frame.name}",
        text=_file(frame, shown, sample.body),
        expected=[_with_escape(expected, frame.escape)],
        warned=_warned(shown, line) if layout.warns else (),
    )


def refused_case(keyword: str, words: Sequence[str], part: str, layout: Layout, frame: Frame) -> Case:
    """Put an instruction that has an error at MARK into a layout and a frame. `keyword` may hold the mark, too."""
    shown = _instruction(keyword, words, layout, frame)
    text, errors = located(_file(frame, shown, ""), part)
    return Case(
        name=f"{keyword} {' '.join(words)} - {layout.name} - {frame.name}",
        text=text,
        errors=errors,
    )


def located(marked: str, *parts: str) -> tuple[str, tuple[tuple[int, int, str], ...]]:
    """Return a text without its marks, and where each of them stood, with a part of the message that is expected."""
    errors, text = [], ""
    pieces = marked.split(MARK)
    assert len(pieces) == len(parts) + 1, "a mark for each error"
    for piece, part in zip(pieces, parts, strict=False):
        text += piece
        head = text.removeprefix("\ufeff")
        errors.append((head.count("\n") + 1, len(head) - head.rfind("\n"), part))
    return text + pieces[-1], tuple(errors)


def crossed(first: Sequence[Any], second: Sequence[Any], third: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield all pairs of `first` and `second`, each with one of `third`, which takes turns."""
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            yield one, other, third[(row * 7 + column) % len(third)]


def _instruction(keyword: str, words: Sequence[str], layout: Layout, frame: Frame) -> str:
    gap = layout.gap.replace("\\", frame.escape)
    changed = [word.replace("\\", frame.escape) for word in words]
    return gap.join([frame.indent + frame.keyword(keyword), *changed])


def _with_escape(value: Any, escape: str) -> Any:
    """Return what is expected if another character escapes."""
    if isinstance(value, str):
        return value.replace("\\", escape)
    if isinstance(value, list):
        return [_with_escape(item, escape) for item in value]
    return {key: _with_escape(item, escape) for key, item in value.items()} if isinstance(value, dict) else value


def _file(frame: Frame, shown: str, body: str) -> str:
    text = f"{frame.before}{shown}{frame.trailing}{body}{frame.after}"
    return frame.bom + text.replace("\n", frame.newline)


def _warned(shown: str, first: int) -> tuple[int, ...]:
    return next(((first + number,) for number, line in enumerate(shown.split("\n")) if not line.strip()), ())
