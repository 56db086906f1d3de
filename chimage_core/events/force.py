"""Events of root emulation: what is done to commands and images so that commands need no privilege."""

from dataclasses import dataclass

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyFound(Event):
    """It is known how `--force=fakeroot` has to treat an image. Sent once per image."""

    tag: str
    title: str
    """The distributions that are treated alike, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitStepStarted(Event):
    """A step that prepares an image for `--force=fakeroot` begins, or the check whether it is needed."""

    number: int
    """Counted from 1."""
    command: str
    """For the image's shell."""
    is_check: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InitStepSkipped(Event):
    """A step that prepares an image is not needed: its check succeeded."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandModified(Event):
    """Root emulation changed the command of a RUN that is about to be executed."""

    force: str
    """Mode: `seccomp` or `fakeroot`."""
    command: tuple[str, ...]
