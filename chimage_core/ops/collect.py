"""`build-cache --gc`: collect garbage in the build cache."""

import os
import sys
from typing import NamedTuple

from chimage_core.cache.git.condense import Means
from chimage_core.cache.git.gc import Request, collect
from chimage_core.events.collect import CacheCollected
from chimage_core.proc import find_program
from chimage_core.workspace import Workspace

_DAY = 24 * 60 * 60


class CollectRequest(NamedTuple):
    """What to collect, and how."""

    keep_deleted: float
    """Days for which deleted images can be undeleted; 0: they are all dropped."""
    processors: int | None
    """So many may be used, at most; None: all that this process may use."""


def means_of(processors: int | None) -> Means:
    """Return what compresses packs here; `processors`: so many may be used, at most."""
    usable = len(os.sched_getaffinity(0))
    return Means(find_program("git"), min(usable, processors or usable))


def collect_garbage(workspace: Workspace, request: CollectRequest) -> CacheCollected:
    """Collect garbage, and emit what was done. The workspace was opened exclusively.

    Raises CacheDisabled, CacheError, CacheBroken, NotInCache, FileError, Cancelled.
    """
    engine = workspace.engine
    now = engine.options.clock()
    before = int((now - request.keep_deleted * _DAY) * 1_000_000_000) if request.keep_deleted else sys.maxsize
    event, states = collect(
        engine, Request(before, means_of(request.processors), workspace.layout.large, workspace.layout.uses)
    )
    if states:
        workspace.inputs.expire(states, int(now))
    workspace.emit(event)
    return event
