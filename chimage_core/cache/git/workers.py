"""Do a task in several processes: hashing, deflating and making files are bound by CPU, and Python has one lock.

The parts of a task are numbered. Every worker takes the next number from a pipe until none is left, and sends back one
value for all it did. Workers are forked, which costs a few milliseconds; but a process with threads must not fork (a
lock that another thread holds is held for ever in the child), so there they are started anew, for 30 ms more.

A task is a function at the top of a module: `task(payload, numbers) -> result`, where payload and result are what
marshal knows: numbers, bytes, str, tuples, lists, dicts, None.
"""

import gc
import marshal
import os
import selectors
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError, ChimageError

if TYPE_CHECKING:
    import subprocess

Task = Callable[[Any, Iterator[int]], Any]

MAXIMUM_PARTS = 512
"""So many numbers fit into the smallest pipe, so that they can be written before anybody reads."""

_NUMBER = struct.Struct("=I")
_OK, _FAILED, _BUG = 0, 1, 2
_BOOT = (
    "import sys, marshal; path, name, fd, payload = marshal.load(sys.stdin.buffer); sys.path[:] = path; "
    "from chimage_core.cache.git import workers; workers.serve(name, fd, payload)"
)


def run(task: Task, payload: Any, parts: int, workers: int, cancel: CancelToken) -> list[Any]:
    """Do parts 0 to `parts` - 1 of a task; return one result per worker, in no order. We are one of them.

    Raises what the task raises; CacheError with the message of what another worker raised; Cancelled, when the workers
    have ended.
    """
    workers = min(workers, parts)
    if workers <= 1:
        return [task(payload, _checking(range(parts), cancel))]
    source, sink = os.pipe()
    try:
        os.write(sink, b"".join([_NUMBER.pack(number) for number in range(parts)]))
    finally:
        os.close(sink)
    start = _fork if threading.active_count() == 1 else _spawn
    children: list[_Child] = []
    try:
        children.extend(start(task, payload, source) for _ in range(workers - 1))
        with cancel.on_cancel(lambda: _stop(children)):
            own = task(payload, _checking(_taken(source), cancel))
            answers = _collect(children)
    except BaseException:
        _stop(children)
        raise
    finally:
        os.close(source)
        for child in children:
            child.reap()
    cancel.check()
    return [own, *map(_unwrap, answers)]


def serve(name: str, source: int, payload: Any) -> None:
    """Be a worker in a process of its own: do the task called `name`, write the result to stdout."""
    module_name, _, function = name.partition(":")
    module = __import__(module_name, fromlist=[function])
    sys.stdout.buffer.write(_attempt(getattr(module, function), payload, source))
    sys.stdout.buffer.flush()


class _Child:
    """A worker, as its parent sees it."""

    def __init__(self, pid: int, answer: int, process: "subprocess.Popen[bytes] | None") -> None:
        self.pid = pid
        self.answer = answer
        self._process = process
        self._reaped = False

    def stop(self) -> None:
        if not self._reaped:
            os.kill(self.pid, signal.SIGTERM)

    def reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process.stdout.close()  # type: ignore[union-attr]  # it is a pipe
        else:
            os.waitpid(self.pid, 0)
            os.close(self.answer)
        self._reaped = True


def _fork(task: Task, payload: Any, source: int) -> _Child:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return _Child(pid, read, None)
    try:
        os.close(read)
        answer = memoryview(_attempt(task, payload, source))
        while answer:
            answer = answer[os.write(write, answer) :]
    finally:
        os._exit(0)


def _spawn(task: Task, payload: Any, source: int) -> _Child:
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(source,)
    )
    with process.stdin:  # type: ignore[union-attr]  # it is a pipe
        marshal.dump((sys.path, f"{task.__module__}:{task.__qualname__}", source, payload), process.stdin)  # type: ignore[arg-type]
    return _Child(process.pid, process.stdout.fileno(), process)  # type: ignore[union-attr]


def _attempt(task: Task, payload: Any, source: int) -> bytes:
    """Do the task; return its outcome as bytes: none if we are told to stop, after the task has cleaned up."""
    # A terminal's Ctrl-C goes to the whole group: our parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_stopped)
    gc.disable()  # Looking for cycles would take longer than all that there are could fill.
    try:
        return marshal.dumps((_OK, task(payload, _numbers(source))))
    except ChimageError as error:
        return marshal.dumps((_FAILED, (error.message, error.hint)))
    except _Stopped:
        return b""
    except BaseException:  # noqa: BLE001  # told to the parent, which raises it
        import traceback

        return marshal.dumps((_BUG, traceback.format_exc()))


def _numbers(source: int) -> Iterator[int]:
    parent = os.getppid()
    for number in _taken(source):
        if os.getppid() != parent:  # Killed: nobody waits for what we do.
            raise _Stopped
        yield number


def _taken(source: int) -> Iterator[int]:
    """Take numbers until none is left."""
    while data := os.read(source, _NUMBER.size):
        yield _NUMBER.unpack(data)[0]


def _checking(numbers: Iterable[int], cancel: CancelToken) -> Iterator[int]:
    for number in numbers:
        cancel.check()
        yield number


def _collect(children: list[_Child]) -> list[bytes]:
    """Read the answers of all children, side by side, until each has closed its pipe."""
    answers = {child.answer: bytearray() for child in children}
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.answer, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 20)
                if data:
                    answers[key.fd] += data
                else:
                    selector.unregister(key.fd)
    return [bytes(answer) for answer in answers.values()]


def _stop(children: list[_Child]) -> None:
    for child in children:
        child.stop()


class _Stopped(BaseException):
    """This worker is no longer needed."""


def _raise_stopped(*_: object) -> None:
    raise _Stopped


def _unwrap(answer: bytes) -> Any:
    if not answer:
        raise CacheError("a worker process of the build cache was killed", hint="is there enough memory?")
    status, value = marshal.loads(answer)
    if status == _OK:
        return value
    if status == _FAILED:
        raise CacheError(value[0], hint=value[1])
    raise RuntimeError(f"worker process failed:\n{value}")
