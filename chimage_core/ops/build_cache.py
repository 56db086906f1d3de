"""`build-cache`: look at the build cache, or clear it."""

from chimage_core.cache.protocol import CacheGraph, CacheSummary
from chimage_core.errors import CacheDisabled
from chimage_core.workspace import Workspace


def summary(workspace: Workspace) -> CacheSummary:
    """Return how much is in the cache. Raises CacheDisabled."""
    _require(workspace)
    return workspace.cache.summary()


def graph(workspace: Workspace) -> CacheGraph:
    """Return all snapshots. Raises CacheDisabled."""
    _require(workspace)
    return workspace.cache.graph()


def reset_cache(workspace: Workspace) -> None:
    """Clear the cache; images stay. The workspace was opened exclusively. Raises CacheDisabled."""
    _require(workspace)
    workspace.cache.reset()


def _require(workspace: Workspace) -> None:
    if not workspace.cache.keeps_snapshots:
        raise CacheDisabled("the build cache is disabled", hint="omit --no-cache, or unset $CH_IMAGE_CACHE")
