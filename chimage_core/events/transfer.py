"""Events of images on their way from and to registries."""

from dataclasses import dataclass

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRequested(Event):
    """A manifest, or a configuration, is needed."""

    kind: str
    """`manifest list`, `manifest` or `config`."""
    is_here: bool
    """It was downloaded before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRequested(Event):
    """A layer is needed."""

    layer: int
    """From 1, lowest first."""
    layers: int
    digest: str
    size: int | None
    """Bytes; None: unknown."""
    is_here: bool
    """It was downloaded before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgressed(Event):
    """Layers moved, all together. At most ten a second, and one at the end."""

    done: int
    """Bytes."""
    total: int | None
    """Bytes in all; None: unknown."""
    seconds: float
    """Since the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUnpacking(Event):
    """A layer is unpacked over those below it."""

    layer: int
    layers: int
    digest: str
