"""The processes inside: process 1 of the container, and the command before it is executed.

Once the root has changed, nothing may be imported any more: it would come from the image, that is, from a stranger. So
everything is imported before, and the ways to import are taken away.

Part of the fork server: standard library only.
"""

import errno
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from chimage_core.runner import mounts, network, seccomp, syscalls, trials
from chimage_core.runner.job import Job
from chimage_core.runner.syscalls import SetupError

_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UMASK = 0o022
"""What Dockerfiles expect. Not the caller's: an image must not depend on who builds it."""
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_BUG = 70


def live(job: Job, report: socket.socket, files: Sequence[int], filter_program: bytes) -> None:
    """Be the first process of a job; does not return.

    `files` are stdin, stdout, stderr and what else the command gets as descriptors 3, 4, … Messages to `report`: what
    cannot be set up, that the command may now be signalled, or why it cannot be executed.
    """
    try:
        syscalls.die_with_parent()
        _close_others(report, files)
        _live(job, report, files, filter_program)
    except SetupError as error:
        _tell(report, error=error.message, kind=error.kind)
    except BrokenPipeError:
        pass  # The keeper is gone, and so shall we be.
    except BaseException as error:  # noqa: BLE001 - the last place where a bug can be reported
        _tell(report, error=f"{type(error).__name__}: {error}", kind="bug")
    finally:
        os._exit(_BUG)


def _live(job: Job, report: socket.socket, files: Sequence[int], filter_program: bytes) -> None:
    if job.trial is not None:
        _tell(report, **trials.run(job, filter_program))
        os._exit(0)
    if job.is_container:
        if job.is_offline:
            network.enter_network_namespace()
        mounts.enter_mount_namespace()
        if job.pid_namespace:
            mounts.mount_new_proc()
        _forbid_imports()
        mounts.change_root(job)
    try:
        os.chdir(job.workdir)
    except (OSError, ValueError) as error:
        place = job.workdir.decode("utf-8", "surrogateescape")
        reason = error.strerror if isinstance(error, OSError) else error
        raise SetupError("workdir", f"can't enter working directory in image: {place}: {reason}") from error
    if job.is_container and job.pid_namespace:
        _be_process_one(job, report, files, filter_program)
    _use_default_signals()
    _tell(report, ready=True)
    _execute(job, report, files, filter_program)


def _close_others(report: socket.socket, files: Sequence[int]) -> None:
    """Close what we have from the keeper: by /proc/1/fd, a command could leave the image through a directory of it."""
    kept = {0, 1, 2, report.fileno(), *files}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # The one that listed this directory.


def _forbid_imports() -> None:
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _be_process_one(job: Job, report: socket.socket, files: Sequence[int], filter_program: bytes) -> None:
    """Start the command, reap every orphan, and end when the command ends: the kernel then kills all that is left.

    The command cannot be process 1 itself, since the kernel drops signals that process 1 has no handler for.
    """
    signal.signal(signal.SIGTERM, _pass_to_all)
    # The child must not run our handler, nor lose a signal before it has default ones.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = syscalls.fork()
    if child == 0:
        _use_default_signals()
        _execute(job, report, files, filter_program)
    # Out of the client's process group: what a terminal or a batch system sends to that is the client's business.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for fd in files:
        os.close(fd)
    _tell(report, ready=True)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(exit_status(status))


def _pass_to_all(number: int, frame: object) -> None:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        pass


def exit_status(status: int) -> int:
    """Return a wait status as a shell gives it: 128 + n for signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _use_default_signals() -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(job: Job, report: socket.socket, files: Sequence[int], filter_program: bytes) -> None:
    """Become the command; does not return."""
    status = _BUG
    try:
        if not job.interactive:
            os.setsid()
        _arrange(files, report)
        os.umask(_UMASK)
        if job.is_container:
            syscalls.forbid_new_privileges()
        if job.emulate:
            seccomp.install(filter_program)
        status, problem = _replace(job, os.execve)
        _tell(report, status=status, problem=problem)
    except SetupError as error:
        status = _NOT_EXECUTABLE
        _tell(report, error=error.message, kind=error.kind)
    except BaseException as error:  # noqa: BLE001 - see `live`
        _tell(report, error=f"{type(error).__name__}: {error}", kind="bug")
    finally:
        os._exit(status)


def _arrange(files: Sequence[int], report: socket.socket) -> None:
    """Make `files` descriptors 0, 1, 2, …; all others are closed by execve(2)."""
    # First out of the way, as a source may be where a target has to be.
    above = max(len(files), report.fileno() + 1)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in files]
    for target, fd in enumerate(moved):
        os.dup2(fd, target)


def _replace(job: Job, execve: Callable[[bytes, list[bytes], dict[bytes, bytes]], None]) -> tuple[int, str]:
    """Try to execute the command; return exit status and reason if that is impossible.

    Not `os.execvpe`, which may import. PATH is the one of the command's environment.
    """
    word = job.argv[0]
    shown = word.decode("utf-8", "surrogateescape")
    refused: OSError | None = None
    for path in _candidates(word, job.env.get(b"PATH", _DEFAULT_PATH)):
        try:
            execve(path, job.argv, job.env)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.exists(path):
                return _NOT_FOUND, f"can't execute {shown}: its interpreter is missing in the image{_named(path)}"
        except OSError as error:
            refused = refused or error
            if error.errno != errno.EACCES:
                break
        except ValueError as error:
            return _NOT_EXECUTABLE, f"can't execute {shown}: {error}"
    if refused is not None:
        return _NOT_EXECUTABLE, f"can't execute {shown}: {refused.strerror}"
    where = "no such file in the image" if b"/" in word else "not found in the image's PATH"
    return _NOT_FOUND, f"can't execute {shown}: {where}"


def _named(path: bytes) -> str:
    """Return the interpreter that a script names, for a message; nothing if it is no script."""
    try:
        with open(path, "rb") as file:
            first, *_ = file.read(256).split(b"\n")
    except OSError:
        return ""
    words = first.removeprefix(b"#!").split()
    return f": {os.fsdecode(words[0])}" if first.startswith(b"#!") and words else ""


def _candidates(word: bytes, path: bytes) -> list[bytes]:
    if b"/" in word:
        return [word]
    return [(directory or b".") + b"/" + word for directory in path.split(b":")]


def _tell(report: socket.socket, **message: object) -> None:
    report.send(json.dumps(message).encode())
