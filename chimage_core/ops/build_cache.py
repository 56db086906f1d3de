"""`build-cache`: look at the build cache, or clear it. All raise CacheDisabled if it is off."""

from typing import TYPE_CHECKING, NamedTuple

from chimage_core.cache.protocol import CacheGraph, CacheSummary
from chimage_core.errors import CacheError
from chimage_core.events import Warned
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.cache.git.statistics import Statistics
    from chimage_core.ops.collect import CollectRequest


class CacheDetails(NamedTuple):
    """What only few want to know of the cache."""

    statistics: "Statistics"
    configuration: tuple[str, ...]
    """The lines of the repository's configuration file."""
    most_packs: int
    """Packs of a size class are merged when there are more."""
    pack_classes: tuple[int, ...]
    """Bytes up to which a pack belongs to each class; bigger ones wait for `--gc`."""
    keep_deleted: float
    """Days for which `--gc` keeps deleted images."""
    git: str | None
    """Path of git(1), which `--gc` uses to find differences between versions; None: it does without."""
    processes: int
    """So many `--gc` uses, at most."""


def summary(workspace: Workspace) -> CacheSummary:
    """Return how much is in the cache."""
    workspace.require_cache()
    return workspace.cache.summary()


def details(workspace: Workspace, request: "CollectRequest") -> CacheDetails:
    """Return statistics and configuration of the repository, and how `request` would have it collected.

    Raises FileError, CacheBroken.
    """
    from chimage_core.cache.git import repository, statistics
    from chimage_core.ops.collect import means_of

    engine, means = workspace.engine, means_of(request.processors)
    return CacheDetails(
        statistics.statistics(engine),
        statistics.configuration(engine),
        most_packs=repository.MANY_PACKS,
        pack_classes=repository.SIZE_CLASSES,
        keep_deleted=request.keep_deleted,
        git=means.git,
        processes=means.processes,
    )


def graph(workspace: Workspace) -> CacheGraph:
    """Return all snapshots."""
    workspace.require_cache()
    return workspace.cache.graph()


def reset_cache(workspace: Workspace) -> None:
    """Clear the cache; images stay, hence those that are only in the cache are unpacked before.

    The workspace was opened exclusively. Raises FileError, Cancelled; nothing is cleared then.
    """
    from chimage_core.ops.heads import unpack_packed_away

    workspace.require_cache()
    for name in workspace.images.packed_away():
        workspace.cancel.check()
        try:
            unpack_packed_away(workspace, name)
        except CacheError as error:  # A damaged cache must not keep itself from being cleared.
            workspace.emit(Warned(text=f"image is lost, it was only in the build cache: {name}: {error}"))
    workspace.cache.reset()
    workspace.inputs.remove()
    workspace.cache_mounts.clear()
