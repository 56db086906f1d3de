"""The workspace: an opened storage directory with everything that works on it. The only place where objects are wired.

It is a bundle, for `ops` alone: everything below is handed the parts it needs.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.cancel import CancelToken
from chimage_core.errors import ChimageError, DependencyMissing, FileError, RunnerError, UsageError
from chimage_core.events import Sink, Warned, without_repetition
from chimage_core.runner.supply import RunnerSupply
from chimage_core.settings import Settings
from chimage_core.storage import store
from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.sessions import session

if TYPE_CHECKING:
    # Imported where it is used: listing images must not pay for it.
    from chimage_core.cache.git.cache import GitCache
    from chimage_core.cache.git.engine import Engine
    from chimage_core.cache.git.shared import SharedCache
    from chimage_core.cache.inputs_store import InputsStore
    from chimage_core.cache.protocol import Cache
    from chimage_core.registry.credentials import Ask
    from chimage_core.registry.registries import Registries
    from chimage_core.registry.remote import Remote
    from chimage_core.storage.cache_mounts import CacheMounts


class Workspace:
    """An opened storage directory."""

    def __init__(
        self,
        layout: Layout,
        locks: Locks,
        *,
        open_git_cache: "Callable[[Callable[[], bool]], GitCache]",
        open_no_cache: "Callable[[Images], Cache] | None",
        open_inputs: "Callable[[], InputsStore]",
        open_remote: "Callable[[], Remote]",
        open_registries: "Callable[[], Registries]",
        rebuilds: bool,
        runner: str,
        emit: Sink,
        cancel: CancelToken,
    ) -> None:
        """`open_no_cache` is given if nothing is to be cached. `rebuilds`: all but FROM is carried out again.
        `runner`: what executes RUN, in words of `--runner`."""
        self.layout = layout
        self.locks = locks
        self.images = Images(layout)
        self.rebuilds = rebuilds
        self.runners = RunnerSupply(runner, layout.sides, layout.probes)
        self.emit = emit
        self.cancel = cancel
        self._open_git_cache = open_git_cache
        self._open_no_cache = open_no_cache
        self._open_inputs = open_inputs
        self._open_remote = open_remote
        self._open_registries = open_registries

    @cached_property
    def cache(self) -> "Cache":
        """The build cache as the user wants it, opened when it is first asked for.

        Raises FileError, CacheError, CacheBroken.
        """
        return self._open_no_cache(self.images) if self._open_no_cache else self.lasting_cache

    @cached_property
    def lasting_cache(self) -> "GitCache":
        """The build cache on the disk, also where `cache` is off: deleting and recovering concern it, too."""
        return self._open_git_cache(self._has_overlays)

    @cached_property
    def cache_mounts(self) -> "CacheMounts":
        """Contents of RUN --mount=type=cache."""
        from chimage_core.storage.cache_mounts import CacheMounts

        return CacheMounts(self.layout, self.locks)

    @cached_property
    def inputs(self) -> "InputsStore":
        """What the states of the build cache were made of."""
        return self._open_inputs()

    @cached_property
    def remote(self) -> "Remote":
        """What can be had from other machines."""
        return self._open_remote()

    @cached_property
    def registries(self) -> "Registries":
        """Where images come from and go to. Raises UsageError, FileError for settings that make no sense."""
        return self._open_registries()

    @property
    def engine(self) -> "Engine":
        """The opened repository of the build cache, for looking into it and for its upkeep. Raises CacheDisabled."""
        self.require_cache()
        return self.lasting_cache.engine

    def close(self) -> None:
        """Close what was opened: runners, connections."""
        self.runners.close()
        if "remote" in vars(self):
            self.remote.close()
        if "registries" in vars(self):
            self.registries.close()

    def require_cache(self) -> None:
        """Raise CacheDisabled if the build cache is off."""
        if self._open_no_cache is not None:
            from chimage_core.errors import CacheDisabled

            raise CacheDisabled("the build cache is disabled", hint="omit --no-cache, or unset $CH_IMAGE_CACHE")

    def _has_overlays(self) -> bool:
        """Tell whether RUN works on overlays here; not if nothing can be run at all."""
        try:
            return self.runners.can_overlay()
        except (RunnerError, DependencyMissing):
            return False

    @cached_property
    def architecture(self) -> str:
        """The host's, as registries call it, without variant. Raises UsageError."""
        from chimage_core.image.architecture import host_architecture

        return host_architecture(os.uname().machine).partition("/")[0]


