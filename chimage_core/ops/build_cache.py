"""`build-cache`: look at the build cache, or clear it. All raise CacheDisabled if it is off."""

from chimage_core.cache.protocol import CacheGraph, CacheSummary
from chimage_core.workspace import Workspace


def summary(workspace: Workspace) -> CacheSummary:
    """Return how much is in the cache."""
    workspace.require_cache()
    return workspace.cache.summary()


def graph(workspace: Workspace) -> CacheGraph:
    """Return all snapshots."""
    workspace.require_cache()
    return workspace.cache.graph()


def reset_cache(workspace: Workspace) -> None:
    """Clear the cache; images stay. The workspace was opened exclusively."""
    workspace.require_cache()
    workspace.cache.reset()
