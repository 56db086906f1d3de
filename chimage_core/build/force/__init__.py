"""Root emulation for RUN: how commands that expect to be root are kept content.

A Forcer turns the command of a RUN into what is really executed. What the command's text alone decides is part of the
cache key (`wrap`). What the image decides besides, its state decides, and that has been looked up before
(`carry_out`). Modes: `seccomp` (system calls that need privilege pretend success), `fakeroot` (a program of that name
in the image keeps a consistent world of lies) and `none`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from chimage_core.events import Sink
from chimage_core.runner.protocol import Emulation, RunResult

Argv = tuple[str, ...]
"""A command: the program and its arguments."""


class Execution(NamedTuple):
    """One RUN that is being carried out."""

    root: str
    """The image before it."""
    script: str | None
    """Text of the program that the command executes, if it is in the Dockerfile."""
    run: Callable[[Argv], RunResult]
    """Execute the user's command, as it is or changed."""
    prepare: Callable[[Argv, Emulation], RunResult]
    """Execute a command of ours before it: without its secrets, and with network whatever it has. What all of them
    change is one change, that of the RUN."""
    modified: Callable[[Argv], None]
    """To be called with the command that is executed instead, because of what is in the image."""
    label: str
    """File, line and instruction, for errors."""
    emit: Sink


class Forcer(Protocol):
    """One mode of root emulation."""

    @property
    def mode(self) -> str:
        """The mode's name, as given to `--force`."""

    @property
    def suffix(self) -> str:
        """What the instruction is announced with: `RUN.S`, `RUN.F`, `RUN.N`."""

    @property
    def emulation(self) -> Emulation:
        """What the runner has to do."""

    @property
    def files(self) -> Mapping[str, str]:
        """Files to show in the container while a command runs: absolute path → content."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables of every command, unless the image sets them."""

    def wrap(self, argv: Argv) -> Argv:
        """Return the command with the changes that follow from its text."""

    def carry_out(self, argv: Argv, execution: Execution) -> RunResult:
        """Execute a command that `wrap` has returned, and what has to come before it in this image.

        Raises ForceUnavailable; RunFailed if what comes before fails.
        """
