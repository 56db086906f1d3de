"""`python -m bench`: run scenarios, peers interleaved, and print a table. See README.md."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import chimage_core
from bench import peers
from bench.measure import MeasuringError, Usage, measure
from bench.peers import Peer
from bench.report import Result, as_json, filesystem, table
from bench.workloads import Scenario, Step, check_work_done, scenarios

MEMORY_DIRECTORY = "/dev/shm"
NEEDED = 8 << 30
"""Bytes free in the work directory: the largest scenario, twice, with room."""


def main(argv: Sequence[str]) -> int:
    """Measure what the options ask for and return the exit status: 1 if a goal was missed, 2 if measuring failed."""
    options = _options(argv)
    chosen = [scenario for scenario in scenarios() if not options.only or scenario.name in options.only]
    try:
        peer = None if options.alone else peers.theirs(options.ch_image)
        competitors = [peers.ours(options.chimage), *([peer] if peer else [])]
        with tempfile.TemporaryDirectory(prefix="chimage-bench.", dir=options.directory) as work:
            results = _run(chosen, competitors, options.rounds, work)
            on = filesystem(work)
    except (MeasuringError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    versions = {peer.name: peer.version() for peer in competitors}
    print(f"\n{options.rounds} rounds on {on}; medians. {', '.join(f'{k} {v}' for k, v in versions.items())}\n")
    print(table(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(as_json(results, versions, options.directory), file, indent=1)
    return 1 if any(result.meets_goal() is False for result in results) else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure chimage against ch-image.")
    names = [scenario.name for scenario in scenarios()]
    parser.add_argument("--only", action="append", choices=names, help="run this scenario only; can be repeated")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured to FILE")
    parser.add_argument(
        "--directory", default=_default_directory(), help="work below this directory (default: %(default)s)"
    )
    parser.add_argument(
        "--chimage", metavar="PROGRAM", help="measure this chimage (default: the one of this environment)"
    )
    parser.add_argument("--ch-image", metavar="PROGRAM", help="compare with this (default: $CH_IMAGE, else Debian's)")
    parser.add_argument("--alone", action="store_true", help="compare with nothing")
    return parser.parse_args(argv)


def _default_directory() -> str:
    if os.access(MEMORY_DIRECTORY, os.W_OK) and shutil.disk_usage(MEMORY_DIRECTORY).free > NEEDED:
        return MEMORY_DIRECTORY
    return tempfile.gettempdir()


def _run(chosen: Sequence[Scenario], competitors: Sequence[Peer], rounds: int, work: str) -> list[Result]:
    package = os.path.dirname(os.path.abspath(chimage_core.__file__))
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=False)  # as an installed one would be
    results = []
    for scenario in chosen:
        shared = os.path.join(work, "shared")
        os.mkdir(shared)
        if scenario.debian and not _link_debian(shared):
            print(f"skipped {scenario.name}: no Debian root file system could be prepared", file=sys.stderr)
            continue
        if scenario.prepare:
            scenario.prepare(shared)
        results += _measure_scenario(scenario, competitors, rounds, work)
        _remove(shared)
    return results


def _measure_scenario(scenario: Scenario, competitors: Sequence[Peer], rounds: int, work: str) -> list[Result]:
    measured: dict[tuple[str, str], list[Usage]] = {
        (step.name, peer.name): [] for step in scenario.steps for peer in competitors
    }
    for number in range(rounds):
        for peer in competitors:
            _make_home(os.path.join(work, peer.name))
        for step in scenario.steps:
            print(f"round {number + 1} of {rounds}: {step.name}", file=sys.stderr)
            # A B, then B A: who comes second finds a warmer or a busier machine.
            for peer in competitors if number % 2 == 0 else reversed(competitors):
                measured[step.name, peer.name].append(_measure_step(step, peer, os.path.join(work, peer.name)))
        for peer in competitors:
            _remove(os.path.join(work, peer.name))
    return [
        Result(
            scenario.name,
            step.name,
            step.goal,
            *(measured.get((step.name, name), []) for name in ("chimage", "ch-image")),
        )
        for step in scenario.steps
    ]


def _make_home(directory: str) -> None:
    """Make a peer's directory, which is also its HOME. The git that ch-image starts wants to know who commits."""
    os.makedirs(os.path.join(directory, "tmp"))
    with open(os.path.join(directory, ".gitconfig"), "w", encoding="utf-8") as file:
        file.write("[user]\n\tname = Bench\n\temail = bench@localhost\n")


def _measure_step(step: Step, peer: Peer, directory: str) -> Usage:
    for name, text in step.files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Only when it differs: a touched file in the context would be another context.
        if not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    if step.before:
        step.before(directory)
    argv = step.their_argv if step.their_argv and peer.name == "ch-image" else step.argv
    usage, output = measure([peer.program, *argv], peer.environment(directory), directory)
    if wrong := check_work_done(step, output):
        raise MeasuringError(f"{peer.name}: {wrong}")
    return usage


def _link_debian(shared: str) -> bool:
    """Put the Debian root file system of the tests into `shared`, preparing it first if need be."""
    from tests.support.debian import DebianAssets
    from tests.support.prepare import PreparationError, prepare

    try:
        tarball = DebianAssets(prepare()).tarball
    except PreparationError as error:
        print(error, file=sys.stderr)
        return False
    shutil.copyfile(tarball, os.path.join(shared, "debian.tar"))  # into memory, where the peers' files are
    return True


def _remove(path: str) -> None:
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False)
    shutil.rmtree(path)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
