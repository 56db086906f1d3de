"""The record of what states were made of: it answers, and whatever happens to it stops nobody."""

import multiprocessing
import os
import sqlite3
import time
from pathlib import Path

import pytest

from chimage_core.cache.explain import Missed, Start, find_cause
from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.inputs_store import InputsStore
from chimage_core.cache.records import MOST_EXPIRED, Origin, StepRow
from chimage_core.cache.state import StateID
from chimage_core.events import Notice
from chimage_core.events.explain import Cause, Change, Recorded
from tests.support.recorder import Recorder

BASE = StateID.root(b"base")
TEXT = "true \udcff"


def inputs(number: int, sources: bytes = b"") -> StepInputs:
    return StepInputs("RUN", TEXT, {"command": ["true", str(number)], "script": None}, sources)


def row(number: int, *, time: int = 0, sources: bytes = b"") -> StepRow:
    state = BASE.child(inputs(number, sources).key())
    return StepRow(state, BASE, "RUN", TEXT, "image:latest", number, number, time, None)


def add(store: InputsStore, *numbers: int, time: int = 0) -> None:
    for number in numbers:
        store.add(row(number, time=time), inputs(number), None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inputs"


@pytest.fixture
def events() -> Recorder:
    return Recorder()


@pytest.fixture
def store(path: Path, events: Recorder) -> InputsStore:
    return InputsStore(str(path), events)


def test_what_was_recorded_comes_back(store: InputsStore) -> None:
    change = Change("source", "a\udcff", "mtime", 1, 2)
    compared = Recorded("0" * 64, "RUN x", "image:latest", 1, 2, 3)
    cause = Cause("changed", compared=compared, changes=(change,), omitted=3)
    sources = b"name\x00100644\x001 2\x00\x00"
    made = row(1, sources=sources)
    store.add(made, inputs(1, sources), cause)
    assert store.ask(lambda records: records.step(made.state)) == made
    assert store.ask(lambda records: records.inputs(made)) == inputs(1, sources)
    assert store.ask(lambda records: records.cause(made.state)) == cause
    assert store.ask(lambda records: records.children(BASE)) == [made]
    assert store.ask(lambda records: records.last("image:latest", 1)) == made


def test_inputs_that_do_not_give_the_state_are_none(path: Path, store: InputsStore) -> None:
    """Whatever happened to the file, nobody gets a wrong explanation, or stumbles over nonsense."""
    add(store, 1, 2)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE steps SET inputs = (SELECT inputs FROM steps WHERE step = 2), cause = x'7b'")
    assert store.ask(lambda records: records.inputs(row(1))) is None
    assert store.ask(lambda records: records.inputs(row(2))) == inputs(2)
    assert store.ask(lambda records: records.cause(row(1).state)) is None
    with connection:
        connection.execute("UPDATE steps SET inputs = 'text'")
    connection.close()
    assert store.ask(lambda records: records.inputs(row(2))) is None


def test_newest_come_first_also_within_a_second(store: InputsStore) -> None:
    add(store, 1, 2, 3, time=5)
    rows = store.ask(lambda records: records.children(BASE))
    assert rows is not None
    assert [each.step for each in rows] == [3, 2, 1]


def test_imports_under_a_name_are_remembered_newest_first(store: InputsStore) -> None:
    states = [StateID.root(str(number).encode()) for number in range(40)]
    for second, state in enumerate([*states, states[0]]):
        store.add_origin(Origin("base:latest", state, "/\udcff", second))
    found = store.ask(lambda records: records.origins("base:latest"))
    assert found is not None
    assert [origin.state for origin in found[:2]] == [states[0], states[-1]]
    assert len(found) < len(states)
    assert found[0].source == "/\udcff"
    assert store.ask(lambda records: records.origin(states[0])) == found[0]
    assert store.ask(lambda records: records.origins("other:latest")) == []


def test_removed_states_are_remembered_with_the_time_until_they_are_made_again(store: InputsStore) -> None:
    add(store, 1)
    store.expire([row(1).state], 99)
    assert store.ask(lambda records: records.step(row(1).state)) == row(1)._replace(expired=99)
    (removed,) = store.ask(lambda records: records.removed(row(1).state.hex[:6])) or []
    assert removed.expired == 99
    add(store, 1)
    assert store.ask(lambda records: records.removed("")) == []


def test_not_all_removed_states_are_remembered_for_ever(path: Path, store: InputsStore) -> None:
    add(store, 0)
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO steps SELECT ?, parent, instruction, text, inputs, image, step, line, time, cause, expired"
            " FROM steps LIMIT 1",
            ((os.urandom(32),) for _ in range(MOST_EXPIRED + 10)),
        )
        states = [StateID(state) for (state,) in connection.execute("SELECT state FROM steps")]
    connection.close()
    store.expire(states[:20], 1)
    store.expire(states[20:], 2)
    removed = store.ask(lambda records: records.removed(""))
    assert removed is not None
    assert len(removed) == MOST_EXPIRED
    assert sum(each.expired == 1 for each in removed) == 9


def test_long_inputs_of_removed_states_are_dropped(store: InputsStore) -> None:
    sources = os.urandom(1 << 17)
    long = row(1, sources=sources)
    store.add(long, inputs(1, sources), None)
    add(store, 2)
    assert store.ask(lambda records: records.inputs(long)) == inputs(1, sources)
    store.expire([long.state, row(2).state], 1)
    assert store.ask(lambda records: records.inputs(long)) is None
    assert store.ask(lambda records: records.inputs(row(2))) == inputs(2)


