"""RUN --mount: what is mounted while a command runs, made ready and put away again.

Sources have been found inside their tree. What is not to be seen of a source (`.dockerignore`), and what a command
changes where changes are to vanish, goes to an overlay on it; where there is none, the source is copied.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, assert_never

from chimage_core.build.context import Source
from chimage_core.build.mounts import BindMount, CacheMount, MountValue, SecretMount, SshMount, TmpfsMount
from chimage_core.build.offers import Mounted, Offers
from chimage_core.build.step import Tools
from chimage_core.errors import ContextError, file_errors
from chimage_core.fs.atomic import temporary_directory
from chimage_core.fs.copy import copy_file, copy_tree
from chimage_core.rootfs.place import ImagePlace
from chimage_core.runner.mount_kinds import Draft, MemoryFile, Mount, Tmpfs
from chimage_core.runner.protocol import Bind, Overlay
from chimage_core.text import printable

_CACHE_MODE = 0o755


class PlannedMount(NamedTuple):
    """A mount of an instruction."""

    value: MountValue
    """Its target is absolute."""
    find: Callable[[], Source] | None = None
    """Finds what is mounted; or, of a cache, what a new one is filled with."""


@contextlib.contextmanager
def mounted(planned: Sequence[PlannedMount], place: ImagePlace, tools: Tools) -> Iterator[Mounted]:
    """Make mounts ready for as long as a command runs. Raises ContextError, FileError, StorageBusy, Cancelled."""
    with contextlib.ExitStack() as stack:
        ready = _Ready(stack, place, tools)
        caches = ready.caches(planned)
        for one in planned:
            match one.value:
                case BindMount() as bind:
                    assert one.find is not None
                    ready.mounts.append(ready.bound(bind, one.find()))
                case CacheMount() as cache:
                    ready.mounts.append(Bind(caches[_cache_id(cache)], cache.target, cache.is_read_only, is_ours=True))
                case TmpfsMount(target, size, read_only):
                    ready.mounts.append(Tmpfs(target, size, is_read_only=read_only))
                case SecretMount() as secret:
                    ready.give_secret(secret)
                case SshMount() as agent:
                    ready.give_agent(agent)
                case _:
                    assert_never(one.value)
        yield Mounted(tuple(ready.mounts), ready.env, ready.secret_env)


class _Ready:
    """Mounts being made ready."""

    def __init__(self, stack: contextlib.ExitStack, place: ImagePlace, tools: Tools) -> None:
        self._stack = stack
        self._place = place
        self._tools = tools
        self._offers = tools.offers or Offers()
        self.mounts: list[Mount] = []
        self.env: dict[str, str] = {}
        self.secret_env: dict[str, str] = {}

    def caches(self, planned: Sequence[PlannedMount]) -> dict[str, str]:
        """Return the directories of all caches by ID, locked as they want to be.

        Each once, and in an order that is the same everywhere: else two commands could wait for each other.
        """
        found = {_cache_id(one.value): one for one in planned if isinstance(one.value, CacheMount)}
        return {name: self._stack.enter_context(self._cache(name, found[name])) for name in sorted(found)}

    def _cache(self, name: str, planned: PlannedMount) -> contextlib.AbstractContextManager[str]:
        mount, all_caches = planned.value, self._tools.caches()
        assert isinstance(mount, CacheMount)
        ways = {"shared": all_caches.shared, "locked": all_caches.locked, "private": all_caches.private}
        return ways[mount.sharing](name, lambda path: self._fill(path, mount.mode, planned.find))

    def _fill(self, path: str, mode: int | None, find: Callable[[], Source] | None) -> None:
        if find is None:
            os.mkdir(path)
            mode = _CACHE_MODE if mode is None else mode
        else:
            source = find()
            if not os.path.isdir(source.path):
                raise ContextError(f"a cache can’t be filled from what is no directory: {source.name}")
            self._copy(source, path)
        if mode is not None:
            os.chmod(path, mode)

    def bound(self, mount: BindMount, source: Source) -> Mount:
        """Return the mount that shows a source, but what is excluded of it; changes vanish."""
        excludes = source.exclusion() if os.path.isdir(source.path) else None
        if mount.is_read_only and excludes is None:
            return Bind(source.path, mount.target, is_read_only=True)
        if not _is_apart(source.path, self._place):
            raise ContextError(
                f"can’t mount what the storage directory is in, without excluded files or writable: {source.path}",
                hint="choose another storage directory with --storage, or mount less",
            )
        directory = self._stack.enter_context(temporary_directory(self._place.side))
        overlay = Overlay(f"{directory}/upper", f"{directory}/work")
        if self._overlaid(mount, source, overlay):
            return Draft(source.path, mount.target, overlay, mount.is_read_only)
        self._copy(source, f"{directory}/copy")
        return Bind(f"{directory}/copy", mount.target, mount.is_read_only, is_ours=True)

    def _overlaid(self, mount: BindMount, source: Source, overlay: Overlay) -> bool:
        """Prepare an overlay; return whether that serves."""
        if not os.path.isdir(source.path) or not self._tools.can_overlay():
            return False
        with file_errors("make overlay directory", overlay.upper):
            for path in overlay:
                os.mkdir(path, 0o700)
        # Of files that belong to others, the kernel can make no changed copy in a namespace without those.
        return _hide(source, overlay.upper) or mount.is_read_only

    def _copy(self, source: Source, target: str) -> None:
        tools = self._tools
        if os.path.isdir(source.path):
            copy_tree(source.path, target, xattrs=tools.with_xattrs, cancel=tools.cancel, exclude=source.exclusion())
        else:
            copy_file(source.path, target, xattrs=tools.with_xattrs, cancel=tools.cancel)

    def give_secret(self, mount: SecretMount) -> None:
        """Show a secret as a file or a variable, or both. Raises ContextError if it is missing and required."""
        secret = self._offers.secrets.get(mount.id)
        if secret is None:
            if mount.is_required:
                raise ContextError(
                    f"the secret is required: {printable(mount.id)}",
                    hint=f"give it with: --secret id={printable(mount.id)},src=FILE (or ,env=VARIABLE)",
                )
            return
        if mount.target is not None:
            self.mounts.append(MemoryFile(mount.target, secret.content, mount.mode))
        if mount.variable is not None:
            if b"\0" in secret.content:
                raise ContextError(f"the secret can’t be a variable, it holds a null byte: {printable(mount.id)}")
            self.secret_env[mount.variable] = secret.content.decode("utf-8", "surrogateescape")

    def give_agent(self, mount: SshMount) -> None:
        """Show an agent's socket. Raises ContextError if it is missing and required."""
        assert mount.target is not None
        socket = self._offers.agents.get(mount.id)
        if socket is not None:
            self.mounts.append(Bind(socket, mount.target))
            self.env.setdefault("SSH_AUTH_SOCK", mount.target)
        elif mount.is_required:
            raise ContextError(
                f"the SSH agent is required: {printable(mount.id)}",
                hint=f"start one, and give it with: --ssh {printable(mount.id)}[=SOCKET]",
            )


