"""The log of uses says which states nobody needs any more. It must cost nothing and may never be in the way."""

import os
from pathlib import Path

import pytest

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.git.graph import read_graph
from chimage_core.cache.git.uses import compact, last_uses, note_use
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.state import StateID
from tests.core.cache.support import Site, commit, write_files

MADE = 1_700_000_000


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "lru")


def _chain(site: Site, keys: list[bytes]) -> list[Snapshot]:
    """Commit a state for each key, each made from the one before."""
    place, cache, parent = site.place("image"), site.cache(clock=MADE), None
    snapshots = []
    for key in keys:
        write_files(place.root, {"file": key.decode()})
        parent = commit(cache, place, parent, key=key)
        snapshots.append(parent)
    return snapshots


def _uses(site: Site, log: str) -> dict[bytes, int]:
    engine = site.cache().engine
    return last_uses(log, read_graph(engine.store, engine.references).nodes)


def test_using_a_state_uses_all_that_it_was_made_from(site: Site, log: str) -> None:
    first, second, third = _chain(site, [b"1", b"2", b"3"])
    note_use(log, second.state, MADE + 500.9)
    note_use(log, second.state, MADE + 100)
    assert _uses(site, log) == {
        first.state.value: MADE + 500,
        second.state.value: MADE + 500,
        third.state.value: MADE,
    }


def test_without_a_log_a_state_is_as_old_as_its_commit(site: Site, log: str) -> None:
    (only,) = _chain(site, [b"1"])
    assert _uses(site, log) == {only.state.value: MADE}


def test_damage_costs_only_the_lines_it_hits(site: Site, log: str) -> None:
    """On some network file systems appends of several machines overwrite each other; a crash can cut a line off."""
    first, second = _chain(site, [b"1", b"2"])
    note_use(log, first.state, MADE + 5)
    with open(log, "ab") as file:
        file.write(b"\0\xff torn \n" + second.state.hex[:40].encode() + b" 000")
    note_use(log, second.state, MADE + 6)  # Its line is lost in what was cut off.
    note_use(log, second.state, MADE + 7)
    assert _uses(site, log) == {first.state.value: MADE + 7, second.state.value: MADE + 7}


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    note_use(str(tmp_path / "missing" / "lru"), StateID.root(b"x"), MADE)
    assert os.listdir(tmp_path) == []


def test_publishing_an_image_is_a_use_of_its_state(site: Site) -> None:
    (only,) = _chain(site, [b"1"])
    log = str(site.root / "cache" / "lru")
    cache = GitCache(
        site.repository, emit=site.events, cancel=site.cancel, sync=False, clock=lambda: MADE + 60, uses=log
    )
    cache.publish("image", only)
    assert _uses(site, log) == {only.state.value: MADE + 60}


def test_compacting_leaves_the_newest_use_of_the_states_that_remain(site: Site, log: str) -> None:
    first, second = _chain(site, [b"1", b"2"])
    for seconds in range(10):
        note_use(log, first.state, MADE + seconds)
        note_use(log, second.state, MADE + seconds)
    compact(log, [first.state.value])
    assert Path(log).read_text() == f"{first.state.hex[:40]} {MADE + 9:011d}\n"
    compact(log, [])
    assert Path(log).read_text() == ""
