"""The history of all snapshots: what is read, and how long that takes when there are many."""

import time
from collections.abc import Iterator
from pathlib import Path

from chimage_core.cache.git.cache import GitCache
from chimage_core.cancel import CancelToken
from chimage_core.cli.render_tree import tree_lines
from tests.support.recorder import Recorder
from tests.support.states import State, write_states

MANY = 20_000
PATIENCE = 200e-6
"""Seconds of CPU time for a state. It takes a fifth; what grows faster than the number of states takes much more."""


def cache(repository: Path) -> GitCache:
    return GitCache(str(repository), emit=Recorder(), cancel=CancelToken())


def test_children_come_before_parents_whatever_the_clocks_said(tmp_path: Path) -> None:
    states = [
        State(None, "base", ("base+latest",)),
        State(0, "a", (), ("gone+1", "gone+1")),
        State(0, "b"),
        State(1, "c"),
    ]
    commits = write_states(str(tmp_path / "git"), states)
    nodes = cache(tmp_path / "git").graph().nodes
    assert [(node.text, node.kept_by) for node in nodes] == [
        ("c", "nothing"),
        ("b", "nothing"),
        ("a", "deleted"),
        ("base", "image"),
    ]
    assert [node.token for node in nodes] == [commit.hex() for commit in reversed(commits)]
    assert (nodes[2].deleted, nodes[3].images) == (("gone+1",), ("base+latest",))
    summary = cache(tmp_path / "git").summary()
    assert (summary.named_images, summary.state_ids, summary.commits) == (1, 4, 4)


def wide() -> Iterator[State]:
    """Many builds on one base."""
    yield State(None, "base", ("base+latest",))
    for number in range(1, MANY):
        yield State(0, f"RUN echo {number}", (f"image{number}+latest",) if number % 10 == 0 else ())


def deep() -> Iterator[State]:
    """One long chain, where each state has a branch that is newer than what follows it."""
    yield State(None, "base", ("base+latest",))
    for number in range(MANY // 2):
        yield State(number, f"RUN echo {number}")
    for number in range(MANY // 2 - 1):
        yield State(MANY // 2 - number, f"RUN echo branch {number}", (), (f"image{number}+latest",))


def test_many_states_are_read_counted_and_drawn_in_no_time(tmp_path: Path) -> None:
    for shape in (wide, deep):
        repository = tmp_path / shape.__name__
        write_states(str(repository), shape())
        began = time.process_time()
        graph = cache(repository).graph()
        summary = cache(repository).summary()
        lines = list(tree_lines(graph, verbose=True))
        assert time.process_time() - began < MANY * PATIENCE, shape.__name__
        assert summary.commits == len(graph.nodes) == MANY
        assert len(lines) >= 2 * MANY
        assert max(map(len, lines)) < 200
