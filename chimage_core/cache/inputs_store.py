"""The file that says what each cached state was computed from: a database beside the repository.

It serves explanations only. Losing it loses no state, so nothing that goes wrong with it stops a build: whoever asks
then gets no answer, and a file that is damaged is begun anew. Nor does anybody wait for the disk: what a power failure
damages is begun anew, too. The file is opened for each use, because we fork in between.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.state import StateID
from chimage_core.events import Notice, Sink

if TYPE_CHECKING:
    # With sqlite3, imported where something is explained or recorded.
    from chimage_core.cache.records import Origin, Records, StepRow
    from chimage_core.events.explain import Cause

T = TypeVar("T")

_BUSY_SECONDS = 2.0
"""How long to wait for another process that is writing."""
_DAMAGED = (11, 26)
"""SQLITE_CORRUPT, SQLITE_NOTADB."""


class InputsStore:
    """The records of one build cache. No method raises for what may be wrong with the file."""

    def __init__(self, path: str, emit: Sink | None = None, shared: "Sequence[InputsStore]" = ()) -> None:
        """`path` need not exist, nor its directory be writable. `emit` gets told what went wrong. `shared`: those of
        shared caches, which are only read."""
        self._path = path
        self._emit = emit
        self._shared = shared

    def ask(self, question: "Callable[[Records], T]") -> T | None:
        """Return the answer to a question; None if there is no file, or it cannot be read."""
        return self._guarded(question) if os.access(self._path, os.R_OK) else None

    def answers(self, question: "Callable[[Records], T | None]") -> Iterator[T]:
        """Yield the answers of our own records and of the shared ones, as far as there are any."""
        for store in (self, *self._shared):
            answer = store.ask(question)
            if answer is not None:
                yield answer

    def add(self, row: "StepRow", inputs: StepInputs, cause: "Cause | None") -> None:
        """Put a step on record."""
        self._write(lambda records: records.add(row, inputs, cause))

    def add_origin(self, origin: "Origin") -> None:
        """Put an import on record."""
        self._write(lambda records: records.add_origin(origin))

    def expire(self, states: Iterable[StateID], now: int) -> None:
        """Remember that states were removed from the cache at a time (seconds since the epoch)."""
        if os.path.exists(self._path):
            self._write(lambda records: records.expire(states, now))

    def remove(self) -> None:
        """Forget everything."""
        # The journal first: it would be applied to whatever has the name of the database.
        for path in (f"{self._path}-journal", self._path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _write(self, change: "Callable[[Records], None]") -> None:
        self._guarded(change, is_writing=True)

    def _guarded(self, use: "Callable[[Records], T]", *, is_writing: bool = False) -> T | None:
        try:
            import sqlite3
        except ImportError as error:  # A Python that was built without it.
            self._tell(f"no record of inputs: {error}")
            return None
        from chimage_core.cache.records import Damaged

        for is_last_try in (not is_writing, True):
            try:
                return self._use(use, is_writing)
            except (sqlite3.Error, Damaged, OSError) as error:
                code = getattr(error, "sqlite_errorcode", 0)
                is_damaged = isinstance(error, Damaged) or code & 0xFF in _DAMAGED
                if is_damaged and not is_last_try:
                    self._tell(f"record of inputs is damaged and begun anew: {error}")
                    with contextlib.suppress(OSError):
                        self.remove()
                else:
                    self._tell(f"can’t {'write' if is_writing else 'read'} the record of inputs: {error}")
                    break
        return None

    def _use(self, use: "Callable[[Records], T]", is_writing: bool) -> T:
        import sqlite3

        from chimage_core.cache.records import SCHEMA, VERSION, Damaged, Records

        if is_writing:
            # For us alone, as the repository is: arguments of builds, and names of files. Who shares it permits it.
            os.close(os.open(self._path, os.O_CREAT | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and is_writing:
                connection.executescript(SCHEMA)
            elif version != VERSION:
                raise Damaged(f"its format is {version}, not {VERSION}")
            with connection:
                return use(Records(connection))

    def _tell(self, text: str) -> None:
        if self._emit is not None:
            self._emit(Notice(level="verbose", text=f"{text}: {self._path}"))
