"""Stages built side by side, in threads: the work is in child processes, and what is shared takes turns."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled

if TYPE_CHECKING:
    from chimage_core.cache.protocol import Cache

T = TypeVar("T")


def build_side_by_side(
    needs: Mapping[int, set[int]], jobs: int, build: Callable[[int], T], stop: CancelToken
) -> dict[int, T]:
    """Call `build` for all numbers, at most `jobs` at a time, each after those that it `needs`; return the results.

    The first failure stops the others by `stop`, and is raised when they have ended.
    """
    waiting = dict(needs)
    running: dict[Future[T], int] = {}
    results: dict[int, T] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(jobs, thread_name_prefix="stage") as pool:
        while running or (waiting and failure is None):
            ready = [] if failure else [number for number, needed in waiting.items() if needed <= results.keys()]
            for number in ready:
                del waiting[number]
                running[pool.submit(build, number)] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, error = running.pop(future), future.exception()
                if error is None:
                    results[number] = future.result()
                    continue
                if failure is None or isinstance(failure, Cancelled):
                    failure = error  # Who was only stopped does not tell why.
                stop.cancel()
    if failure is not None:
        raise failure
    return results


def taking_turns(cache: "Cache", turn: contextlib.AbstractContextManager[object]) -> "Cache":
    """Return a build cache for several threads: one call at a time, inside of `turn`."""
    return cast("Cache", _TakingTurns(cache, turn))


class _TakingTurns:
    def __init__(self, shared: object, turn: contextlib.AbstractContextManager[object]) -> None:
        self._shared = shared
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._shared, name)
        return functools.partial(self._call, value) if callable(value) else value

    def _call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        with self._turn:
            return function(*arguments, **keywords)
