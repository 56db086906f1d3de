"""Locks of the storage directory: one for the whole, one for each image name.

Work on different images goes on side by side: everybody who changes anything holds the storage lock shared, and the
locks of the image names concerned; gc, reset and upgrade hold the storage lock exclusively. Reading (list, inspect, the
app) takes no lock. A command takes the storage lock first and then all its names together, in sorted order, so that
nobody waits in a circle; taking the same lock twice in one process would wait for itself.
"""

import contextlib
import errno
import time
from collections.abc import Iterable, Iterator, Sequence

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, StorageBusy
from chimage_core.events import Sink
from chimage_core.storage.holder import Holder
from chimage_core.storage.layout import Layout
from chimage_core.storage.lockfile import FLOCK_MISSING, FlockFile, LinkFile, LockFile
from chimage_core.text import printable

_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRITABLE_HINT = "the storage directory must be writable; choose another with --storage"
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1
"""Seconds between attempts. A blocking flock(2) could neither be cancelled nor time out; and an event that a signal
handler sets can block for ever, if the signal comes while the waiting thread holds the lock inside the event."""


class Locks:
    """Takes the locks of one storage directory. Waits as long as it was told to, and says for whom."""

    def __init__(
        self,
        layout: Layout,
        argv: Sequence[str],
        *,
        emit: Sink,
        cancel: CancelToken,
        timeout: float | None = None,
        enabled: bool = True,
    ) -> None:
        """`argv` is the command line shown to others who wait; `timeout` is in seconds for each lock: None waits for
        ever, 0 not at all. Unless `enabled`, nothing is locked."""
        self._layout = layout
        self._argv = tuple(argv)
        self._emit = emit
        self._cancel = cancel
        self._timeout = timeout
        self._enabled = enabled

    def elsewhere(self, layout: Layout) -> "Locks":
        """Return the locks of another storage directory, taken in the same manner."""
        return Locks(
            layout, self._argv, emit=self._emit, cancel=self._cancel, timeout=self._timeout, enabled=self._enabled
        )

    def at_once(self) -> "Locks":
        """Return the same locks, to be taken only where nobody has to be waited for."""
        return Locks(self._layout, self._argv, emit=self._emit, cancel=self._cancel, timeout=0, enabled=self._enabled)

    @contextlib.contextmanager
    def storage(self, *, exclusive: bool = False) -> Iterator[None]:
        """Hold the lock of the whole storage directory, which has to exist.

        Raises StorageBusy when the time is up, Cancelled, FileError.
        """
        with self._held(self._layout.lock, "storage directory", exclusive):
            yield

    @contextlib.contextmanager
    def images(self, *, write: Iterable[str] = (), read: Iterable[str] = ()) -> Iterator[None]:
        """Hold the locks of image names (file form): exclusively those to `write`, shared those only to `read`.

        All that a command needs are to be taken in one call. Raises as `storage` does.
        """
        writing = frozenset(write)
        with contextlib.ExitStack() as stack:
            for name in sorted(writing.union(read)):
                path = self._layout.name_lock(name)
                stack.enter_context(self._held(path, f"image {name}", name in writing))
            yield

    @contextlib.contextmanager
    def cache_mount(self, directory: str, part: str, name: str) -> Iterator[None]:
        """Hold a part of a cache of RUN --mount=type=cache exclusively; `name` is its ID. Raises as `storage` does."""
        with self._held(f"{directory}/{part}.lock", f"cache mount {printable(name)}", True):
            yield

    @contextlib.contextmanager
    def _held(self, path: str, what: str, exclusive: bool) -> Iterator[None]:
        if not self._enabled:
            yield
            return
        try:
            lock = self._acquired(path, what, exclusive)
        except OSError as error:
            hint = _WRITABLE_HINT if error.errno in _NOT_WRITABLE else None
            raise FileError(f"lock {what}", path, error, hint=hint) from error
        try:
            yield
        finally:
            lock.release()

    def _acquired(self, path: str, what: str, exclusive: bool) -> LockFile:
        """Wait for a lock and return it."""
        lock: LockFile = FlockFile(path)
        holder = Holder.this_process(self._argv)
        try:
            taken = lock.acquire(holder, exclusive=exclusive)
        except OSError as error:
            if error.errno not in FLOCK_MISSING:
                raise
            lock = LinkFile(path)
            taken = lock.acquire(holder, exclusive=exclusive)
        if not taken:
            try:
                self._wait(lock, holder, what, exclusive)
            except BaseException:
                lock.release()
                raise
        return lock

    def _wait(self, lock: LockFile, holder: Holder, what: str, exclusive: bool) -> None:
        """Try until the lock is ours."""
        from chimage_core.events.locks import LockAwaited

        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        announced = False
        while True:
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise _busy(what, lock)
            if not announced:
                self._emit(LockAwaited(lock=what, holder=_described(lock)))
                announced = True
            time.sleep(min(pause, left))
            self._cancel.check()
            if lock.acquire(holder, exclusive=exclusive):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)


def _busy(what: str, lock: LockFile) -> StorageBusy:
    return StorageBusy(
        f"{what} is in use by {_described(lock)}",
        hint="wait for the other process (see --lock-timeout), or choose another storage directory with --storage",
    )


def _described(lock: LockFile) -> str:
    return "; ".join(map(str, lock.holders())) or "another process"
