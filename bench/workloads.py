"""What is measured, and the goal for each figure.

A scenario is a row of steps in one storage directory, each on top of what the ones before it left there. Every round
begins with an empty storage directory for each peer.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import inputs

MISS = re.compile(r"^\s*\d+\. (?!FROM |ARG )")
"""A line about an instruction that was carried out, in the output of either peer; a hit has `*` instead of the dot.
Whether FROM counts as carried out differs between the peers and is not what is measured."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What chimage should reach in a step."""

    ratio: float | None = None
    """CPU, at most this times ch-image's."""
    seconds: float | None = None
    """CPU, at most."""
    peak: int | None = None
    """Bytes of memory, at most."""


NO_GOAL = Goal()
MB = 1_000_000


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
    their_argv: Sequence[str] | None = None
    """What ch-image gets instead of `argv`, where it needs help to do the same."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps that follow each other."""

    name: str
    steps: Sequence[Step]
    prepare: Callable[[str], None] | None = None
    """Makes inputs in a directory that all peers and rounds share (`../shared` for a step)."""
    debian: bool = False
    """Needs a Debian root file system as `shared/debian.tar`."""


def built(name: str, dockerfile: str, misses: int, goal: Goal = NO_GOAL, *, tag: str = "bench") -> Step:
    """Return a step that builds a Dockerfile."""
    argv = ["build", "-t", tag, "-f", "Dockerfile", "context"]
    return Step(name, argv, goal, {"Dockerfile": dockerfile, "context/nothing": ""}, misses)


def cheap(label: str, instructions: int, goals: tuple[Goal, Goal, Goal]) -> list[Step]:
    """Return a build of cheap RUNs: everything missing, everything there, the last instruction changed."""
    first = inputs.cheap_runs("base", instructions)
    changed = inputs.cheap_runs("base", instructions, last=" # changed")
    title = f"{label}{instructions}"
    return [
        built(f"{title} miss", first, instructions - 1, goals[0], tag=f"b{instructions}"),
        built(f"{title} hit", first, 0, goals[1], tag=f"b{instructions}"),
        built(f"{title} last changed", changed, 1, goals[2], tag=f"b{instructions}"),
    ]


def _many_images(work: str) -> None:
    """Make 1,000 images of one by copying directories: a thousand imports would take longer than all else."""
    images = os.path.join(work, "storage", "img")
    for number in range(999):
        target = os.path.join(images, f"image{number:03}+1")
        shutil.copytree(os.path.join(images, "tiny+1"), target, symlinks=True)


def scenarios() -> list[Scenario]:
    """Return all scenarios, in the order in which they run."""
    hit = Goal(seconds=0.15)
    last = Goal(ratio=0.3)
    large = 150 * MB
    heavy = inputs.heavy("base")
    return [
        Scenario(
            "start",
            [
                Step("--help", ["--help"], Goal(seconds=0.1)),
                Step("--version", ["--version"], Goal(seconds=0.1)),
                Step("import tiny image", ["import", "../shared/tiny", "tiny:1"]),
                Step(
                    "list of 1,000 images",
                    ["list"],
                    Goal(seconds=0.1),
                    before=_many_images,
                    # With its cache it wants a Git worktree for each, and would only be slower.
                    their_argv=["list", "--no-cache"],
                ),
            ],
            prepare=lambda shared: inputs.tiny_image(os.path.join(shared, "tiny")),
        ),
        Scenario(
            "debian",
            [
                Step("import Debian", ["import", "../shared/debian.tar", "base"], Goal(ratio=0.5)),
                *cheap("Debian, ", 3, (Goal(ratio=0.5), hit, last)),
                *cheap("Debian, ", 20, (Goal(ratio=0.2), hit, last)),
                *cheap("Debian, ", 129, (Goal(ratio=0.16), hit, last)),
            ],
            debian=True,
        ),
        Scenario(
            "heavy",
            [
                Step("import Debian again", ["import", "../shared/debian.tar", "base"], Goal(ratio=0.5)),
                built("heavy RUN miss", heavy, 1, Goal(ratio=0.35)),
                built("heavy RUN hit", heavy, 0, hit),
                built("heavy RUN hit, new ENV", inputs.heavy("base", more="ENV a=b"), 1, Goal(seconds=0.1)),
                built("heavy RUN, back without ENV", heavy, 0),
                built("heavy RUN hit, new RUN", inputs.heavy("base", more="RUN echo > /etc/b"), 1, Goal(seconds=0.2)),
            ],
            debian=True,
        ),
        Scenario(
            "large",
            [
                Step("import 50,000 files", ["import", "../shared/large.tar", "base"], Goal(ratio=0.5, peak=large)),
                *cheap(
                    "50,000 files, ",
                    20,
                    (
                        Goal(ratio=0.11, peak=large),
                        Goal(seconds=0.15, peak=large),
                        Goal(ratio=0.1, peak=large),
                    ),
                ),
            ],
            prepare=lambda shared: inputs.large_image(os.path.join(shared, "large.tar")),
        ),
    ]


def check_work_done(step: Step, output: str) -> str | None:
    """Return what is wrong if a build carried out more or fewer instructions than it should have."""
    if step.misses is None:
        return None
    carried_out = [line for line in output.splitlines() if MISS.match(line)]
    if len(carried_out) == step.misses:
        return None
    return f"{step.name}: {len(carried_out)} instructions carried out, expected {step.misses}\n{output}"
