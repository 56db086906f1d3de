"""The workspace: an opened storage directory with everything that works on it. The only place where objects are wired.

It is a bundle, for `ops` alone: everything below is handed the parts it needs.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chimage_core.build.recovery import recover_interrupted, sweep
from chimage_core.cache.protocol import Cache, CacheMode
from chimage_core.cancel import CancelToken
from chimage_core.events import Sink
from chimage_core.image.platform import host_architecture
from chimage_core.runner.supply import RunnerSupply
from chimage_core.settings import Settings
from chimage_core.storage import store
from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.sessions import session


class Workspace(NamedTuple):
    """An opened storage directory."""

    layout: Layout
    locks: Locks
    images: Images
    cache: Cache
    architecture: str
    """The host's, as registries call it, without variant."""
    runners: RunnerSupply
    """What executes RUN."""
    emit: Sink
    cancel: CancelToken


@contextlib.contextmanager
def open_workspace(
    settings: Settings,
    argv: Sequence[str],
    *,
    emit: Sink,
    cancel: CancelToken,
    runner: str = "auto",
    exclusive: bool = False,
) -> Iterator[Workspace]:
    """Open the storage directory for work, making it if needed, and hold its lock.

    `argv` is our command line, for others who wait for us. Raises StorageError, FileError, Cancelled.
    """
    layout = Layout(settings.storage)
    locks = Locks(layout, argv, emit=emit, cancel=cancel, timeout=settings.lock_timeout, enabled=settings.lock)
    store.prepare(layout, locks, emit=emit, old=Layout(settings.old_storage) if settings.old_storage else None)
    workspace = _assembled(settings, layout, locks, runner, emit, cancel)
    # What an interrupted command took apart with the cache, only the cache can put together again.
    keeper = workspace.cache if workspace.cache.keeps_snapshots else _git_cache(settings, layout, emit, cancel)
    if settings.lock:  # Without locks, what looks left behind may be what somebody is making right now.
        sweep(layout, workspace.images, keeper, locks, emit)
    with locks.storage(exclusive=exclusive), session(layout):
        store.validate(layout)  # While we waited, a newer program may have upgraded it.
        try:
            if settings.lock:
                recover_interrupted(workspace.images, keeper, locks, emit)
            yield workspace
        finally:
            workspace.runners.close()


@contextlib.contextmanager
def open_reader(settings: Settings, argv: Sequence[str], *, emit: Sink, cancel: CancelToken) -> Iterator[Workspace]:
    """Open the storage directory for looking at it: takes no lock, makes nothing, waits for nobody.

    A storage directory that is not there looks empty. Raises StorageError, FileError.
    """
    layout = Layout(settings.storage)
    if os.path.lexists(layout.root):
        store.validate(layout)
    locks = Locks(layout, argv, emit=emit, cancel=cancel, timeout=settings.lock_timeout, enabled=settings.lock)
    yield _assembled(settings, layout, locks, "auto", emit, cancel)


def _assembled(
    settings: Settings, layout: Layout, locks: Locks, runner: str, emit: Sink, cancel: CancelToken
) -> Workspace:
    images = Images(layout)
    return Workspace(
        layout=layout,
        locks=locks,
        images=images,
        cache=_cache(settings, layout, images, emit, cancel),
        architecture=host_architecture(os.uname().machine).partition("/")[0],
        runners=RunnerSupply(runner, layout.sides, layout.probes),
        emit=emit,
        cancel=cancel,
    )


def _cache(settings: Settings, layout: Layout, images: Images, emit: Sink, cancel: CancelToken) -> Cache:
    if settings.cache == "disabled":
        from chimage_core.cache.nocache import NoCache

        return NoCache(images.published, images.names, cancel=cancel, xattrs=settings.xattrs)
    mode = CacheMode(settings.cache or "enabled")
    return _git_cache(settings, layout, emit, cancel, mode)


def _git_cache(
    settings: Settings, layout: Layout, emit: Sink, cancel: CancelToken, mode: CacheMode = CacheMode.ENABLED
) -> Cache:
    from chimage_core.cache.git.cache import GitCache

    return GitCache(layout.git, mode=mode, emit=emit, cancel=cancel, xattrs=settings.xattrs)
