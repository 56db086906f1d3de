"""What `bench.growth` measured, as tables and plots, with the goals."""

import os
import platform
from collections.abc import Sequence
from typing import NamedTuple

from bench.svg import Panel, figure

FLAT = 1.5
"""Goal: with the most files, or states, a commit costs at most so many times what it costs with the fewest."""
LOOK_UP = 0.001
"""Goal: seconds of a look-up among the most states."""


class Cost(NamedTuple):
    """CPU seconds."""

    run: float
    """One RUN of many that changes two files, its container included."""
    command: float
    """A whole build that adds one RUN to those it finds in the cache."""


class FilesRow(NamedTuple):
    """What an image of this size costs."""

    files: int
    overlay: Cost
    walk: Cost


class StatesRow(NamedTuple):
    """What a cache of this size costs."""

    states: int
    is_packed: bool
    """References are in one file, as after garbage collection; else each is a file."""
    overlay: Cost
    hit: float
    """A build in which everything hits."""
    found: float
    missed: float
    """One look-up."""


class GrowthGoal(NamedTuple):
    """A figure and its limit."""

    name: str
    measured: float
    limit: float

    @property
    def is_met(self) -> bool:
        """The limit is kept."""
        return self.measured <= self.limit


def goals_of(by_files: Sequence[FilesRow], by_states: Sequence[StatesRow]) -> list[GrowthGoal]:
    """Return the goals, with what was measured."""
    most = by_states[-1].states
    look_ups = [seconds for row in by_states if row.states == most for seconds in (row.found, row.missed)]
    return [
        GrowthGoal("overlay commit, most files by fewest", by_files[-1].overlay.run / by_files[0].overlay.run, FLAT),
        GrowthGoal("overlay commit, most states by fewest", by_states[-1].overlay.run / by_states[0].overlay.run, FLAT),
        GrowthGoal(f"look-up among {most:,} states, CPU s", max(look_ups), LOOK_UP),
    ]


def report(by_files: Sequence[FilesRow], by_states: Sequence[StatesRow], goals: Sequence[GrowthGoal], on: str) -> str:
    """Return growth.md. `on`: the file system."""
    load = f"load {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores"
    host = f"{load}, {platform.machine()}, Linux {platform.release()}, {on}"
    return "\n".join(
        [
            "# How the cost of a commit grows",
            "",
            f"Written by `python -m bench.growth` ({host}, Python {platform.python_version()}). Figures are CPU",
            "milliseconds; [README.md](README.md) tells what is measured.",
            "",
            "![plots](growth.svg)",
            "",
            "## With the size of the image",
            "",
            *_table(
                ("files", "a RUN, overlay", "build with one RUN more", "a RUN, whole walk", "build with one RUN more"),
                [(f"{row.files:,}", *_ms(*row.overlay, *row.walk)) for row in by_files],
            ),
            "",
            "## With the number of cached states",
            "",
            *_table(
                (
                    "states",
                    "references",
                    "a RUN",
                    "build with one RUN more",
                    "build, all hits",
                    "look-up: there",
                    "not there",
                ),
                [
                    (f"{row.states:,}", form(row.is_packed), *_ms(*row.overlay, row.hit, row.found, row.missed))
                    for row in by_states
                ],
            ),
            "",
            "## Goals",
            "",
            *_table(
                ("goal", "measured", "at most", ""),
                [
                    (goal.name, f"{goal.measured:.3g}", f"{goal.limit:g}", "met" if goal.is_met else "MISSED")
                    for goal in goals
                ],
            ),
            "",
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---:" if number else "---" for number in range(len(header))], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _ms(*seconds: float) -> list[str]:
    return [f"{value * 1000:.3g}" for value in seconds]


def form(is_packed: bool) -> str:
    """Return how references are stored, in words."""
    return "in one file" if is_packed else "a file each"


def plots(by_files: Sequence[FilesRow], by_states: Sequence[StatesRow]) -> str:
    """Return growth.svg."""
    packed = [row for row in by_states if row.is_packed]
    loose = [row for row in by_states if not row.is_packed]
    return figure(
        [
            Panel(
                "A commit, by size of the image",
                "files in the image",
                "CPU ms",
                {
                    "a RUN, overlay": [(row.files, row.overlay.run * 1000) for row in by_files],
                    "a RUN, whole walk": [(row.files, row.walk.run * 1000) for row in by_files],
                    "build +1 RUN, overlay": [(row.files, row.overlay.command * 1000) for row in by_files],
                    "build +1 RUN, walk": [(row.files, row.walk.command * 1000) for row in by_files],
                },
            ),
            Panel(
                "A commit, by number of cached states",
                "states in the cache",
                "CPU ms",
                {
                    "a RUN, packed refs": [(row.states, row.overlay.run * 1000) for row in packed],
                    "a RUN, loose refs": [(row.states, row.overlay.run * 1000) for row in loose],
                    "look-up, packed refs": [(row.states, row.found * 1000) for row in packed],
                    "look-up, loose refs": [(row.states, row.found * 1000) for row in loose],
                },
            ),
        ]
    )
