"""Platforms: operating system, architecture and variant, as image indexes name them.

Source: OCI image-spec v1.1, image-index.md, "Platform Variants".
"""

import contextlib
from dataclasses import dataclass

from chimage_core.errors import UsageError
from chimage_core.image.architecture import best_available, host_architecture

ARGUMENTS = tuple(f"{side}{part}" for side in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT"))
"""Build arguments that tell platforms."""
_USUAL_VARIANTS = {"amd64/v1": "amd64", "arm64/v8": "arm64"}
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

    @property
    def usual(self) -> "Platform":
        """The same under its usual name: `amd64` for `x86_64`, `arm64` for `arm64/v8`."""
        name = str(self)
        with contextlib.suppress(UsageError):
            name = host_architecture(name)
        architecture, _, variant = _USUAL_VARIANTS.get(name, name).partition("/")
        return Platform(architecture, variant or None, self.system)

    def __str__(self) -> str:
        """The form of `--arch`: without the operating system."""
        return self.architecture if self.variant is None else f"{self.architecture}/{self.variant}"


def is_for(architecture: str, wanted: str) -> bool:
    """Return whether an image of this architecture will do where another one, perhaps with a variant, is `wanted`.

    An image that does not say what it is for, or not which variant, is believed.
    """
    try:
        have, want = Platform.parse(architecture).usual, Platform.parse(wanted).usual
    except UsageError:
        return False
    if have.architecture == want.architecture and None in (have.variant, want.variant):
        return True
    return architecture == "unknown" or best_available(str(want), (str(have),)) is not None


def arguments(target: str, host: str) -> dict[str, str]:
    """Return the values of `ARGUMENTS` for a build on one architecture for another.

    Source: Dockerfile reference, "Automatic platform ARGs in the global scope".
    """
    values = {}
    for side, name in (("TARGET", target), ("BUILD", host)):
        platform = Platform.parse(name).usual
        values[f"{side}PLATFORM"] = f"{platform.system}/{platform}"
        values[f"{side}OS"] = platform.system
        values[f"{side}ARCH"] = platform.architecture
        values[f"{side}VARIANT"] = platform.variant or ""
    return values