def _cache_id(value: MountValue) -> str:
    assert isinstance(value, CacheMount)
    return value.target if value.id is None else value.id


def _is_apart(path: str, place: ImagePlace) -> bool:
    """Return whether our own directories are not inside a source: nothing can be laid over, or copied into, itself."""
    return os.path.commonpath((path, os.path.realpath(place.side))) != path


def _hide(source: Source, upper: str) -> bool:
    """Put what hides the excluded entries of a directory into the upper directory of an overlay on it.

    Return whether all that is left is ours alone. Raises FileError.
    """
    excludes = source.exclusion()
    ids = (os.geteuid(), os.getegid())
    is_ours = True
    pending = [""]
    made: list[tuple[str, os.stat_result]] = []
    with file_errors("look at source of mount", source.path):
        status = os.stat(source.path)
        is_ours = (status.st_uid, status.st_gid) == ids
        while pending:
            below = pending.pop()
            hidden = []
            for entry in os.scandir(f"{source.path}/{below}"):
                is_directory = entry.is_dir(follow_symlinks=False)
                if excludes is not None and excludes(below + entry.name, is_directory):
                    hidden.append(entry.name)
                    continue
                status = entry.stat(follow_symlinks=False)
                is_ours = is_ours and (status.st_uid, status.st_gid) == ids
                if is_directory:
                    pending.append(f"{below}{entry.name}/")
            if hidden:
                _make_like(source.path, upper, below, made)
            for name in hidden:
                os.mknod(f"{upper}/{below}{name}", stat.S_IFCHR)  # A whiteout needs no privilege.
        for path, status in reversed(made):
            os.chmod(path, stat.S_IMODE(status.st_mode))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return is_ours


def _make_like(source: str, upper: str, below: str, made: list[tuple[str, os.stat_result]]) -> None:
    """Make the directories that `below` names, to be given the modes and times of the source's later."""
    at = below.find("/")
    while at >= 0:
        path = f"{upper}/{below[:at]}"
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
            made.append((path, os.stat(f"{source}/{below[:at]}")))
        at = below.find("/", at + 1)
