"""`python -m bench`: run scenarios, peers interleaved, and print a table. See README.md."""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence

from bench import disk, peers
from bench.carry_out import compile_package, default_directory, make_home, measure_step
from bench.measure import MeasuringError, Usage
from bench.peers import OURS, THEIRS, Peer
from bench.registry import Served
from bench.report import Result, as_json, filesystem, table
from bench.scenarios import scenarios
from bench.workloads import Difference, Scenario

Measured = dict[tuple[str, str], list[Usage]]
"""By names of step and peer, one per round."""


def main(argv: Sequence[str]) -> int:
    """Measure what the options ask for and return the exit status: 1 if a goal was missed, 2 if measuring failed."""
    options = _options(argv)
    chosen = [scenario for scenario in scenarios() if not options.only or scenario.name in options.only]
    try:
        peer = None if options.alone else peers.theirs(options.ch_image)
        competitors = [peers.ours(options.chimage), *([peer] if peer else [])]
        with tempfile.TemporaryDirectory(prefix="chimage-bench.", dir=options.directory) as work:
            results, has_failed = _run(chosen, competitors, options.rounds, work)
            on = filesystem(work)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    versions = {peer.name: peer.version() for peer in competitors}
    print(f"\n{options.rounds} rounds on {on}; medians. {', '.join(f'{k} {v}' for k, v in versions.items())}\n")
    print(table(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(as_json(results, versions, options.directory), file, indent=1)
    if has_failed:
        return 2
    return 1 if any(result.meets_goal() is False for result in results) else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure chimage against ch-image.")
    names = [scenario.name for scenario in scenarios()]
    parser.add_argument("--only", action="append", choices=names, help="run this scenario only; can be repeated")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured to FILE")
    parser.add_argument(
        "--directory", default=default_directory(), help="work below this directory (default: %(default)s)"
    )
    parser.add_argument(
        "--chimage", metavar="PROGRAM", help="measure this chimage (default: the one of this environment)"
    )
    parser.add_argument("--ch-image", metavar="PROGRAM", help="compare with this (default: $CH_IMAGE, else Debian's)")
    parser.add_argument("--alone", action="store_true", help="compare with nothing")
    return parser.parse_args(argv)


def _run(chosen: Sequence[Scenario], competitors: Sequence[Peer], rounds: int, work: str) -> tuple[list[Result], bool]:
    """Return all results, and whether something could not be measured: that does not keep others from it."""
    compile_package()
    results: list[Result] = []
    has_failed = False
    for scenario in chosen:
        place = os.path.join(work, scenario.name)
        shared = os.path.join(place, "shared")
        os.makedirs(shared)
        try:
            if scenario.debian:
                _copy_debian(shared)
            if scenario.prepare:
                scenario.prepare(shared)
            with scenario.serve(shared) if scenario.serve else contextlib.nullcontext() as served:
                results += _measure_scenario(scenario, competitors, rounds, place, served)
        except MeasuringError as error:
            print(f"{scenario.name}: {error}", file=sys.stderr)
            has_failed = True
        disk.remove(place)
    return results, has_failed


def _measure_scenario(
    scenario: Scenario, competitors: Sequence[Peer], rounds: int, work: str, served: Served | None
) -> list[Result]:
    measured: Measured = {(step.name, peer.name): [] for step in scenario.steps for peer in competitors}
    for number in range(rounds):
        for peer in competitors:
            make_home(os.path.join(work, peer.name))
        for step in scenario.steps:
            print(f"round {number + 1} of {rounds}: {step.name}", file=sys.stderr)
            # A B, then B A: who comes second finds a warmer or a busier machine.
            for peer in competitors if number % 2 == 0 else reversed(competitors):
                if peer.name == OURS or not step.ours_only:
                    usage = measure_step(step, peer, os.path.join(work, peer.name), served)
                    measured[step.name, peer.name].append(usage)
        for peer in competitors:
            disk.remove(os.path.join(work, peer.name))
    steps = [
        Result(scenario.name, step.name, step.goal, measured[step.name, OURS], measured.get((step.name, THEIRS), []))
        for step in scenario.steps
    ]
    comparisons = [
        Result(scenario.name, each.name, each.goal, measured[each.step, OURS], measured[each.other, OURS])
        for each in scenario.comparisons
    ]
    return steps + [_subtracted(scenario, difference, measured) for difference in scenario.differences] + comparisons


def _subtracted(scenario: Scenario, difference: Difference, measured: Measured) -> Result:
    """Return a result that is the difference of two steps, round by round."""
    own = (difference.step, difference.less)
    ours, theirs = (
        [
            one.less(other, difference.per)
            for one, other in zip(measured.get((of, peer), []), measured.get((less, peer), []), strict=True)
        ]
        for peer, (of, less) in ((OURS, own), (THEIRS, difference.theirs or own))
    )
    return Result(scenario.name, difference.name, difference.goal, ours, theirs)


def _copy_debian(shared: str) -> None:
    """Put the Debian root file system of the tests into `shared`, preparing it first if need be."""
    from tests.support.debian import DebianAssets
    from tests.support.prepare import PreparationError, prepare

    try:
        tarball = DebianAssets(prepare()).tarball
    except PreparationError as error:
        raise MeasuringError(f"no Debian root file system could be prepared: {error}") from error
    shutil.copyfile(tarball, os.path.join(shared, "debian.tar"))  # into memory, where the peers' files are


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
