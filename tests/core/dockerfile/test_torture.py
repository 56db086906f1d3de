"""Input that is meant to hurt: nothing but our own errors, and no input of 64 KB that takes long.

How long exactly tells `python -m bench.dockerfiles`; here only what grows out of all bounds is found.
"""

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.dockerfile.errors import ExpansionProblem, SyntaxProblem
from chimage_core.dockerfile.parser import parse
from chimage_core.dockerfile.patterns import Pattern
from chimage_core.dockerfile.substitute import MAX_GROWTH, Unset, expand, expand_text
from tests.core.dockerfile import torture

PATIENCE = 20
"""Seconds of processor time for what takes less than half a second: a guard against hanging, no measurement."""


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Fail if the block takes much too long."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"hangs: {name}")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def test_files_of_many_instructions_are_read_or_refused() -> None:
    """A sample; the slow test takes them all."""
    for name, text in itertools.islice(torture.files(), 0, None, 7):
        with guarded(name):
            torture.read(text)


@pytest.mark.slow
def test_all_files_of_many_instructions_are_read_or_refused() -> None:
    for name, text in torture.files():
        with guarded(name):
            torture.read(text)


@pytest.mark.parametrize("head", torture.HEADS)
def test_long_lines_are_read_or_refused(head: str) -> None:
    """A sample; the slow test takes them all."""
    names = [line for line in torture.lines() if line.name.startswith(f"{head} ")]
    step = 149
    for name, text in names[torture.HEADS.index(head) % step :: step]:
        with guarded(name):
            torture.read(text)


@pytest.mark.slow
@pytest.mark.parametrize("head", torture.HEADS)
def test_all_long_lines_are_read_or_refused(head: str) -> None:
    for name, text in torture.lines():
        if name.startswith(f"{head} "):
            with guarded(name):
                torture.read(text)


def test_long_words_expand_or_are_refused() -> None:
    """A sample; the slow test takes them all."""
    for name, word, value in itertools.islice(torture.words(), 0, None, 53):
        with guarded(name):
            torture.expand_in_every_way(word, {"a": value})


@pytest.mark.slow
def test_all_long_words_expand_or_are_refused() -> None:
    for name, word, value in torture.words():
        with guarded(name):
            torture.expand_in_every_way(word, {"a": value})


PARTS = (
    *torture.TAILS,
    *torture.SPECIAL,
    *(f"{head} " for head in torture.HEADS),
    "\n",
    "\nFROM x\n",
    "\nE\n",
    "\nRUN ",
    "\nCOPY <<E /\n",
    "\\\n",
    "\ufeff",
    "\0",
    "\udcff",
)


@st.composite
def dockerfiles(draw: st.DrawFn) -> str:
    """Draw short runs of what means something, some of them long ones."""
    parts = draw(st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from([1, 1, 1, 2, 3, 30])), max_size=30))
    return draw(st.sampled_from(["", "FROM x\n", "# escape=`\nFROM x\n"])) + "".join(part * n for part, n in parts)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=QUIET)
@given(dockerfiles())
def test_any_mixture_is_read_or_refused(text: str) -> None:
    torture.read(text)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, database=None, suppress_health_check=QUIET)
@given(dockerfiles())
def test_very_many_mixtures_are_read_or_refused(text: str) -> None:
    torture.read(text)


@settings(max_examples=300, deadline=None, database=None)
@given(st.text("ab*?", max_size=7), st.text("ab", max_size=7), st.sampled_from(["", "x"]))
def test_patterns_match_as_a_slow_and_simple_matcher_does(pattern: str, value: str, replacement: str) -> None:
    """Which tries every part of the value."""
    parsed = Pattern.parse(pattern)
    prefixes = [end for end in range(len(value) + 1) if _matches(pattern, value[:end])]
    suffixes = [start for start in range(len(value) + 1) if _matches(pattern, value[start:])]
    assert parsed.without_prefix(value, longest=False) == (value[min(prefixes) :] if prefixes else value)
    assert parsed.without_prefix(value, longest=True) == (value[max(prefixes) :] if prefixes else value)
    assert parsed.without_suffix(value, longest=False) == (value[: max(suffixes)] if suffixes else value)
    assert parsed.without_suffix(value, longest=True) == (value[: min(suffixes)] if suffixes else value)
    spans = ((a, b) for a in range(len(value) + 1) for b in range(len(value), a - 1, -1))
    first = next((span for span in spans if _matches(pattern, value[slice(*span)])), None)
    replaced = value if first is None else value[: first[0]] + replacement + value[first[1] :]
    assert parsed.replaced(value, replacement, everywhere=False, limit=100) == replaced


def _matches(pattern: str, text: str) -> bool:
    """Say whether all of a text matches, by trying."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_matches(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _matches(pattern[1:], text[1:])


@pytest.mark.parametrize("word", ["$a$a", "${a}${a}", "${b:-$a}$a", "${a:+$a}$a", "${a//a/$a}", '"$a$a"', "${b:-$a$a}"])
@pytest.mark.parametrize("function", [expand, expand_text])
def test_variables_cannot_grow_without_bounds(function: type[object], word: str) -> None:
    """`ENV a=$a$a`, forty times, would be 2^40 characters."""
    value = "a" * (MAX_GROWTH * 2 // 3)
    for unset in (Unset.EMPTY, Unset.KEEP):
        with pytest.raises(ExpansionProblem, match=f"more than {MAX_GROWTH} characters"):
            function(word, {"a": value}, unset=unset)  # type: ignore[call-arg]


def test_a_value_as_long_as_a_program_can_get_is_all_right() -> None:
    value = "a" * MAX_GROWTH
    assert expand("x$a", {"a": value}).value == "x" + value
    assert expand("${a#b}", {"a": value[1:]}).value == value[1:]


def test_the_message_of_a_long_word_is_short() -> None:
    """The word may be all of a file."""
    with pytest.raises(ExpansionProblem) as caught:
        expand("x" * 50_000 + "${a^}" + "y" * 50_000, {})
    assert "${a^}" in caught.value.message
    assert len(caught.value.message) < 300


def test_a_file_of_another_kind_is_refused_with_ten_errors_only() -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse("#!/bin/sh\n" + "set -e\n" * 20_000, "-")
    assert caught.value.message.endswith("… and more errors")
