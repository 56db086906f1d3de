"""Platforms: operating system, architecture and variant, as image indexes name them.

Source: OCI image-spec v1.1, image-index.md, "Platform Variants".
"""

from dataclasses import dataclass

from chimage_core.errors import UsageError

_SYSTEMS = frozenset({"darwin", "freebsd", "linux", "windows"})


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image is made for. The constructor raises ValueError for empty parts."""

    architecture: str
    variant: str | None = None
    system: str = "linux"

    def __post_init__(self) -> None:
        if not self.architecture or self.variant == "" or not self.system:
            raise ValueError(f"not a platform: {self!r}")

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """Read `ARCH`, `ARCH/VARIANT`, and either of them after `OS/`. Raises UsageError."""
        parts = text.lower().split("/")
        system = parts.pop(0) if parts[0] in _SYSTEMS and len(parts) > 1 else "linux"
        if len(parts) > 2 or not all(parts):
            raise UsageError(f"not a platform: {text!r}", hint="write ARCH, ARCH/VARIANT or OS/ARCH/VARIANT")
        return cls(parts[0], parts[1] if len(parts) == 2 else None, system)

    def __str__(self) -> str:
        """The form of `--arch`: without the operating system."""
        return self.architecture if self.variant is None else f"{self.architecture}/{self.variant}"
