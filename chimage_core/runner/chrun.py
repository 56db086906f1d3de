"""Run commands through programs of the host, where Python itself may not make namespaces: `ch-run`, `bwrap`.

Some systems allow user namespaces to chosen programs only. Both programs keep our contract but for these limits: ch-run
makes no PID namespace, always adds `$CH_RUNNING`, and can neither mount anything read-only or in memory, nor keep a
variable secret, nor take the network away (all of which is refused); bwrap always adds `$PWD`; neither can use an
overlay; and what they themselves complain about comes on the command's stderr, with exit status 1.

They are started by the same fork server, which makes and removes mount points, kills what is left behind, and puts the
system call filter on ch-run before it starts: what ch-run itself needs is not in the filter.
Sources: ch-run(1), bwrap(1).
"""

import contextlib
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import assert_never

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, RunnerError
from chimage_core.fs.paths import clean, resolve_in_root
from chimage_core.fs.remove import remove_tree
from chimage_core.runner import job, seccomp
from chimage_core.runner.binds import HOST_FILES, HOST_TREES, SHARED_MEMORY, hides_shared_memory, points
from chimage_core.runner.forkserver import ForkServer, memory_file
from chimage_core.runner.mount_kinds import Draft, MemoryFile, Mount, Tmpfs
from chimage_core.runner.protocol import Bind, Emulation, RunRequest, RunResult

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ChRunRunner:
    """Charliecloud's container runtime."""

    name = "ch-run"

    def __init__(self, program: str) -> None:
        """`program` is the path of ch-run."""
        self._program = program
        self._server = ForkServer()

    def can_overlay(self, directory: str) -> bool:
        """Return False: ch-run's overlay is temporary."""
        return False

    def run(self, request: RunRequest, cancel: CancelToken) -> RunResult:
        """Run to the end; see `Runner`."""
        binds = _binds_only(request)
        checked = _check(request)
        if checked is not None:
            return checked
        with _empty_shared_memory() as shared_memory:
            answer = self._server.run(
                job.encode(
                    argv=(self._program, *self._options(request, binds, shared_memory), "--", *request.argv),
                    # ch-run shows the directory $TMPDIR as /tmp: so it is the image's own. The others it wants to see.
                    env=(("USER", "root"), ("PATH", "/bin"), ("TMPDIR", f"{request.rootfs}/tmp")),
                    emulate=request.emulation is Emulation.SECCOMP,
                    interactive=request.interactive,
                    is_container=False,
                    root=request.rootfs,
                    points=_points(request, "/tmp"),
                ),
                cancel,
                output=request.output,
                interactive=request.interactive,
            )
        return RunResult(answer.status, answer.problem)

    def close(self) -> None:
        """End the server, and what still runs. Idempotent."""
        self._server.close()

    def _options(self, request: RunRequest, binds: Sequence[Bind], shared_memory: str | None) -> Iterator[str]:
        yield from ("--write", "--uid=0", "--gid=0", "--no-passwd", "--unsafe")
        # Quotes around a value are removed, once; so values are kept as they are by adding some.
        yield from ("--env-no-expand", "--unset-env=*")
        yield from (f"--set-env={name}='{value}'" for name, value in request.env.items())
        if shared_memory is not None:
            yield f"--bind={shared_memory}:{SHARED_MEMORY}"
        yield from (f"--bind={bind.source}:{_resolved(request, bind.target)}" for bind in binds)
        yield from (f"--cd={request.workdir}", request.rootfs)


def _binds_only(request: RunRequest) -> list[Bind]:
    """Return the mounts of a request that ch-run can carry out. Raises RunnerError for another."""
    if request.is_offline:
        raise _unable("take the network away")
    if request.secret_env:
        raise _unable("keep variables secret")
    binds = []
    for mount in request.mounts:
        if not isinstance(mount, Bind):
            raise _unable(f"mount memory on {mount.target}")
        if mount.is_read_only:
            raise _unable(f"make {mount.target} read-only")
        if ":" in mount.source + mount.target:
            raise RunnerError(f"can't bind {mount.source} to {mount.target}: ch-run allows no colon in names")
        binds.append(mount)
    return binds


def _unable(what: str) -> RunnerError:
    return RunnerError(f"ch-run cannot {what}", hint="use --runner=python or --runner=bwrap")


