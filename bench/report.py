"""Results as a table, with the goals beside the figures, and as JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.measure import Usage, median, ratios
from bench.workloads import MB, Goal

_FIGURES = ("CPU s", "wall s", "peak MB", "disk MB", "disk x")
HEADER = (
    "workload",
    f"chimage {_FIGURES[0]}",
    *_FIGURES[1:],
    f"ch-image {_FIGURES[0]}",
    *_FIGURES[1:],
    "ratio",
    "goal",
    "",
)
_LEFT = (HEADER.index("workload"), HEADER.index("goal"))
"""Columns that are text."""


@dataclass(frozen=True, slots=True)
class Result:
    """All measurements of one step."""

    scenario: str
    name: str
    goal: Goal
    ours: Sequence[Usage]
    """One per round."""
    theirs: Sequence[Usage]
    """One per round; empty if nothing to compare with was found. Of a comparison: those of the other step."""

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios: of CPU time, or of wall time where that is the goal."""
        values = sorted(self._ratios())
        middle = len(values) // 2
        return (values[middle] + values[-1 - middle]) / 2 if values else None

    @property
    def ratio_range(self) -> tuple[float, float] | None:
        """The smallest and the largest ratio of a round: how far to trust the median."""
        values = self._ratios()
        return (min(values), max(values)) if values else None

    def _ratios(self) -> list[float]:
        return ratios(self.ours, self.theirs, by_wall=self.goal.wall is not None) if self.theirs else []

    def meets_goal(self) -> bool | None:
        """Say whether every part of the goal that can be checked is met; None if there is none."""
        usage = median(self.ours)
        checks = [
            (usage.cpu, self.goal.seconds),
            (self.ratio, self.goal.ratio),
            (self.ratio, self.goal.wall),
            (usage.peak, self.goal.peak),
            (disk_ratio(usage), self.goal.disk),
        ]
        known = [value <= limit for value, limit in checks if value is not None and limit is not None]
        return all(known) if known else None


def table(results: Sequence[Result]) -> str:
    """Return an aligned text table, one line per step."""
    rows = [HEADER, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in _LEFT else cell.rjust(width) for column, (cell, width) in cells
        ).rstrip()
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    )


def _row(result: Result) -> tuple[str, ...]:
    ours = _figures(median(result.ours))
    theirs = _figures(median(result.theirs)) if result.theirs else ("-",) * len(_FIGURES)
    ratio = "-" if result.ratio is None else f"{result.ratio:.3f}"
    verdict = {True: "met", False: "MISSED", None: ""}[result.meets_goal()]
    return (result.name, *ours, *theirs, ratio, _goal(result.goal), verdict)


def disk_ratio(usage: Usage) -> float | None:
    """Return what is on the disk by what it is compared with."""
    return usage.disk.used / usage.disk.of if usage.disk and usage.disk.of else None


def _figures(usage: Usage) -> tuple[str, ...]:
    share = disk_ratio(usage)
    return (
        f"{usage.cpu:.3f}",
        f"{usage.wall:.3f}",
        f"{usage.peak / MB:.0f}",
        f"{usage.disk.used / MB:.0f}" if usage.disk else "",
        f"{share:.2f}" if share is not None else "",
    )


def _goal(goal: Goal) -> str:
    parts = [
        f"<= {goal.ratio:.3g}x" if goal.ratio is not None else "",
        f"wall <= {goal.wall:.3g}x" if goal.wall is not None else "",
        f"<= {goal.seconds:g} s" if goal.seconds is not None else "",
        f"<= {goal.peak // MB} MB" if goal.peak is not None else "",
        f"disk <= {goal.disk:g}x" if goal.disk is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def as_json(results: Sequence[Result], versions: dict[str, str], directory: str) -> dict[str, Any]:
    """Return everything that was measured, raw, with what it was measured on."""
    return {
        "host": {
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "filesystem": filesystem(directory),
            "root": os.geteuid() == 0,
            "load": os.getloadavg(),
        },
        "versions": versions,
        "results": [asdict(result) | {"ratio": result.ratio, "met": result.meets_goal()} for result in results],
    }


def filesystem(path: str) -> str:
    """Return the type of the file system that holds `path`."""
    best, kind = "", "unknown"
    real = os.path.realpath(path)
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for _, point, found, *_ in (line.split() for line in mounts):
            if len(point) >= len(best) and (real + "/").startswith(point.rstrip("/") + "/"):
                best, kind = point, found
    return kind
