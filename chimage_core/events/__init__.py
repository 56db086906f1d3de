"""What the core reports while it works: typed values, handed to a Sink. It never prints.

An event is a frozen dataclass of plain values. The same object is printed, sent as one JSON line, shown in the app and
asserted in tests. Names are past tense, fields have units. Events of a subject are in a module of their own (`build`,
`steps`, …), because defining dataclasses costs start-up time: what most commands never emit is imported where it is
emitted.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something worth saying that has no type of its own."""

    level: Literal["info", "verbose", "debug"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something is not as the user may expect, but the work goes on."""

    text: str


Sink = Callable[[Event], None]
"""Receives events, in order. It neither blocks for long nor raises."""


def without_repetition(emit: Sink) -> Sink:
    """Return a sink that passes the same warning on only once: what a disk lacks, it lacks for every image.

    It may be used from several threads; `emit` gets one event at a time.
    """
    said: set[str] = set()
    lock = threading.RLock()  # A signal handler may have something to tell, too.

    def sink(event: Event) -> None:
        with lock:
            if isinstance(event, Warned):
                if event.text in said:
                    return
                said.add(event.text)
            emit(event)

    return sink


def plain(value: Any) -> Any:
    """Return a value of an event as JSON has it: named tuples as mappings."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        items = [plain(item) for item in value]
        return items if fields is None else dict(zip(fields, items, strict=True))
    return value
