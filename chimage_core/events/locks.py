"""Events of locks."""

from dataclasses import dataclass

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAwaited(Event):
    """A lock is held by somebody else; waiting has begun. Sent once per lock."""

    lock: str
    """What is locked: `storage directory`, or `image NAME`."""
    holder: str
    """Who holds it: host, process number, command line and since when, as far as known."""
