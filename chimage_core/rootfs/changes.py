"""What a step may have changed in a root file system: how much of it has to be looked at."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from chimage_core.fs.deferred import Delegate


class AnythingChanged:
    """Nobody watched: the whole tree has to be compared."""

    __slots__ = ()


class PathsChanged(NamedTuple):
    """Only these entries may differ, each with all that is below it, and the metadata of their parent directories."""

    paths: tuple[str, ...]
    """Relative to the root, without `.` and `..`; "" is the root itself, that is, everything."""
    copier: "Delegate | None" = None
    """What has copied files there: the build cache that it came from need not look into them again."""


class UpperChanged(NamedTuple):
    """The exact changes are in an overlay's upper directory and are not yet merged into the root file system."""

    upper: str
    work: str
    """The overlay's work directory, to be removed with the upper one."""


Changes = AnythingChanged | PathsChanged | UpperChanged
