"""`python -m bench.dockerfiles`: how long reading Dockerfiles takes, usual ones and the worst that we can think of.

Usual ones: the files of the tests' golden pairs, of `examples`, and those that the tests make by combination. The
worst: `tests.core.dockerfile.torture`, 64 KB each. All in one process, in CPU time, the best of some rounds each,
because this is about the work and not about the machine's other guests. The exit status is 1 if a goal was missed.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from chimage_core.dockerfile.parser import parse
from chimage_core.dockerfile.substitute import expand
from chimage_core.errors import DockerfileError

ROOT = Path(__file__).parent.parent
USUAL_GOAL = 0.001
"""Seconds a usual file may take in the mean."""
WORST_GOAL = 0.5
"""Seconds that any input of 64 KB may take."""


def main(argv: Sequence[str]) -> int:
    """Measure, print a table, and return the exit status."""
    from tests.core.dockerfile import torture

    parser = argparse.ArgumentParser(prog="python -m bench.dockerfiles", description="Measure the Dockerfile parser.")
    parser.add_argument("--every", type=int, default=20, metavar="N", help="take every Nth long line (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="the best of N counts (default: 3)")
    options = parser.parse_args(argv)
    parse("FROM x", "-")  # Imports lark and loads the tables.
    slow = [
        _report("golden and examples", _parses(_real_files()), options.rounds, mean_goal=USUAL_GOAL),
        _report("combinations", _parses(_combined_files()), options.rounds, mean_goal=USUAL_GOAL),
        _report("many instructions", _parses(torture.files()), options.rounds, worst_goal=WORST_GOAL),
        _report(
            "one long line",
            _parses(itertools.islice(torture.lines(), 0, None, options.every)),
            options.rounds,
            worst_goal=WORST_GOAL,
        ),
        _report("one long word", _expansions(torture.words()), options.rounds, worst_goal=WORST_GOAL),
    ]
    return int(any(slow))


_Measured = tuple[str, Callable[[], object]]


def _report(
    title: str,
    inputs: Iterable[_Measured],
    rounds: int,
    *,
    mean_goal: float | None = None,
    worst_goal: float | None = None,
) -> bool:
    """Print one row, and return whether it misses its goal."""
    seconds = {name: min(_seconds(work) for _ in range(rounds)) for name, work in inputs}
    mean, worst = statistics.mean(seconds.values()), max(seconds, key=seconds.__getitem__)
    is_missed = mean > (mean_goal or mean) or seconds[worst] > (worst_goal or seconds[worst])
    print(
        f"{title:20} {len(seconds):6} inputs, mean {mean * 1000:8.3f} ms, "
        f"worst {seconds[worst] * 1000:8.3f} ms ({worst[:60]!r}){'  MISSED' if is_missed else ''}"
    )
    return is_missed


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    try:
        work()
    except DockerfileError:
        pass
    return time.process_time() - began


def _parses(files: Iterable[tuple[str, str | bytes]]) -> Iterator[_Measured]:
    for name, text in files:
        yield name, lambda text=text: parse(text, "-")


def _expansions(words: Iterable[tuple[str, str, str]]) -> Iterator[_Measured]:
    for name, word, value in words:
        yield name, lambda word=word, value=value: expand(word, {"a": value})


def _real_files() -> Iterator[tuple[str, bytes]]:
    folders = (ROOT / "tests/core/dockerfile/golden", ROOT / "examples")
    for path in sorted(path for folder in folders for path in folder.rglob("*Dockerfile*") if path.is_file()):
        yield str(path), path.read_bytes()


def _combined_files() -> Iterator[tuple[str, str]]:
    """Yield files of ten of the combined instructions each: one alone is no usual file."""
    from tests.core.dockerfile.cases import instructions

    cases = [case for case in instructions.cases() if case.text.startswith("FROM x\n") and case.text.endswith("\n")]
    for start in range(0, len(cases), 10):
        bodies = (case.text.removeprefix("FROM x\n") for case in cases[start : start + 10])
        yield f"{start}", "FROM x\n" + "".join(bodies)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