@contextlib.contextmanager
def open_workspace(
    settings: Settings,
    argv: Sequence[str],
    *,
    emit: Sink,
    cancel: CancelToken,
    runner: str = "auto",
    exclusive: bool = False,
    ask: "Ask | None" = None,
) -> Iterator[Workspace]:
    """Open the storage directory for work, making it if needed, and hold its lock.

    `argv` is our command line, for others who wait for us. `ask` asks the user for passwords of registries.
    Raises StorageError, FileError, Cancelled.
    """
    from chimage_core.build.recovery import recover_interrupted, sweep

    emit = without_repetition(emit)
    layout = Layout(settings.storage)
    locks = Locks(layout, argv, emit=emit, cancel=cancel, timeout=settings.lock_timeout, enabled=settings.lock)
    store.prepare(layout, locks, emit=emit, old=Layout(settings.old_storage) if settings.old_storage else None)
    workspace = _assembled(settings, layout, locks, Front(runner, emit, cancel, ask))
    if settings.lock:  # Without locks, what looks left behind may be what somebody is making right now.
        sweep(layout, workspace.images, workspace.lasting_cache, locks, emit)
    with locks.storage(exclusive=exclusive), session(layout):
        store.validate(layout)  # While we waited, a newer program may have upgraded it.
        try:
            if settings.lock:
                recover_interrupted(workspace.images, workspace.lasting_cache, locks, emit)
            yield workspace
        finally:
            workspace.close()


@contextlib.contextmanager
def open_reader(
    settings: Settings, argv: Sequence[str], *, emit: Sink, cancel: CancelToken, ask: "Ask | None" = None
) -> Iterator[Workspace]:
    """Open the storage directory for looking at it: takes no lock, makes nothing, waits for nobody.

    A storage directory that is not there looks empty. Raises StorageError, FileError.
    """
    layout = Layout(settings.storage)
    if os.path.lexists(layout.root):
        store.validate(layout)
    locks = Locks(layout, argv, emit=emit, cancel=cancel, timeout=settings.lock_timeout, enabled=settings.lock)
    workspace = _assembled(settings, layout, locks, Front("auto", emit, cancel, ask))
    try:
        yield workspace
    finally:
        workspace.close()


class Front(NamedTuple):
    """What a front end gives to work with."""

    runner: str
    emit: Sink
    cancel: CancelToken
    ask: "Ask | None"


def _assembled(settings: Settings, layout: Layout, locks: Locks, front: Front) -> Workspace:
    runner, emit, cancel, _ = front

    def open_no_cache(images: Images) -> "Cache":
        from chimage_core.cache.nocache import NoCache

        return NoCache(images.published, images.names, emit=emit, cancel=cancel, xattrs=settings.xattrs)

    return Workspace(
        layout,
        locks,
        open_git_cache=lambda has_overlays: _git_cache(settings, layout, has_overlays, emit, cancel),
        open_no_cache=open_no_cache if settings.cache == "disabled" else None,
        open_inputs=lambda: _inputs(settings, layout, emit),
        open_remote=lambda: _remote(settings, layout, cancel),
        open_registries=lambda: _registries(settings, front),
        rebuilds=settings.cache == "rebuild",
        runner=runner,
        emit=emit,
        cancel=cancel,
    )


