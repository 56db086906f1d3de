"""What it means to run a command inside a root file system. One contract suite tests every implementation."""

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from chimage_core.cancel import CancelToken

if TYPE_CHECKING:
    from chimage_core.runner.mount_kinds import Mount


class Bind(NamedTuple):
    """A path of the host shown inside the container."""

    source: str
    """Absolute path on the host."""
    target: str
    """Absolute path inside. A missing one is made as an empty directory (or file, when the source is one)."""
    is_read_only: bool = False
    """With all mounts below, where the kernel can do that (from Linux 5.12 on)."""
    is_ours: bool = False
    """The target of a later mount may be made in there, to stay."""


class Overlay(NamedTuple):
    """Where the changes of a command go instead of into the root file system.

    Both directories exist and are empty, or as an earlier command left them, whose changes the next one sees.
    Inside, the upper directory is the root itself: the runner gives it the mode, times and attributes of the image's.
    """

    upper: str
    work: str


class Emulation(enum.Enum):
    """How system calls that need privilege are answered."""

    SECCOMP = "seccomp"
    """They do nothing and succeed."""
    NONE = "none"


Stream = Literal["stdout", "stderr"]
OutputChunks = Callable[[Stream, bytes], None]
"""Receives (stream, bytes) as they arrive."""


class RunRequest(NamedTuple):
    """One command to run as (apparent) root inside a root file system."""

    rootfs: str
    """Absolute path of the unpacked image. Must belong to the caller."""
    argv: tuple[str, ...]
    """The first word is looked up in `env["PATH"]` inside the image unless it holds a slash."""
    env: Mapping[str, str]
    """The whole environment of the command."""
    workdir: str = "/"
    """Absolute path inside; must exist."""
    mounts: "tuple[Mount, ...]" = ()
    """In this order: a target may lie in an earlier mount, where it is made if it is missing and that is a Draft, a
    Tmpfs or `is_ours`."""
    secret_env: Mapping[str, str] = {}
    """More variables, whose values nobody else may see."""
    is_offline: bool = False
    """No network but one of the command's own, with nobody else in it."""
    emulation: Emulation = Emulation.SECCOMP
    overlay: Overlay | None = None
    """None: changes go straight into `rootfs`. Only for a runner whose `can_overlay` is true."""
    output: OutputChunks | None = None
    """None: the command inherits our stdout and stderr. stdin is empty, unless `interactive`."""
    interactive: bool = False
    """The command gets our stdin and stays in our session, so that a shell has the terminal."""


class RunResult(NamedTuple):
    """How a command ended. A command that cannot be started has status 126 or 127, as in a shell."""

    status: int
    """Exit status; 128 + n when signal n ended it."""
    problem: str | None = None
    """Why the command could not be executed, if so; nothing else has told the user."""

    @property
    def signal(self) -> int | None:
        """The signal that probably ended it, or None."""
        return self.status - 128 if 128 < self.status < 192 else None


class Runner(Protocol):
    """Runs commands. Usable until `close`."""

    @property
    def name(self) -> str:
        """`python`, `ch-run` or `bwrap`."""

    def can_overlay(self, directory: str) -> bool:
        """Return whether `directory`'s file system can hold an overlay's upper directory for this runner.

        The answer is found by trying it and remembered by the caller, not here.
        """

    def run(self, request: RunRequest, cancel: CancelToken) -> RunResult:
        """Run to the end; no process of the container is left.

        On cancel: SIGTERM, 2 s of grace, SIGKILL, then raises Cancelled. Raises RunnerError if the container cannot be
        set up (naming what failed on which path), or the runner has no means for something that is asked for.
        """

    def close(self) -> None:
        """End helper processes. Idempotent."""