def test_who_only_asks_makes_no_file(path: Path, store: InputsStore, events: Recorder) -> None:
    assert store.ask(lambda records: records.step(BASE)) is None
    store.expire([BASE], 1)
    store.remove()
    assert list(path.parent.iterdir()) == []
    assert events == []


@pytest.mark.parametrize("damage", ["no database", "torn", "empty", "other version", "other tables", "short rows"])
def test_a_damaged_file_has_no_answer_and_is_begun_anew(
    path: Path, store: InputsStore, events: Recorder, damage: str
) -> None:
    add(store, *range(200))
    if damage == "no database":
        path.write_bytes(b"x" * 10_000)
    elif damage == "torn":
        size = path.stat().st_size
        with path.open("r+b") as file:
            for at in range(4096, size, 4096):
                file.seek(at)
                file.write(b"\xff" * 512)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        statements = {
            "other version": "PRAGMA user_version = 7",
            "other tables": "PRAGMA user_version = 0; DROP TABLE steps; CREATE TABLE steps (other)",
            "short rows": "UPDATE steps SET state = substr(state, 1, 3), parent = x'00'",
        }
        connection = sqlite3.connect(path)
        connection.executescript(statements[damage])
        connection.close()
    assert store.ask(lambda records: records.children(BASE)) in (None, [])
    add(store, 1)
    add(store, 1)
    assert all(event.level == "verbose" for event in events.of(Notice))
    if damage == "other tables":  # Not ours, and nobody can say that it is damaged: it stays.
        assert events
    else:
        assert store.ask(lambda records: records.step(row(1).state)) == row(1)


def test_a_journal_of_a_damaged_file_is_not_applied_to_the_new_one(path: Path, store: InputsStore) -> None:
    path.write_bytes(b"x" * 10_000)
    journal = path.with_name("inputs-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\1" * 5000)
    add(store, 1)
    add(store, 2)
    assert store.ask(lambda records: records.children(BASE)) == [row(2), row(1)]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_where_nothing_can_be_written_it_can_still_be_read(path: Path, store: InputsStore, events: Recorder) -> None:
    add(store, 1)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert store.ask(lambda records: records.step(row(1).state)) == row(1)
        add(store, 2)
        store.expire([row(1).state], 1)
    finally:
        path.parent.chmod(0o755)
    assert [event.level for event in events.of(Notice)] == ["verbose", "verbose"]
    assert store.ask(lambda records: records.children(BASE)) == [row(1)]


def test_a_directory_in_its_place_stops_nobody(path: Path, store: InputsStore, events: Recorder) -> None:
    path.mkdir()
    add(store, 1)
    assert store.ask(lambda records: records.children(BASE)) is None
    assert len(events) == 2


def test_a_lock_that_is_not_released_is_not_waited_for_for_ever(
    path: Path, store: InputsStore, events: Recorder
) -> None:
    add(store, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    add(store, 2)
    other.execute("ROLLBACK")
    other.close()
    assert "locked" in events.one(Notice).text
    assert store.ask(lambda records: records.children(BASE)) == [row(1)]


def _write(path: str, numbers: range) -> None:
    add(InputsStore(path), *numbers)


def test_several_writers_lose_nothing_of_each_other(path: Path, store: InputsStore) -> None:
    """Builds side by side record their steps in one file, and the first of them make it."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(str(path), range(n * 15, n * 15 + 15))) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = store.ask(lambda records: records.children(BASE))
    assert rows is not None
    assert {each.step for each in rows} == set(range(60))


def test_recording_and_explaining_a_step_takes_little(store: InputsStore) -> None:
    """Half a millisecond and two, with as many siblings as are looked at; the bounds are for slow machines."""
    began = time.process_time()
    add(store, *range(100))
    assert time.process_time() - began < 100 * 0.01
    new = inputs(1000)._replace(text="false")
    missed = Missed("image:latest", 2, BASE, BASE.child(new.key()), new, Start("base:latest", BASE, {}))
    began = time.process_time()
    for _ in range(10):
        cause = store.ask(lambda records: find_cause(records, missed))
    assert time.process_time() - began < 10 * 0.04
    assert cause is not None
    assert cause.kind == "changed"


def test_shared_records_are_asked_too_and_ours_come_first(tmp_path: Path, store: InputsStore) -> None:
    shared = InputsStore(str(tmp_path / "shared"))
    add(shared, 1, 2, time=1)
    add(store, 1, time=2)
    both = InputsStore(str(tmp_path / "inputs"), shared=[shared])
    assert [each.time for each in both.answers(lambda records: records.step(row(1).state))] == [2, 1]
    assert [each.time for each in both.answers(lambda records: records.step(row(2).state))] == [1]


def test_nobody_else_can_read_it_unless_its_owner_permits_that(path: Path, store: InputsStore) -> None:
    """Arguments of builds may be private, as the repository is."""
    add(store, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    add(store, 2)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_what_may_not_be_read_has_no_answer_and_is_nothing_to_talk_about(
    path: Path, store: InputsStore, events: Recorder
) -> None:
    """That of a shared cache may be closed."""
    add(store, 1)
    path.chmod(0)
    assert store.ask(lambda records: records.step(row(1).state)) is None
    assert events == []
