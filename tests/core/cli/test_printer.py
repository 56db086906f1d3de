"""Events as text: every event has its line."""

import dataclasses
import io
import pkgutil
from importlib import import_module
from typing import Literal

import pytest

import chimage_core.events
from chimage_core.cli.printer import Printer
from chimage_core.errors import ChimageError
from chimage_core.events import Event, Notice, Warned
from chimage_core.events.build import StepResolved
from chimage_core.events.explain import Cause, Recorded

for module in pkgutil.iter_modules(chimage_core.events.__path__, "chimage_core.events."):
    import_module(module.name)

SILENT = {"OutputChunk", "TransferProgressed"}
"""Shown otherwise: what a command prints goes to the terminal directly, and progress to the last line of one."""
SAMPLES = {
    "level": "info",
    "outcome": "hit",
    "seconds": 0.5,
    "text": "text",
    "cause": Cause("new"),
    "recorded": Recorded("0" * 64, "RUN true", "image:latest", 2, 2, 0),
}
"""Values of fields that are more than a number or any string."""


def sample(kind: type[Event]) -> Event:
    fields = {
        field.name: SAMPLES.get(field.name, 1 if field.type is int else "value") for field in dataclasses.fields(kind)
    }
    return kind(**fields)


@pytest.mark.parametrize("kind", Event.__subclasses__(), ids=lambda kind: str(kind.__name__))
def test_an_event_is_printed(kind: type[Event]) -> None:
    """The printer knows events by name only, so a class that was renamed would fall silent."""
    stream = io.StringIO()
    Printer(stream, 2)(sample(kind))
    assert bool(stream.getvalue()) is (kind.__name__ not in SILENT)


def step(name: str, outcome: Literal["hit", "miss", "none"]) -> StepResolved:
    return StepResolved(step=1, line=1, stage=0, name=name, text="x", outcome=outcome, state=None)


@pytest.mark.parametrize(
    ("events", "is_repeated"),
    [
        ([step("RUN.S", "miss")], True),
        ([step("RSYNC", "miss")], True),
        ([step("RUN.S", "hit")], False),
        ([step("COPY", "miss")], False),
        ([Notice(level="info", text="x")] * 10, False),
        ([Notice(level="info", text="x")] * 20, True),
        ([Notice(level="debug", text="x")] * 20, False),
    ],
)
def test_warnings_that_have_scrolled_away_are_repeated_at_the_end(events: list[Event], is_repeated: bool) -> None:
    """A build prints thousands of lines, and a warning that nobody sees might as well not be."""
    stream = io.StringIO()
    printer = Printer(stream, 0)
    for event in (Warned(text="one"), Warned(text="two"), Warned(text="one"), *events, Warned(text="three")):
        printer(event)
    before = stream.getvalue()
    assert before.count("warning: ") == 4
    printer.end()
    assert stream.getvalue() == before + ("warnings: 2\n  one\n  two\n" if is_repeated else "")
    printer.end()
    assert stream.getvalue().count("warnings: ") == int(is_repeated)


def test_warnings_are_repeated_before_the_error_which_comes_last() -> None:
    stream = io.StringIO()
    printer = Printer(stream, 0)
    printer(Warned(text="one"))
    printer(step("RUN.S", "miss"))
    printer.error(ChimageError("broken"))
    assert stream.getvalue().splitlines()[-3:] == ["warnings: 1", "  one", "error: broken"]


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 3), (-2, 0)])
def test_who_wants_no_warnings_gets_none_at_the_end(verbosity: int, lines: int) -> None:
    stream = io.StringIO()
    printer = Printer(stream, verbosity)
    printer(Warned(text="one"))
    printer(step("RUN.S", "miss"))
    printer.end()
    assert len(stream.getvalue().splitlines()) == lines
