"""Events of the storage directory."""

from dataclasses import dataclass

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAwaited(Event):
    """A lock is held by somebody else; waiting has begun. Sent once per lock."""

    lock: str
    """What is locked: `storage directory`, or `image NAME`."""
    holder: str
    """Who holds it: host, process number, command line and since when, as far as known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReady(Event):
    """An image is complete and has its name."""

    reference: str
    path: str
    """The unpacked image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDeleted(Event):
    """An image is gone from the storage directory (the build cache may still know it)."""

    reference: str
