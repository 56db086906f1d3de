"""Asking work to stop.

One token goes down with the work. Whoever wants the work to stop calls `cancel`; loops call `check`; whatever blocks (a
child process, a socket) registers a callback that ends its waiting.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from chimage_core.errors import Cancelled


class CancelToken:
    """A request to stop, made at most once. Safe to use from several threads and from signal handlers."""

    def __init__(self) -> None:
        # Re-entrant, because a signal handler may call `cancel` while its own thread is inside `on_cancel`.
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], None]] = []
        self._signal: int | None = None
        self._shields = 0

    def cancel(self, signal_number: int = signal.SIGINT) -> None:
        """Ask to stop. The number of the signal that asked becomes part of the exit status (128 + n)."""
        with self._lock:
            if self._signal is not None:
                return
            self._signal = signal_number
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raise Cancelled if somebody asked to stop."""
        if self._signal is not None and not self._shields:
            raise Cancelled(self._signal)

    @contextlib.contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """While in the block, call `callback` when asked to stop; at once if that has happened already."""
        with self._lock:
            self._callbacks.append(callback)
            already = self._signal is not None and not self._shields
        if already:
            callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)

    @contextlib.contextmanager
    def part(self) -> "Iterator[CancelToken]":
        """Give a token for a part of the work: it can be stopped alone, and is when all is."""
        token = _Part(self)
        with self.on_cancel(token.cancel):
            yield token

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """While in the block, let work go on although somebody asked to stop: it cleans up."""
        with self._lock:
            self._shields += 1
        try:
            yield
        finally:
            with self._lock:
                self._shields -= 1


class _Part(CancelToken):
    """A request to stop a part of the work."""

    def __init__(self, whole: CancelToken) -> None:
        super().__init__()
        self._whole = whole

    def check(self) -> None:
        """Raise Cancelled; if all has to stop, with the signal that asked for that."""
        self._whole.check()
        super().check()

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """While in the block, let work go on, also if all has to stop."""
        with self._whole.shielded(), super().shielded():
            yield
