"""Values as text for people."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimage_core import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ünïcode 漢字", "plain ünïcode 漢字"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b2J", "\\x9b2J"),
        ("bad\udcff", "bad\\xff"),
        ("lone\ud800", "lone\\ud800"),
        ("right\u202eleft", "right\\u202eleft"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
    ],
)
def test_printable_escapes_what_could_steer_a_terminal(raw: str, shown: str) -> None:
    """File names and Dockerfiles are other people's text."""
    assert text.printable(raw) == shown


def test_printable_keeps_what_it_is_told_to_keep() -> None:
    assert text.printable("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"


@settings(database=None, deadline=None)
@given(st.text())
def test_printable_text_can_always_be_encoded_and_has_no_controls(raw: str) -> None:
    shown = text.printable(raw)
    shown.encode()
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)


def test_quoted_argv_reads_back_in_a_shell() -> None:
    assert text.quoted(["echo", "a b", "it's"]) == """echo 'a b' 'it'"'"'s'"""


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.123, "0.12 s"), (4.26, "4.3 s"), (185, "3 min 05 s"), (7380, "2 h 03 min")]
)
def test_durations_show_the_precision_that_matters(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_sizes_are_in_binary_units() -> None:
    assert text.size(3 * 1024 * 1024) == "3.0 MiB"


def test_plural_agrees_with_the_count() -> None:
    assert [text.plural(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
