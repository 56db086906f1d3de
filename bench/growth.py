"""`python -m bench.growth`: what a commit costs as images and the build cache grow. See README.md.

It writes growth.md, tables, and growth.svg, plots, beside this file. ch-image takes no part: the question is how our
own cost grows.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence

from bench import disk, inputs, peers
from bench.carry_out import compile_package, default_directory, make_home, measure_step
from bench.growth_report import Cost, FilesRow, StatesRow, form, goals_of, plots, report
from bench.measure import MeasuringError
from bench.peers import Peer
from bench.report import filesystem
from bench.states import States, repository_of, seconds_to_find
from bench.workloads import Step, built

FILES = (1_000, 3_000, 10_000, 30_000, 100_000, 200_000)
STATES = (10, 100, 1_000, 10_000, 100_000)
STATES_IMAGE = 1_000
"""Files of the image whose states are many."""
FILE_SIZE = 1_000
RUNS = 20
"""RUNs whose cost is measured together, where one is cheap."""
RUNS_WALKED = 5
WALK = ("--runner=ch-run",)
"""A runner that has no overlay."""


class Image:
    """An image that is built upon, each time by some RUNs more."""

    def __init__(self, peer: Peer, work: str, files: int) -> None:
        self.directory = os.path.join(work, "growing")
        self._peer = peer
        self._series = self._runs = 0
        make_home(self.directory)
        tarball = os.path.join(work, "base.tar")
        inputs.image(tarball, [FILE_SIZE] * files)
        self._carry_out(Step(f"import {files}", ["import", tarball, "base"], leaves=("base", files)))
        os.unlink(tarball)

    def begin(self) -> None:
        """Begin a new Dockerfile: longer ones cost more, whatever else grows."""
        self._series += 1
        self._runs = 0
        self.build(1)

    def build(self, more: int, options: Sequence[str] = ()) -> float:
        """Build with so many RUNs more than before; return CPU seconds."""
        self._runs += more
        dockerfile = inputs.two_file_runs("base", self._runs, self._series)
        return self._carry_out(built("build", dockerfile, more, options=options))

    def cost(self, repeats: int, runs: int, options: Sequence[str] = ()) -> Cost:
        """Return the median cost, with a Dockerfile of its own."""
        self.begin()
        commands = [self.build(1, options) for _ in range(repeats)]
        one = statistics.median(commands)
        each = statistics.median((self.build(runs + 1, options) - one) / runs for _ in range(repeats))
        if each <= 0:
            raise MeasuringError("the machine is too busy: many RUNs seem to cost less than one")
        return Cost(each, one)

    def remove(self) -> None:
        """Remove everything."""
        disk.remove(self.directory)

    def _carry_out(self, step: Step) -> float:
        return measure_step(step, self._peer, self.directory).cpu


def main(argv: Sequence[str]) -> int:
    """Measure, write the files, and return the exit status: 1 if a goal was missed, 2 if measuring failed."""
    options = _options(argv)
    compile_package()
    try:
        peer = peers.ours(options.chimage)
        with tempfile.TemporaryDirectory(prefix="chimage-growth.", dir=options.directory) as work:
            by_files = [_with_files(peer, work, files, options.repeats) for files in options.files]
            by_states = _with_states(peer, work, options.states, options.repeats)
            on = filesystem(work)
    except (MeasuringError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    goals = goals_of(by_files, by_states)
    text = report(by_files, by_states, goals, on)
    print(text)
    for name, content in (("growth.md", text), ("growth.svg", plots(by_files, by_states))):
        with open(os.path.join(options.output, name), "w", encoding="utf-8") as file:
            file.write(content)
    return 0 if all(goal.is_met for goal in goals) else 1


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.growth", description="Measure how the cost of a commit grows."
    )
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--files", type=int, nargs="+", default=FILES, metavar="N", help="sizes of images")
    parser.add_argument("--states", type=int, nargs="+", default=STATES, metavar="N", help="numbers of states")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="measurements of each (default: 3)")
    parser.add_argument("--directory", default=default_directory(), help="work below (default: %(default)s)")
    parser.add_argument("--output", default=here, metavar="DIR", help="write here (default: %(default)s)")
    parser.add_argument("--chimage", metavar="PROGRAM", help="measure this (default: the one of this environment)")
    return parser.parse_args(argv)


def _with_files(peer: Peer, work: str, files: int, repeats: int) -> FilesRow:
    print(f"{files:,} files", file=sys.stderr)
    image = Image(peer, work, files)
    try:
        return FilesRow(files, image.cost(repeats, RUNS), image.cost(repeats, RUNS_WALKED, WALK))
    finally:
        image.remove()


def _with_states(peer: Peer, work: str, numbers: Sequence[int], repeats: int) -> list[StatesRow]:
    """Let one cache grow, and measure it with references in files, then in one file."""
    rows = []
    image = Image(peer, work, STATES_IMAGE)
    try:
        image.begin()
        repository = repository_of(image.directory)
        states = States(repository, "base+latest")
        for number in sorted(numbers):
            states.grow(number)
            for is_packed in (False, True):
                print(f"{number:,} states, {form(is_packed)}", file=sys.stderr)
                if is_packed:
                    states.pack_references()
                image.begin()  # Pays for merging the packs that so many new states came in, once.
                found, missed = seconds_to_find(repository, states.known)
                cost = image.cost(repeats, RUNS)
                hit = statistics.median(image.build(0) for _ in range(repeats))
                rows.append(StatesRow(number, is_packed, cost, hit, found, missed))
    finally:
        image.remove()
    return rows


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
