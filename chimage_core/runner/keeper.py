"""The process that answers for one job: starts it, waits, ends it on demand, cleans up, and reports.

It listens to the client's control socket. `T` asks for SIGTERM and, after a grace, SIGKILL; `K` and the end of the
client mean SIGKILL at once. So nothing stays behind whoever dies first: if the client does, the socket says so; if this
process does, the kernel kills the first process of the container, and with it the PID namespace.

Without a PID namespace, this process adopts all orphans, and finds what is to be killed in /proc. That is weaker: if it
is itself killed by SIGKILL, only the first process of the job goes with it.

Part of the fork server: standard library only.
"""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Sequence

from chimage_core.runner import inner, mounts, syscalls
from chimage_core.runner.job import Job
from chimage_core.runner.points import MountPoints
from chimage_core.runner.syscalls import SetupError

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""


NONSENSE = "report"
"""The kind of error that a process 1 makes which is not itself any more."""
_MOST_MESSAGES = 64
"""We send at most three."""
_LONGEST_MESSAGE = 1 << 16
_TYPES: dict[str, type | tuple[type, ...]] = {
    "ready": bool,
    "status": int,
    "problem": (str, type(None)),
    "error": str,
    "kind": str,
    "pid_namespace": bool,
}
"""What messages may say."""


def keep(job: Job, control: socket.socket, files: Sequence[int], filter_program: bytes) -> dict[str, object]:
    """Do a job to its end and return the answer.

    That is `status` and perhaps `problem`; what a trial found; or `error` and `kind`. `files` are the descriptors of
    the command from 0 on; they are closed here.
    """
    made = MountPoints()
    try:
        os.umask(0o022)
        mounts.prepare_outside(job)
        if job.is_container:
            mounts.enter_user_namespace(job.pid_namespace)
        if not (job.is_container and job.pid_namespace):
            syscalls.adopt_orphans()
        mounts.prepare(job, made)
        return _Keeper(job, control).run(files, filter_program)
    except SetupError as error:
        return {"error": error.message, "kind": error.kind}
    finally:
        made.remove()


class Reports:
    """What the processes inside say.

    A command may trace process 1 of its container, and say anything in its name. So nothing is believed but what makes
    sense, and only so much is listened to.
    """

    def __init__(self) -> None:
        self.answer: dict[str, object] = {}
        self.is_ready = False
        """The command is about to be executed."""
        self._messages = 0

    def hear(self, report: socket.socket) -> bool:
        """Take in what there is; return whether more may come."""
        while True:
            try:
                message = report.recv(_LONGEST_MESSAGE)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not message:
                return False
            self._messages += 1
            said = _understood(message)
            if said is None or self._messages > _MOST_MESSAGES:
                self.answer = {"error": "process 1 of the container says what makes no sense", "kind": NONSENSE}
                return False
            self.is_ready = self.is_ready or said.pop("ready", False) is True
            self.answer.update(said)


def _understood(message: bytes) -> dict[str, object] | None:
    """Return what a message says, None if it is none of ours."""
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or any(not isinstance(value, _TYPES.get(key, ())) for key, value in said.items()):
        return None
    return said


class _Keeper:
    """State of the waiting."""

    def __init__(self, job: Job, control: socket.socket) -> None:
        self._job = job
        self._control = control
        self._is_killed_with_main = job.is_container and job.pid_namespace
        self._main = 0
        self._status: int | None = None
        self._deadline: float | None = None
        self._reports = Reports()

    def run(self, files: Sequence[int], filter_program: bytes) -> dict[str, object]:
        report, inner_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, _do_nothing)
        self._main = syscalls.fork()
        if self._main == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            report.close()
            inner.live(self._job, inner_end, files, filter_program)
        inner_end.close()
        for fd in files:
            os.close(fd)
        report.setblocking(False)
        self._wait(report, woken)
        self._kill_leftovers()
        self._reports.hear(report)
        answer = self._reports.answer
        return answer if "error" in answer else {"status": self._status, **answer}

    def _wait(self, report: socket.socket, woken: int) -> None:
        poller = select.poll()
        for descriptor in (report.fileno(), self._control.fileno(), woken):
            poller.register(descriptor, select.POLLIN)
        while self._status is None:
            ready = [descriptor for descriptor, _ in poller.poll(self._milliseconds_left())]
            # First, and in any case, what the inside said: how an order to stop is obeyed depends on it.
            is_open = self._reports.hear(report)
            if report.fileno() in ready and not is_open:
                poller.unregister(report)
                if self._reports.answer.get("kind") == NONSENSE:
                    self._kill()
            if self._control.fileno() in ready and not self._obey():
                poller.unregister(self._control)
            if woken in ready:
                os.read(woken, 512)
            self._reap()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._kill()

    def _milliseconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, 1000 * (self._deadline - time.monotonic()))

    def _obey(self) -> bool:
        """Do what the client says; return whether it may say more."""
        try:
            order = self._control.recv(1)
        except ConnectionResetError:
            order = b""
        if order == b"T" and self._reports.is_ready:
            if self._deadline is None:
                self._deadline = time.monotonic() + GRACE
                self._terminate()
        else:
            self._deadline = time.monotonic()
        return bool(order)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._main:
                self._status = inner.exit_status(status)

    def _terminate(self) -> None:
        if self._is_killed_with_main:
            os.kill(self._main, signal.SIGTERM)
            return
        for pid in descendants(os.getpid()):
            if not (self._job.is_wrapped and pid == self._main):
                _signal(pid, signal.SIGTERM)

    def _kill(self) -> None:
        if self._status is None:
            _signal(self._main, signal.SIGKILL)
        if not self._is_killed_with_main:
            for pid in descendants(os.getpid()):
                _signal(pid, signal.SIGKILL)
        # Until all are gone; a process may have been born meanwhile.
        self._deadline = time.monotonic() + 0.05

    def _kill_leftovers(self) -> None:
        """Without a PID namespace: kill what the command left behind."""
        while not self._is_killed_with_main:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                for left in descendants(os.getpid()):
                    _signal(left, signal.SIGKILL)
                time.sleep(0.002)


def descendants(ancestor: int) -> list[int]:
    """Return the processes that descend from `ancestor`, without itself, as /proc shows them now.

    From each process's parent, because /proc/PID/task/TID/children is a kernel option.
    """
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent(name)
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pending = [ancestor]
    while pending:
        born = children.get(pending.pop(), [])
        found += born
        pending += born
    return found


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program, in parentheses, may itself hold anything.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _do_nothing(number: int, frame: object) -> None:
    """Let the signal interrupt, by way of the wake-up descriptor."""
