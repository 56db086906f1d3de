"""What is on record of each state: tables of a database, and what is asked of them. `inputs_store` opens it.

Texts are kept as bytes, since file names need not be UTF-8. Of the states that garbage collection removed, the newest
are remembered, so that a miss can be explained by it.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.state import StateID
from chimage_core.events import plain
from chimage_core.events.explain import Cause, Recorded

if TYPE_CHECKING:
    from sqlite3 import Connection

T = TypeVar("T")

VERSION = 1
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS steps (
    state BLOB PRIMARY KEY, parent BLOB NOT NULL, instruction BLOB NOT NULL, text BLOB NOT NULL, inputs BLOB,
    image BLOB NOT NULL, step INTEGER NOT NULL, line INTEGER NOT NULL, time INTEGER NOT NULL,
    cause BLOB, expired INTEGER
);
CREATE INDEX IF NOT EXISTS steps_parent ON steps (parent);
CREATE INDEX IF NOT EXISTS steps_image ON steps (image, step);
CREATE TABLE IF NOT EXISTS origins (
    reference BLOB NOT NULL, state BLOB NOT NULL, source BLOB NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (reference, state)
);
CREATE INDEX IF NOT EXISTS origins_state ON origins (state);
PRAGMA user_version = 1;
COMMIT;
"""

MOST_EXPIRED = 10_000
"""States of which we remember that they were removed."""
_MOST_ORIGINS = 16
"""Imports under one name that are remembered."""
_MOST_SIBLINGS = 64
_LONGEST_EXPIRED = 1 << 16
"""Bytes of inputs; those of a removed state are kept only if they are no longer."""


class StepRow(NamedTuple):
    """What is on record of a step, but for its inputs."""

    state: StateID
    parent: StateID
    instruction: str
    text: str
    """As announced, without the name."""
    image: str
    step: int
    line: int
    time: int
    expired: int | None
    """When its state was removed from the cache; None: it was not."""

    @property
    def recorded(self) -> Recorded:
        """The same for people."""
        text = f"{self.instruction} {self.text}"
        return Recorded(self.state.hex, text, self.image, self.step, self.line, self.time)


class Origin(NamedTuple):
    """Where the first state of a chain comes from."""

    reference: str
    """The name it was given, in full (with its tag)."""
    state: StateID
    source: str
    """What was imported: a path."""
    time: int
    """Seconds since the epoch."""


_ROW = "state, parent, instruction, text, image, step, line, time, expired"


class Damaged(Exception):
    """The database does not hold what we wrote: it is damaged, or another program's, or of another version."""


