"""Root emulation for RUN: how commands that expect to be root are kept content.

A Forcer turns the command of a RUN into the one that is really executed. Modes: `seccomp` (system calls that need
privilege pretend success) and `none`. `fakeroot` has no implementation yet and is refused.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from chimage_core.runner.protocol import Emulation


class ForcedCommand(NamedTuple):
    """What to execute instead of the command of the instruction."""

    argv: tuple[str, ...]
    is_modified: bool
    """A hook changed the command."""


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

    def wrap(self, argv: tuple[str, ...], rootfs: str) -> ForcedCommand:
        """Return the command to execute in the image at `rootfs`."""
