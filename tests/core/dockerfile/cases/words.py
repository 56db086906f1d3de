"""Words for expansion: chains of pieces whose values are known, in every context that changes nothing about them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

VARIABLES = {"a": "1", "ab": "2", "e": "", "v": "x.tar.gz", "p": "/l/m", "ü": "u"}


class Piece(NamedTuple):
    """A part of a word."""

    text: str
    value: str
    unset: tuple[str, ...] = ()
    """Variables that are reported as not set."""
    is_open: bool = False
    """Ends in a name that characters of names would go on with."""


PIECES: Sequence[Piece] = (
    Piece("t", "t"),
    Piece("$a", "1", is_open=True),
    Piece("$ab", "2", is_open=True),
    Piece("$ü", "u", is_open=True),
    Piece("${a}", "1"),
    Piece("$no", "", ("no",), is_open=True),
    Piece("${no}", "", ("no",)),
    Piece("$.", "$."),
    Piece("$1", "", ("1",), is_open=True),
    Piece("$@", "", ("@",)),
    Piece("${no:-d}", "d"),
    Piece("${no-d}", "d"),
    Piece("${e:-d}", "d"),
    Piece("${e-d}", ""),
    Piece("${no:-}", ""),
    Piece("${no:-'q q'}", "q q"),
    Piece('${no:-"}"}', "}"),
    Piece("${no:-\\}}", "}"),
    Piece("${no:-${e:-$a}}", "1"),
    Piece("${no:-$no}", "", ("no",)),
    Piece("${a:-$no}", "1"),
    Piece("${a:+y}", "y"),
    Piece("${e:+y}", ""),
    Piece("${e+y}", "y"),
    Piece("${no+$nono}", ""),
    Piece("${a:?why}", "1"),
    Piece("${e?why}", ""),
    Piece("${v#*.}", "tar.gz"),
    Piece("${v##*.}", "gz"),
    Piece("${v%.*}", "x.tar"),
    Piece("${v%%.*}", "x"),
    Piece("${v#?}", ".tar.gz"),
    Piece("${v%z}", "x.tar.g"),
    Piece("${v%%*}", ""),
    Piece("${v#y}", "x.tar.gz"),
    Piece("${v/./-}", "x-tar.gz"),
    Piece("${v//./-}", "x-tar-gz"),
    Piece("${v//?ar/$a}", "x.1.gz"),
    Piece("${v/*./}", "gz"),
    Piece("${no#x}", "", ("no",)),
    Piece("\\$a", "$a"),
    Piece("\\q", "q"),
    Piece("\\\\", "\\"),
    Piece("\\'", "'"),
    Piece('\\"', '"'),
    Piece("\\ ", " "),
    Piece("'$a \\'", "$a \\"),
    Piece("''", ""),
    Piece('"$a"', "1"),
    Piece('"${no:-b c}"', "b c"),
    Piece('"\\$a\\"\\\\\\q"', '$a"\\\\q'),
    Piece("\"'$a'\"", "'1'"),
)
"""As they stand outside quotes."""


class Word(NamedTuple):
    """A word and what it comes to."""

    text: str
    value: str
    unset: tuple[str, ...]
    escape: str = "\\"


def chains() -> Iterator[Word]:
    """Yield every piece behind every other, in several contexts."""
    for one in PIECES:
        for other in PIECES:
            if one.is_open and (other.text[0].isalnum() or other.text[0] == "_"):
                continue
            text, value = one.text + other.text, one.value + other.value
            unset = tuple(dict.fromkeys(one.unset + other.unset))
            yield Word(text, value, unset)
            yield Word(f"x{text}", f"x{value}", unset)
            # A default, or a word for a variable that is set, is a word like any other.
            if not _closes(one.text) and not _closes(other.text):
                yield Word(f"${{no:-{text}}}", value, unset)
                yield Word(f"${{a:+{text}}}y", f"{value}y", unset)
                yield Word(f"${{a:-{text}}}", "1", ())
            # Patterns know backslash only, and no piece has one in a pattern.
            yield Word(text.replace("\\", "`"), value.replace("\\", "`"), unset, escape="`")


def _closes(text: str) -> bool:
    """Say whether the text of a piece could be taken for the end of a `${...}` around it."""
    return text.count("}") > text.count("{")
