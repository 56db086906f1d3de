"""Stages side by side: order, number at a time, and what happens when one fails."""

import threading

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, RunFailed
from chimage_core.ops.side_by_side import build_side_by_side, taking_turns

SECONDS = 30


def test_each_is_built_after_what_it_needs() -> None:
    done: list[int] = []
    needs: dict[int, set[int]] = {0: set(), 1: {0}, 2: set(), 3: {1, 2}}

    def build(number: int) -> int:
        done.append(number)
        return -number

    results = build_side_by_side(needs, 2, build, CancelToken())
    assert results == {0: 0, 1: -1, 2: -2, 3: -3}
    assert done.index(0) < done.index(1) < done.index(3)
    assert done[-1] == 3


def test_as_many_as_allowed_are_built_at_a_time() -> None:
    """Each waits for the other: alone, none would end."""
    both, lock = threading.Barrier(2), threading.Lock()
    running, most = 0, 0

    def build(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(SECONDS)
        with lock:
            running -= 1

    build_side_by_side({number: set() for number in range(4)}, 2, build, CancelToken())
    assert most == 2


def test_the_first_failure_stops_the_others_and_is_raised() -> None:
    stop, begun = CancelToken(), threading.Event()
    built: list[int] = []

    def build(number: int) -> None:
        stop.check()
        built.append(number)
        if number == 1:
            begun.wait(SECONDS)
            raise RunFailed("no")
        stopped = threading.Event()
        with stop.on_cancel(stopped.set):
            begun.set()
            assert stopped.wait(SECONDS)
        stop.check()

    with pytest.raises(RunFailed):
        build_side_by_side({0: set(), 1: set(), 2: set(), 3: {1}}, 2, build, stop)
    assert sorted(built) == [0, 1]


def test_a_part_stops_with_the_whole_and_alone() -> None:
    whole = CancelToken()
    with whole.part() as part:
        part.cancel()
        with pytest.raises(Cancelled):
            part.check()
        whole.check()
    with whole.part() as part:
        whole.cancel(15)
        with pytest.raises(Cancelled) as caught:
            part.check()
        assert caught.value.exit_code == 128 + 15
        with part.shielded():
            part.check()
            whole.check()


def test_a_shared_thing_is_used_by_one_thread_at_a_time() -> None:
    turn = threading.RLock()

    class Shared:
        keeps_snapshots = True

        def held(self) -> bool:
            """Return whether another thread could use it now."""
            free: list[bool] = []
            other = threading.Thread(target=lambda: free.append(turn.acquire(blocking=False)))
            other.start()
            other.join(SECONDS)
            return free == [False]

    shared = taking_turns(Shared(), turn)  # type: ignore[arg-type]
    assert shared.keeps_snapshots
    assert shared.held()  # type: ignore[call-arg]
