"""Events of the garbage collection of the build cache."""

from dataclasses import dataclass
from typing import Literal

from chimage_core.events import Event

Phase = Literal["comparing", "compressing", "writing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionAdvanced(Event):
    """The garbage collection went on to something that takes a while."""

    phase: Phase
    objects: int
    """So many objects it is about."""
    size: int
    """Bytes that they take now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCollected(Event):
    """The garbage collection has finished."""

    states: int
    """States that were dropped."""
    deletions: int
    """Deleted images that were dropped: they cannot be undeleted any more."""
    objects: int
    """Objects that were dropped."""
    size_before: int
    """Bytes that the repository took on the disk."""
    size_after: int
    large_files: int
    """Large files that were dropped."""
    large_size: int
    """Bytes that they took on the disk."""
    seconds: float
