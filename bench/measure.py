"""Measure a command: CPU of its whole process tree, wall time, peak memory."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.disk import Disk

SUPERVISE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervise.py")
TIMEOUT = 1800
"""Seconds until a command counts as hung."""


class MeasuringError(Exception):
    """A command failed or did other work than was to be measured; the message has its output."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run of a command used."""

    cpu: float
    """Seconds of user and system time, of all processes that the command started, detached ones too."""
    wall: float
    """Seconds until the command itself ended."""
    settled: float
    """Seconds until the last process that it left behind ended."""
    peak: int
    """Bytes of resident memory of the largest single process."""
    disk: Disk | None = None
    """What is on the disk afterwards, where that is measured."""

    def less(self, other: "Usage", per: int) -> "Usage":
        """Return what this used more than another, divided; the peak is that of both."""
        return Usage(
            (self.cpu - other.cpu) / per,
            (self.wall - other.wall) / per,
            (self.settled - other.settled) / per,
            max(self.peak, other.peak),
        )


def measure(argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> tuple[Usage, str]:
    """Run a command; return what it used and what it said. Raises MeasuringError unless it exits 0."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as report, tempfile.TemporaryFile() as said:
        try:
            subprocess.run(
                [sys.executable, "-I", "-S", SUPERVISE, str(write), *argv],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=dict(environment),
                cwd=cwd,
                pass_fds=[write],
                timeout=TIMEOUT,
                check=False,
            )
        finally:
            os.close(write)
        said.seek(0)
        output = said.read().decode("utf-8", "replace")
        used = json.loads(report.read() or "{}")
    if used.get("status") != 0:
        raise MeasuringError(f"exit status {used.get('status')}: {' '.join(argv)}\n{output}")
    return Usage(used["cpu"], used["wall"], used["settled"], used["peak"]), output


def median(usages: Sequence[Usage]) -> Usage:
    """Return the medians, each figure by itself."""
    return Usage(
        statistics.median(usage.cpu for usage in usages),
        statistics.median(usage.wall for usage in usages),
        statistics.median(usage.settled for usage in usages),
        int(statistics.median(usage.peak for usage in usages)),
        _median_disk([usage.disk for usage in usages if usage.disk is not None]),
    )


def _median_disk(disks: Sequence[Disk]) -> Disk | None:
    if not disks:
        return None
    others = [disk.of for disk in disks if disk.of is not None]
    return Disk(int(statistics.median(disk.used for disk in disks)), int(statistics.median(others)) if others else None)


def ratios(ours: Sequence[Usage], theirs: Sequence[Usage], *, by_wall: bool = False) -> list[float]:
    """Return the ratio ours / theirs of each round, of the CPU time or `by_wall` of the wall time."""
    pairs = list(zip(ours, theirs, strict=True))
    return [a.wall / b.wall for a, b in pairs] if by_wall else [a.cpu / b.cpu for a, b in pairs]