def _git_cache(
    settings: Settings, layout: Layout, has_overlays: Callable[[], bool], emit: Sink, cancel: CancelToken
) -> "GitCache":
    from chimage_core.cache.git.cache import GitCache
    from chimage_core.cache.protocol import CacheMode

    mode = CacheMode.REBUILD if settings.cache == "rebuild" else CacheMode.ENABLED
    shared = _shared_caches(settings, layout, emit)
    return GitCache(
        layout.git,
        mode=mode,
        emit=emit,
        cancel=cancel,
        xattrs=settings.xattrs,
        shared=shared,
        uses=layout.uses,
        declared=settings.cache_large,
        may_link=has_overlays,
    )


def _inputs(settings: Settings, layout: Layout, emit: Sink) -> "InputsStore":
    from chimage_core.cache.inputs_store import InputsStore

    shared = [InputsStore(Layout(path).inputs, emit) for path in settings.cache_shared if path != layout.root]
    return InputsStore(layout.inputs, emit, shared)


def _registries(settings: Settings, front: Front) -> "Registries":
    from chimage_core.registry.auth import Authenticator
    from chimage_core.registry.credentials import AskedCredentials, CredentialSource, FirstCredentials, GivenCredentials
    from chimage_core.registry.endpoints import read_mirrors
    from chimage_core.registry.login_files import LoginFiles
    from chimage_core.registry.registries import Access, Registries
    from chimage_core.registry.transport import Network, Transport

    stored = LoginFiles(settings.login_files, settings.environment, front.emit, front.cancel)
    sources: list[CredentialSource] = [stored]
    if settings.username is not None and settings.password is not None:
        sources.insert(0, GivenCredentials(settings.username, settings.password))
    asked = AskedCredentials(front.ask or _ask_nobody, settings.username, is_remembered=not settings.password_many)
    named = FirstCredentials(*sources, asked) if settings.auth else None
    network = Network(settings.proxies, settings.ca_bundle, settings.tls_verify)
    transport = Transport(network, cancel=front.cancel)
    authenticator = Authenticator(transport, named, stored, trusted_realms=settings.auth_realms)
    return Registries(transport, authenticator, Access(read_mirrors(settings.mirrors), settings.plain_http))


def _ask_nobody(registry: str, username: str | None) -> None:
    """There is nobody to ask."""


def _remote(settings: Settings, layout: Layout, cancel: CancelToken) -> "Remote":
    from chimage_core.registry.git import Host
    from chimage_core.registry.remote import Remote
    from chimage_core.registry.transport import Network

    environment = settings.environment
    return Remote(
        layout.blobs,
        Network(settings.proxies, settings.ca_bundle, settings.tls_verify),
        Host(environment.get("PATH", os.defpath), environment.get("SSH_AUTH_SOCK")),
        always_download=settings.always_download,
        cancel=cancel,
    )


def _shared_caches(settings: Settings, layout: Layout, emit: Sink) -> "list[SharedCache]":
    """Open the build caches of other storage directories, which other users may own. Raises UsageError."""
    opened: list[SharedCache] = []
    if settings.cache == "disabled":
        return opened
    for path in settings.cache_shared:
        # Who looks after the shared directory may have the variable set as everybody else has.
        if os.path.realpath(path) == os.path.realpath(layout.root):
            continue
        try:
            opened.append(_open_shared(Layout(path)))
        except ChimageError as error:
            problem = f"shared build cache can’t be used: {error.message}"
            if isinstance(error, FileError) and error.errno == errno.EACCES:
                problem += f" (its owner can permit it: chmod a+rX {Layout(path).git})"
            if settings.cache_shared_required:
                raise UsageError(problem, hint="name a storage directory of chimage, or omit --cache-shared") from error
            emit(Warned(text=f"{problem} ($CH_IMAGE_CACHE_SHARED); going on without"))
    return opened


def _open_shared(layout: Layout) -> "SharedCache":
    from chimage_core.cache.git.shared import SharedCache

    store.validate(layout)
    return SharedCache(layout.git)
