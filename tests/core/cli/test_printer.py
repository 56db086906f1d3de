"""Events as text: every event has its line."""

import dataclasses
import io
import pkgutil
from importlib import import_module

import pytest

import chimage_core.events
from chimage_core.cli.printer import Printer
from chimage_core.events import Event
from chimage_core.events.explain import Cause, Recorded

for module in pkgutil.iter_modules(chimage_core.events.__path__, "chimage_core.events."):
    import_module(module.name)

SILENT = {"OutputChunk"}
"""Shown by others: what a command prints goes to the terminal directly."""
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