class BwrapRunner:
    """Bubblewrap, what Flatpak makes its sandboxes with."""

    name = "bwrap"

    def __init__(self, program: str) -> None:
        """`program` is the path of bwrap."""
        self._program = program
        self._server = ForkServer()

    def can_overlay(self, directory: str) -> bool:
        """Return False: most versions of bwrap know nothing of overlays."""
        return False

    def run(self, request: RunRequest, cancel: CancelToken) -> RunResult:
        """Run to the end; see `Runner`."""
        checked = _check(request)
        if checked is not None:
            return checked
        with contextlib.ExitStack() as stack:
            extra = []
            options = list(self._options(request))
            for mount in request.mounts:
                if isinstance(mount, MemoryFile):
                    extra.append(stack.enter_context(memory_file(mount.content)))
                options += _mounting(mount, _resolved(request, mount.target), 2 + len(extra))
            if request.emulation is Emulation.SECCOMP:
                extra.append(stack.enter_context(memory_file(seccomp.program())))
                options += ["--seccomp", str(2 + len(extra))]
            # By file, so that the environment is not visible to all in the process list, and may be long.
            extra.append(stack.enter_context(memory_file(b"".join(os.fsencode(word) + b"\0" for word in options))))
            answer = self._server.run(
                job.encode(
                    argv=(self._program, "--args", str(2 + len(extra)), "--", *request.argv),
                    is_container=False,
                    is_wrapped=True,
                    interactive=request.interactive,
                    root=request.rootfs,
                    points=_points(request),
                ),
                cancel,
                output=request.output,
                interactive=request.interactive,
                extra=extra,
            )
        return RunResult(answer.status, answer.problem)

    def close(self) -> None:
        """End the server, and what still runs. Idempotent."""
        self._server.close()

    def _options(self, request: RunRequest) -> Iterator[str]:
        yield from ("--unshare-user", "--unshare-pid", "--uid", "0", "--gid", "0", "--die-with-parent")
        # Else it takes away what root of a user namespace may do.
        yield from ("--cap-add", "ALL")
        yield from ("--bind", request.rootfs, "/", "--dev-bind", "/dev", "/dev", "--bind", "/sys", "/sys")
        yield from ("--proc", "/proc")
        if hides_shared_memory():
            yield from ("--tmpfs", SHARED_MEMORY)
        for path in HOST_FILES:
            if os.path.exists(path):
                yield from ("--ro-bind", path, _resolved(request, path))
        if request.is_offline:
            yield "--unshare-net"
        yield "--clearenv"
        for name, value in {**request.env, **request.secret_env}.items():
            yield from ("--setenv", name, value)
        yield from ("--chdir", request.workdir)


def _mounting(mount: Mount, target: str, fd: int) -> list[str]:
    """Return the options of bwrap for a mount; `fd` is the command's descriptor of a file in memory."""
    match mount:
        case Bind(source, _, read_only):
            return ["--ro-bind" if read_only else "--dev-bind", source, target]
        case Tmpfs(_, size, mode, read_only):
            limit = ["--size", str(size)] if size else []
            return ["--perms", f"{mode:o}", *limit, "--tmpfs", target, *(["--remount-ro", target] if read_only else [])]
        case MemoryFile(_, _, mode):
            return ["--perms", f"{mode:o}", "--ro-bind-data", str(fd), target]
        case Draft():
            raise RunnerError("this runner cannot put changes into an overlay")
    assert_never(mount)


@contextlib.contextmanager
def _empty_shared_memory() -> Iterator[str | None]:
    """Make a directory to be shown as /dev/shm; None where we cannot write there, and so a command cannot either."""
    import tempfile

    directory = None
    try:
        if hides_shared_memory():
            directory = tempfile.mkdtemp(prefix="chimage-", dir=SHARED_MEMORY)
    except OSError:
        pass
    try:
        yield directory
    finally:
        if directory is not None:
            remove_tree(directory)


def _check(request: RunRequest) -> RunResult | None:
    """Refuse what the program would refuse less clearly; return the result of a command that cannot be executed."""
    if request.overlay is not None:
        raise RunnerError("this runner cannot put changes into an overlay")
    if not os.path.isdir(_inside(request, request.workdir)):
        raise RunnerError(f"can't enter working directory in image: {request.workdir}: No such file or directory")
    word = request.argv[0]
    found = False
    for path in _candidates(request):
        place = _inside(request, path)
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return None
        found = found or os.path.exists(place)
    if found:
        return RunResult(126, f"can't execute {word}: Permission denied")
    where = "no such file in the image" if "/" in word else "not found in the image's PATH"
    return RunResult(127, f"can't execute {word}: {where}")


def _candidates(request: RunRequest) -> list[str]:
    word = request.argv[0]
    directories = [""] if "/" in word else request.env.get("PATH", _DEFAULT_PATH).split(":")
    return [posixpath.join(request.workdir, directory, word) for directory in directories]


def _inside(request: RunRequest, path: str) -> str:
    """Return the host path of what the command will see at `path`; it may lie in a bind."""
    path = "/" + clean(path)
    for bind in reversed(request.mounts):
        target = "/" + clean(bind.target)
        if isinstance(bind, Bind) and (path == target or path.startswith(target + "/")):
            return _resolve(bind.source, path[len(target) :])
    return _resolve(request.rootfs, path)


def _resolved(request: RunRequest, target: str) -> str:
    """Return a bind's target without symbolic links, which the program would follow out of the image."""
    return _resolve(request.rootfs, target).removeprefix(request.rootfs)


def _resolve(root: str, path: str) -> str:
    try:
        return resolve_in_root(root, path)
    except FileError as error:
        raise RunnerError(error.message) from error


def _points(request: RunRequest, *more: str) -> tuple[tuple[str, bool], ...]:
    trees = [(path, True) for path in (*HOST_TREES, *more)]
    files = [(path, False) for path in HOST_FILES if os.path.exists(path)]
    return (*trees, *files, *points(request.mounts))
