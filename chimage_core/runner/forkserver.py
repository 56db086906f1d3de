"""Our end of the fork server: start it once, hand it jobs, relay output, pass on cancellation.

Usable from several threads at the same time: each job has a control socket of its own.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chimage_core.cancel import CancelToken
from chimage_core.errors import RunnerError
from chimage_core.runner.protocol import OutputChunks, Stream

_SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server.py")
_CHUNK = 1 << 16
_STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")


class JobError(RunnerError):
    """The server could not do a job. `kind` is one word for what failed."""

    def __init__(self, kind: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job came to."""

    status: int
    problem: str | None
    """Why the command could not be executed."""
    pid_namespace: bool
    """Found by the trial `namespaces`."""


class ForkServer:
    """A server process, started at the first job and again if it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._running: set[socket.socket] = set()

    def run(
        self,
        job: bytes,
        cancel: CancelToken,
        *,
        output: OutputChunks | None = None,
        interactive: bool = False,
        extra: Sequence[int] = (),
    ) -> Answer:
        """Do a job (`job.encode`) to its end.

        `output` None: the command inherits our stdout and stderr; `interactive`: our stdin too. `extra` become its
        descriptors from 3 on. Raises JobError; Cancelled, when all processes of the job are gone.
        """
        cancel.check()
        with contextlib.ExitStack() as stack:
            try:
                control, pipes = self._hand_over(stack, job, output is not None, interactive, extra)
            except OSError as error:
                raise JobError("server", f"can't start a helper process: {error.strerror}") from error
            stack.enter_context(_terminal_returned(interactive))
            stack.enter_context(cancel.on_cancel(lambda: _order(control, b"T")))
            message = _relay(control, pipes, output)
        cancel.check()
        return _read_answer(message)

    def close(self) -> None:
        """Kill what runs and end the server. Idempotent."""
        with self._lock:
            for control in list(self._running):
                _order(control, b"K")
            self._stop()

    def _hand_over(
        self, stack: contextlib.ExitStack, job: bytes, with_pipes: bool, interactive: bool, extra: Sequence[int]
    ) -> tuple[socket.socket, dict[int, Stream]]:
        """Send a job; return our end of its control socket, and our ends of its pipes. `stack` closes them."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(control)
        pipes: dict[int, Stream] = {}
        with contextlib.ExitStack() as handed_over:
            handed_over.enter_context(theirs)
            files = [handed_over.enter_context(_stdin(interactive)), 1, 2]
            if with_pipes:
                for target, stream in enumerate(_STREAMS, start=1):
                    reader, files[target] = os.pipe2(os.O_CLOEXEC)
                    stack.callback(os.close, reader)
                    handed_over.callback(os.close, files[target])
                    pipes[reader] = stream
            memory = handed_over.enter_context(memory_file(job))
            with self._lock:
                socket.send_fds(self._started(), [b"J"], [memory, theirs.fileno(), *files, *extra])
        self._running.add(control)
        stack.callback(self._running.discard, control)
        return control, pipes

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._requests is not None:
            return self._requests
        if not sys.executable:
            raise JobError("server", "can't start a helper process: Python does not know its own program")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-S", _SERVER, "--serve", str(theirs.fileno())]
        if sys.dont_write_bytecode:
            command.insert(1, "-B")
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.enter_context(ours)
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd="/"
            )
            on_failure.pop_all()
        self._requests = ours
        return ours

    def _stop(self) -> None:
        if self._requests is not None:
            # Not just closed: a process that we forked meanwhile may still hold a copy.
            with contextlib.suppress(OSError):
                self._requests.shutdown(socket.SHUT_RDWR)
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """A file without a name, to be read from its start. (A packet could not be larger than the socket's buffer.)"""
    memory = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(memory, 0, os.SEEK_SET)
        yield memory
    finally:
        os.close(memory)


@contextlib.contextmanager
def _stdin(interactive: bool) -> Iterator[int]:
    if interactive:
        yield 0
        return
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield empty
    finally:
        os.close(empty)


@contextlib.contextmanager
def _terminal_returned(interactive: bool) -> Iterator[None]:
    """Be the terminal's foreground process group again at the end, if we were at the start.

    A shell with job control makes itself that, and cannot give it back: in its PID namespace, our group has no number.
    """
    group = os.getpgrp()
    is_ours = interactive and os.isatty(0) and os.tcgetpgrp(0) == group
    try:
        yield
    finally:
        if is_ours:
            # From the background this would stop us, unless SIGTTOU is blocked: tcsetpgrp(3).
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
            with contextlib.suppress(OSError):
                os.tcsetpgrp(0, group)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _order(control: socket.socket, order: bytes) -> None:
    """Tell a keeper what to do. From other threads and signal handlers, perhaps just after the end of the job."""
    with contextlib.suppress(OSError):
        control.send(order)


def _relay(control: socket.socket, pipes: dict[int, Stream], output: OutputChunks | None) -> bytes:
    """Pass output on until the keeper answers; return its answer, empty if it died."""
    try:
        poller = select.poll()
        poller.register(control, select.POLLIN)
        for reader in pipes:
            poller.register(reader, select.POLLIN)
        message: bytes | None = None
        while message is None:
            for descriptor, _ in poller.poll():
                if descriptor == control.fileno():
                    message = _receive(control)
                elif not _pass_on(descriptor, pipes[descriptor], output):
                    poller.unregister(descriptor)
        # Whoever could write is gone; what they wrote is in the pipes.
        for reader, name in pipes.items():
            os.set_blocking(reader, False)
            with contextlib.suppress(BlockingIOError):
                while _pass_on(reader, name, output):
                    pass
        return message
    except BaseException:
        # Also KeyboardInterrupt, and whatever the receiver of the output raises: leave nothing running.
        _order(control, b"K")
        _receive(control)
        raise


def _receive(control: socket.socket) -> bytes:
    try:
        return control.recv(_CHUNK)
    except ConnectionResetError:
        return b""


def _pass_on(reader: int, name: Stream, output: OutputChunks | None) -> bool:
    data = os.read(reader, _CHUNK)
    if data and output is not None:
        output(name, data)
    return bool(data)


def _read_answer(message: bytes) -> Answer:
    if not message:
        raise JobError("server", "the helper process ended unexpectedly", hint="is there enough memory?")
    value = json.loads(message)
    if value.get("kind") == "bug":
        raise RuntimeError(f"in the fork server: {value['error']}")
    if "error" in value:
        raise JobError(value["kind"], value["error"])
    return Answer(value.get("status", 0), value.get("problem"), value.get("pid_namespace", False))
