"""Architectures: what the kernel, registries and users call them.

A registry knows an architecture and perhaps a variant (`arm`, `v7`); we write them as one string, `arm/v7`, and so does
`--arch`. What `uname -m` says is translated; what the user says is passed on as it is.
Source: OCI image-spec v1.1, image-index.md, "Platform Variants"; Go's GOARCH names.
"""

from collections.abc import Iterable

from chimage_core.errors import UsageError

HOST = "host"
"""`--arch`: what this machine is."""
YOLO = "yolo"
"""`--arch`: whatever the registry gives."""

_FROM_MACHINE = {
    "aarch32": "arm/v7",
    "aarch64": "arm64/v8",
    "amd64": "amd64",
    "arm64": "arm64/v8",
    "armv5l": "arm/v5",
    "armv5tejl": "arm/v5",
    "armv5tel": "arm/v5",
    "armv6l": "arm/v6",
    "armv7l": "arm/v7",
    # A 32-bit program asked a 64-bit kernel.
    "armv8l": "arm64/v8",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
    "mips64le": "mips64le",
    "ppc64": "ppc64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "x86_64": "amd64",
}

_FALLBACKS = {
    # Images name the same architecture with and without variant, and not even one image in all its versions alike.
    "amd64": ("amd64/v1",),
    "amd64/v1": ("amd64",),
    "arm": ("arm/v7", "arm/v6", "arm/v5"),
    "arm/v6": ("arm/v5",),
    "arm/v7": ("arm", "arm/v6", "arm/v5"),
    "arm64": ("arm64/v8",),
    "arm64/v8": ("arm64",),
}
"""What else to take, best first, if an architecture is not available: the same, or what runs on it as well."""


def host_architecture(machine: str) -> str:
    """Return what registries call the machine that uname(2) calls `machine`. Raises UsageError if we do not know."""
    try:
        return _FROM_MACHINE[machine.lower()]
    except KeyError:
        raise UsageError(
            f"unknown host architecture: {machine}", hint="name it with --arch, or say --arch=yolo"
        ) from None


def best_available(wanted: str, available: Iterable[str]) -> str | None:
    """Return which of the available architectures to take: the wanted one, else its best fallback, else None."""
    offered = set(available)
    return next((name for name in (wanted, *_FALLBACKS.get(wanted, ())) if name in offered), None)
