"""Events of every build."""

from dataclasses import dataclass
from typing import Literal

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStarted(Event):
    """A Dockerfile was read and planned."""

    reference: str
    dockerfile: str
    instructions: int
    stages: int
    jobs: int = 1
    """How many stages are built side by side, at most: what they print then comes as events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(Event):
    """A stage begins: its FROM comes next."""

    stage: int
    """Counted from 0."""
    alias: str | None
    reference: str
    """The image this stage makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResolved(Event):
    """An instruction is understood, and we know whether its result is in the cache."""

    step: int
    """Counted from 1 through the whole file; ARGs before the first FROM count."""
    line: int
    stage: int
    name: str
    """The instruction's name as announced: `RUN.S`, `COPY`, …"""
    text: str
    """One line, without the name."""
    outcome: Literal["hit", "miss", "none"]
    """`none`: nothing to look up (ARG before FROM)."""
    state: str | None
    """State ID after this step (hexadecimal); None where the step makes no state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFinished(Event):
    """The image is complete."""

    reference: str
    instructions: int
    hits: int
    misses: int
    modified_runs: int
    """RUN instructions changed by a `--force-cmd` hook."""
    force: str
    """Root emulation mode: `seccomp`, `fakeroot` or `none`."""
    seconds: float
