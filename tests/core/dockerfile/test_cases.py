"""Dockerfiles made by combination: parsed to what they were made of, or refused where they were spoilt."""

import itertools
from typing import Any

import pytest

from chimage_core.dockerfile.as_json import to_document
from chimage_core.dockerfile.errors import SyntaxProblem
from chimage_core.dockerfile.parser import parse
from chimage_core.dockerfile.substitute import expand, expand_words
from tests.core.dockerfile.cases import faulty, instructions, shapes, words
from tests.core.dockerfile.cases.model import Case
from tests.core.dockerfile.cases.variables import SCOPINGS, Scoping
from tests.support.cli import Chimage


def by_subject(cases: list[Case]) -> Any:
    """Group cases by the first word of their names: a test each would take longer to set up than to run."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.name.partition(" ")[0], []).append(case)
    return [pytest.param(group, id=f"{name}, {len(group)} cases") for name, group in groups.items()]


def test_there_are_many_different_cases() -> None:
    """A generator that stopped to generate would make every test below succeed."""
    good, bad = [*instructions.cases(), *shapes.parsed_cases()], list(faulty.cases())
    assert len({case.text for case in good}) > 3500
    assert len({case.text for case in bad}) > 1000
    assert len({word.text for word in words.chains()}) > 10_000


@pytest.mark.parametrize("cases", by_subject(list(instructions.cases())))
def test_good_instructions_parse_in_every_layout(cases: list[Case]) -> None:
    """Whatever stands between words and around the instruction, it means the same."""
    assert wrongly_parsed(cases) == []


@pytest.mark.parametrize("cases", by_subject(list(shapes.parsed_cases())))
def test_files_of_every_shape_parse(cases: list[Case]) -> None:
    """Continuations inside words, here-documents, directives, lists that are none."""
    assert wrongly_parsed(cases) == []


@pytest.mark.parametrize("cases", by_subject(list(faulty.cases())))
def test_faulty_instructions_are_refused_at_the_place_of_the_error(cases: list[Case]) -> None:
    """And the message shows the physical line with a caret below that place."""
    assert [(case, problem) for case in cases if (problem := wrongly_refused(case))] == []


def test_chains_of_pieces_expand_to_the_chain_of_their_values() -> None:
    """One piece must not change what its neighbour means, in no context."""
    for word in words.chains():
        expanded = expand(word.text, words.VARIABLES, escape=word.escape)
        assert (word.text, expanded.value, expanded.unset) == (word.text, word.value, word.unset)


def test_chains_of_pieces_are_words() -> None:
    """A blank between them separates, unless a quote or an escape character protects it; what is empty vanishes."""
    for one, other in itertools.pairwise(words.PIECES):
        expected = [piece.value for piece in (one, other) if piece.value]
        found = expand_words(f" {one.text}  {other.text}\t", words.VARIABLES)
        assert (one, other, list(found.values)) == (one, other, expected)


@pytest.mark.parametrize("scoping", SCOPINGS, ids=lambda scoping: scoping.name)
def test_variables_have_the_value_of_their_place(chimage: Chimage, scoping: Scoping) -> None:
    """From a real build, but for carrying it out."""
    arguments = [word for argument in scoping.build_args for word in ("--build-arg", argument)]
    done = chimage.run("build", "--dry-run", "-t", "x", *arguments, "-", stdin=scoping.text)
    lines = (line.partition(" LABEL ") for line in done.stderr.splitlines())
    assert tuple(shown for _, separator, shown in lines if separator) == scoping.shown


def wrongly_parsed(cases: list[Case]) -> list[tuple[Case, object]]:
    """Return the cases that do not parse as they should, with what came of them."""
    return [(case, found) for case in cases if (found := parsed(case)) != (case.expected, case.warned)]


def parsed(case: Case) -> tuple[list[dict[str, Any]], tuple[int, ...]] | str:
    """Return the instructions after the FROM and the lines of warnings, or why there are none."""
    try:
        dockerfile = parse(case.text.encode(), "-")
    except SyntaxProblem as problem:
        return problem.message
    return to_document(dockerfile)["instructions"][1:], tuple(warning.line for warning in dockerfile.warnings)


def wrongly_refused(case: Case) -> str | None:
    """Return what is wrong with how a faulty file is refused; None: nothing."""
    try:
        parse(case.text.encode(), "F")
    except SyntaxProblem as problem:
        return next(filter(None, (_badly_told(problem, case, number) for number in range(len(case.errors)))), None) or (
            None if len(problem.faults) == len(case.errors) else f"{len(problem.faults)} errors"
        )
    return "not refused"


def _badly_told(problem: SyntaxProblem, case: Case, number: int) -> str | None:
    """Return what is wrong with one of the errors as it is told."""
    line, column, part = case.errors[number]
    head, excerpt, caret, message = problem.message.splitlines()[4 * number :][:4]
    physical = case.text.removeprefix("\ufeff").split("\n")[line - 1].rstrip("\r")
    if head != f"can’t parse: F:{line},{column}":
        return f"{head}, not {line},{column}"
    if part.lower() not in message.lower():  # It shows keywords as they are written.
        return message
    if excerpt != "  " + physical.replace("\0", "\\x00") or len(caret) != 2 + column or not caret.endswith("^"):
        return f"{excerpt}\n{caret}"
    return None
