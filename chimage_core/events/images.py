"""Events of images in the storage directory."""

from dataclasses import dataclass

from chimage_core.events import Event


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
