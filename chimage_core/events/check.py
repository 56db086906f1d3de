"""Events of checking and repairing the build cache."""

from dataclasses import dataclass

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckProgress(Event):
    """A part of the objects was verified."""

    done: int
    """Bytes."""
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired(Event):
    """Something was mended, or given up because it cannot be."""

    kind: str
    """What it is about, as in findings of a check."""
    text: str
    is_loss: bool
    """Something is gone that cannot be brought back from here: an image, or a snapshot that has to be built again."""
