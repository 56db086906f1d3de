"""A sink that remembers."""

from typing import TypeVar

from chimage_core.events import Event

E = TypeVar("E", bound=Event)


class Recorder(list[Event]):
    """A list of events that is a Sink: pass the recorder itself as `emit`."""

    def __call__(self, event: Event) -> None:
        """Remember an event."""
        self.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the recorded events of one type, in order."""
        return [event for event in self if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        """Return the only recorded event of a type; AssertionError if there is none or more than one."""
        found = self.of(kind)
        assert len(found) == 1, f"expected one {kind.__name__}, recorded: {list(self)}"
        return found[0]