class Records:
    """Questions to the database, and additions. All raise sqlite3.Error, Damaged."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def step(self, state: StateID) -> StepRow | None:
        """Return what is on record of a state that an instruction made."""
        return next(iter(self._rows("state = ?", state.value)), None)

    def inputs(self, row: StepRow) -> StepInputs | None:
        """Return what a step was computed from; None if it is not known any more."""
        packed = self._one("SELECT inputs FROM steps WHERE state = ?", row.state.value)
        try:
            key = b"" if packed is None else zlib.decompress(packed)
        except (TypeError, zlib.error):
            return None
        # The name of the state says whether this is really what it was computed from.
        return StepInputs.from_key(row.text, key) if row.parent.child(key) == row.state else None

    def cause(self, state: StateID) -> Cause | None:
        """Return why the step missed that made a state; None if it is not known."""
        document = self._one("SELECT cause FROM steps WHERE state = ?", state.value)
        try:
            return None if document is None else Cause.from_document(json.loads(document))
        except (ValueError, TypeError, KeyError):
            return None

    def children(self, parent: StateID) -> list[StepRow]:
        """Return the steps from a state, newest first; not more than can be looked through."""
        return self._rows("parent = ? ORDER BY time DESC, rowid DESC LIMIT ?", parent.value, _MOST_SIBLINGS)

    def last(self, image: str, step: int) -> StepRow | None:
        """Return what a step of an image was when it was last carried out."""
        rows = self._rows("image = ? AND step = ? ORDER BY time DESC, rowid DESC LIMIT 1", _bytes(image), step)
        return rows[0] if rows else None

    def removed(self, beginning: str) -> list[StepRow]:
        """Return the removed states whose hexadecimal form begins so, newest first."""
        return self._rows("expired NOT NULL AND hex(state) LIKE ? ORDER BY expired DESC, rowid DESC", f"{beginning}%")

    def origin(self, state: StateID) -> Origin | None:
        """Return the last import that gave a state."""
        rows = self._origins("state = ? ORDER BY time DESC, rowid DESC LIMIT 1", state.value)
        return rows[0] if rows else None

    def origins(self, reference: str) -> list[Origin]:
        """Return what was imported under a name, newest first."""
        return self._origins("reference = ? ORDER BY time DESC, rowid DESC", _bytes(reference))

    def add(self, row: StepRow, inputs: StepInputs, cause: Cause | None) -> None:
        """Put a step on record."""
        self._connection.execute(
            f"INSERT OR REPLACE INTO steps ({_ROW}, inputs, cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.state.value,
                row.parent.value,
                _bytes(row.instruction),
                _bytes(row.text),
                _bytes(row.image),
                row.step,
                row.line,
                row.time,
                row.expired,
                zlib.compress(inputs.key(), 1),
                None if cause is None else json.dumps(plain(cause)).encode("ascii"),
            ),
        )

    def add_origin(self, origin: Origin) -> None:
        """Put an import on record; of many under one name, the oldest are forgotten."""
        reference = _bytes(origin.reference)
        self._connection.execute(
            "INSERT OR REPLACE INTO origins VALUES (?, ?, ?, ?)",
            (reference, origin.state.value, _bytes(origin.source), origin.time),
        )
        self._connection.execute(
            "DELETE FROM origins WHERE reference = ?1 AND state NOT IN"
            " (SELECT state FROM origins WHERE reference = ?1 ORDER BY time DESC, rowid DESC LIMIT ?2)",
            (reference, _MOST_ORIGINS),
        )

    def expire(self, states: Iterable[StateID], now: int) -> None:
        """Remember that states were removed from the cache."""
        self._connection.executemany(
            "UPDATE steps SET expired = ?, inputs = CASE WHEN length(inputs) <= ? THEN inputs END WHERE state = ?",
            ((now, _LONGEST_EXPIRED, state.value) for state in states),
        )
        self._connection.execute(
            "DELETE FROM steps WHERE expired NOT NULL AND state NOT IN"
            " (SELECT state FROM steps WHERE expired NOT NULL ORDER BY expired DESC, rowid DESC LIMIT ?)",
            (MOST_EXPIRED,),
        )

    def _one(self, query: str, *values: object) -> bytes | None:
        found = self._connection.execute(query, values).fetchone()
        return found[0] if found else None

    def _rows(self, condition: str, *values: object) -> list[StepRow]:
        return _decoded(_step_row, self._connection.execute(f"SELECT {_ROW} FROM steps WHERE {condition}", values))

    def _origins(self, condition: str, *values: object) -> list[Origin]:
        query = f"SELECT reference, state, source, time FROM origins WHERE {condition}"
        return _decoded(_origin, self._connection.execute(query, values))


def _decoded(make: Callable[[Sequence[Any]], T], found: Iterable[Sequence[Any]]) -> list[T]:
    try:
        return [make(values) for values in found]
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"a row is malformed: {error}") from error


def _step_row(values: Sequence[Any]) -> StepRow:
    state, parent, instruction, text, image, *numbers = values
    return StepRow(_state(state), _state(parent), _text(instruction), _text(text), _text(image), *numbers)


def _origin(values: Sequence[Any]) -> Origin:
    reference, state, source, time = values
    return Origin(_text(reference), _state(state), _text(source), time)


def _state(value: bytes) -> StateID:
    return StateID.from_hex(value.hex())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
