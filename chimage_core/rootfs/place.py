"""Where an unpacked image is on disk."""

from typing import NamedTuple


class ImagePlace(NamedTuple):
    """An unpacked image and the private directory beside it. Neither has to exist yet."""

    name: str
    """The image's name in file form (`debian+12`)."""
    root: str
    """The image's root directory. Nothing but the image is in it."""
    side: str
    """Our notes about `root`: stamp, stat cache, overlay directories."""

    @property
    def failed(self) -> str:
        """What the last RUN that failed here had changed: kept for a look until the next build changes the image."""
        return f"{self.side}/failed"
