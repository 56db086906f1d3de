"""Run commands in namespaces that we make ourselves: no program of the host is needed."""

import logging
import os
from typing import assert_never

from chimage_core.cancel import CancelToken
from chimage_core.errors import RunnerError
from chimage_core.runner import job, probe
from chimage_core.runner.binds import HOST_FILES, HOST_TREES, SHARED_MEMORY, hides_shared_memory, is_directory, points
from chimage_core.runner.forkserver import ForkServer, JobError
from chimage_core.runner.mount_kinds import Draft, MemoryFile, Mount, Tmpfs
from chimage_core.runner.protocol import Bind, Emulation, RunRequest, RunResult

_log = logging.getLogger(__name__)


class NamespaceRunner:
    """User, mount and PID namespaces, a change of root, and a system call filter."""

    name = "python"

    def __init__(self, *, pid_namespace: bool = True) -> None:
        """With `pid_namespace` false, do without from the start; else only where a new /proc is refused."""
        self._server = ForkServer()
        self._pid_namespace = pid_namespace

    def can_overlay(self, directory: str) -> bool:
        """Return whether `directory`'s file system can hold an overlay's upper directory. Tried, not guessed."""
        return probe.can_overlay(self._server, directory)

    def probe(self, directory: str) -> probe.Abilities:
        """Find out what this kernel, and the file system of `directory`, allow."""
        return probe.probe(self._server, directory)

    def run(self, request: RunRequest, cancel: CancelToken) -> RunResult:
        """Run to the end; see `Runner`."""
        try:
            return self._run(request, cancel)
        except JobError as refused:
            if refused.kind != "proc":
                raise _explained(refused) from None
            _log.debug("%s; going on without PID namespace, so processes that hide well may survive", refused.message)
            self._pid_namespace = False
        try:
            return self._run(request, cancel)
        except JobError as refused:
            raise _explained(refused) from None

    def close(self) -> None:
        """End the server, and what still runs. Idempotent."""
        self._server.close()

    def _run(self, request: RunRequest, cancel: CancelToken) -> RunResult:
        trees = [job.mount(tree, source=tree) for tree in HOST_TREES]
        hidden = [job.mount(SHARED_MEMORY)] if hides_shared_memory() else []
        files = [Bind(path, path, is_read_only=True) for path in HOST_FILES if os.path.exists(path)]
        more = list(map(_mounted, (*files, *request.mounts)))
        answer = self._server.run(
            job.encode(
                argv=request.argv,
                env=tuple({**request.env, **request.secret_env}.items()),
                workdir=request.workdir,
                emulate=request.emulation is Emulation.SECCOMP,
                interactive=request.interactive,
                pid_namespace=self._pid_namespace,
                is_offline=request.is_offline,
                root=request.rootfs,
                overlay=(request.overlay.upper, request.overlay.work) if request.overlay else None,
                points=(*((tree, True) for tree in HOST_TREES), *points((*files, *request.mounts))),
                mounts=(*trees, *hidden, *more),
            ),
            cancel,
            output=request.output,
            interactive=request.interactive,
        )
        return RunResult(answer.status, answer.problem)


def _mounted(mount: Mount) -> dict[str, object]:
    """Return a mount as it travels."""
    match mount:
        case Bind(source, target, read_only, is_ours):
            kind = is_directory(mount)
            return job.mount(target, source=source, is_directory=kind, is_ours=is_ours, read_only=read_only)
        case Draft(source, target, overlay, read_only):
            return job.mount(target, source=source, overlay=(overlay.upper, overlay.work), read_only=read_only)
        case Tmpfs(target, size, mode, read_only):
            return job.mount(target, size=size or 0, mode=mode, read_only=read_only)
        case MemoryFile(target, content, mode):
            return job.mount(target, content=content, mode=mode, is_directory=False, read_only=True)
    assert_never(mount)


def _explained(refused: JobError) -> RunnerError:
    hint = probe.advice() if refused.kind == "namespaces" else None
    if refused.kind == "network":
        hint = "use --network=default, or a kernel with CONFIG_NET_NS"
    if refused.kind == "seccomp":
        hint = "use --force=none, or a kernel with CONFIG_SECCOMP_FILTER"
    return RunnerError(refused.message, hint=hint)
