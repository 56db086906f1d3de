"""What can be measured: steps and what is derived from them, with the goal for each figure.

A scenario is a row of steps in one storage directory, each on top of what the ones before it left there. Every round
begins with an empty storage directory for each peer.
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from bench.disk import Disk
from bench.registry import Served

MISS = re.compile(r"^\s*\d+\. (?!FROM |ARG )")
"""A line about an instruction that was carried out, in the output of either peer; a hit has `*` instead of the dot.
Whether FROM counts as carried out differs between the peers and is not what is measured."""

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """What chimage should reach in a step."""

    ratio: float | None = None
    """CPU, at most this times ch-image's."""
    seconds: float | None = None
    """CPU, at most."""
    peak: int | None = None
    """Bytes of memory, at most."""
    disk: float | None = None
    """Bytes on disk, at most this times what the step compares with."""
    wall: float | None = None
    """Wall time, at most this times that of the other step of a comparison."""


NO_GOAL = Goal()


@dataclass(frozen=True, slots=True)
class Step:
    """A command that is measured."""

    name: str
    argv: Sequence[str]
    """Without the program. The working directory is the peer's own; inputs are in `../shared`."""
    goal: Goal = NO_GOAL
    files: dict[str, str] = field(default_factory=dict)
    """Files to write into the peer's directory before, by name."""
    misses: int | None = None
    """How many instructions after FROM must be carried out; None: not a build."""
    before: Callable[[str], None] | None = None
    """Is called with the peer's directory before, unmeasured."""
    disk: Callable[[str], Disk] | None = None
    """Is called with the peer's directory after, and says what is on the disk then."""
    leaves: tuple[str, int] | None = None
    """An image, in the form of its directory's name, and how many files it must have after; 0: it must be gone."""
    their_argv: Sequence[str] | None = None
    """What ch-image gets instead of `argv`, where it needs help to do the same."""
    ours_only: bool = False
    """ch-image has no such thing."""
    program: str | None = None
    """What is measured instead of chimage; only with `ours_only`."""
    wall_of: Callable[[str], float] | None = None
    """Returns from the output of the command the wall time that counts; None: all."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure that no command has by itself: what one step uses more than another."""

    name: str
    step: str
    less: str
    """Name of the step to be subtracted."""
    goal: Goal = NO_GOAL
    per: int = 1
    """Divide by this."""
    theirs: tuple[str, str] | None = None
    """The two steps of ch-image, if they are others."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The wall time of a step against that of another one, in the same round."""

    name: str
    step: str
    other: str
    goal: Goal


@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps that follow each other."""

    name: str
    steps: Sequence[Step]
    differences: Sequence[Difference] = ()
    prepare: Callable[[str], None] | None = None
    """Makes inputs in a directory that all peers and rounds share (`../shared` for a step)."""
    comparisons: Sequence[Comparison] = ()
    debian: bool = False
    """Needs a Debian root file system as `shared/debian.tar`."""
    serve: Callable[[str], AbstractContextManager[Served]] | None = None
    """Runs a registry with the images that `prepare` made, as long as the scenario is measured. Its name takes the
    place of REGISTRY in what steps say; FRESH is a repository that this peer has not used before this round."""


def built(
    name: str,
    dockerfile: str,
    misses: int,
    goal: Goal = NO_GOAL,
    *,
    tag: str = "bench",
    context: str = "context",
    options: Sequence[str] = (),
    leaves: int | None = None,
) -> Step:
    """Return a step that builds a Dockerfile.

    With `options`, ch-image takes no part in it. `leaves`: the files that the image must have at least.
    """
    argv = ["build", *options, "-t", tag, "-f", "Dockerfile", context]
    files = {"Dockerfile": dockerfile, "context/nothing": ""}
    left = None if leaves is None else (tag, leaves)
    return Step(name, argv, goal, files, misses, ours_only=bool(options), leaves=left)


def seconds_of_last_step(output: str) -> float:
    """Return how long the last instruction took that a build with `--json` has carried out."""
    events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    seconds: float = [event["seconds"] for event in events if event["type"] == "step_finished"][-1]
    return seconds


def check_work_done(step: Step, output: str) -> str | None:
    """Return what is wrong if a build carried out more or fewer instructions than it should have."""
    if step.misses is None:
        return None
    carried_out = [line for line in output.splitlines() if MISS.match(line)]
    if len(carried_out) == step.misses:
        return None
    return f"{step.name}: {len(carried_out)} instructions carried out, expected {step.misses}\n{output}"
