"""`--force=fakeroot`: commands that seem to need it run under fakeroot(1), which is installed into the image first.

The image tells which family of distributions it is of, and the family what to do. A command needs it if one of the
family's keywords is a word of its text: the name of a package manager, perhaps with the path of its program.
What is done first (installing fakeroot, and so on) is part of the RUN that needs it, and so of its changes.
Source: ch-image manual, "Root emulation mode fakeroot".
"""

from collections.abc import Mapping

from chimage_core.build.force import Argv, Execution
from chimage_core.build.force.families import FAMILIES, Family, InitStep, find_family
from chimage_core.build.force.words import find_command
from chimage_core.errors import ForceUnavailable, RunFailed
from chimage_core.events.force import FamilyFound, InitStepSkipped, InitStepStarted
from chimage_core.runner.protocol import Emulation, RunResult

_SHELL = ("/bin/sh", "-c")


class FakerootForcer:
    """Wraps commands, and prepares each image once."""

    mode = "fakeroot"
    suffix = "F"
    emulation = Emulation.NONE
    files: Mapping[str, str] = {}
    # Or else libfakeroot tries chown(2) first and forgives only EPERM, but in a user namespace it gets EINVAL for every
    # user that is not mapped.
    variables: Mapping[str, str] = {"FAKEROOTDONTTRYCHOWN": "1"}

    def __init__(self) -> None:
        self._announced: dict[str, str] = {}
        """Tags of the families that were announced, by root of the image."""
        self._prepared: set[str] = set()
        """Roots of the images that need no further preparation."""

    def wrap(self, argv: Argv) -> Argv:
        """Return `argv` itself: what is done to it, the image decides."""
        return argv

    def carry_out(self, argv: Argv, execution: Execution) -> RunResult:
        """Execute `argv`, under fakeroot if it needs it. Raises ForceUnavailable for an image of no known family."""
        family = self._family(execution)
        if not needs_fakeroot(family, argv, execution.script):
            return execution.run(argv)
        if execution.root not in self._prepared:
            for number, step in enumerate(family.steps, start=1):
                _prepare(number, step, execution)
        wrapped = (*family.wrapper, *argv)
        execution.modified(wrapped)
        result = execution.run(wrapped)
        if result.status == 0:  # Else nothing of all this stays.
            self._prepared.add(execution.root)
        return result

    def _family(self, execution: Execution) -> Family:
        family = find_family(execution.root)
        if family is None:
            titles = "; ".join(known.title for known in FAMILIES)
            raise ForceUnavailable(
                "--force=fakeroot not available (no suitable distribution found in the image)",
                hint=f"use --force=seccomp; suitable are: {titles}",
            )
        if self._announced.get(execution.root) != family.tag:
            self._announced[execution.root] = family.tag
            execution.emit(FamilyFound(tag=family.tag, title=family.title))
        return family


def needs_fakeroot(family: Family, argv: Argv, script: str | None) -> bool:
    """Return whether a command, or the program in the Dockerfile that it executes, holds a keyword of the family."""
    text = "\n".join((*argv, script or ""))
    return find_command(text, family.keywords) is not None


def _prepare(number: int, step: InitStep, execution: Execution) -> None:
    """Do one step, unless it has been done. Raises RunFailed."""
    execution.emit(InitStepStarted(number=number, command=step.check, is_check=True))
    if execution.prepare((*_SHELL, step.check), Emulation.NONE).status == 0:
        execution.emit(InitStepSkipped(number=number))
        return
    execution.emit(InitStepStarted(number=number, command=step.command, is_check=False))
    # A package that comes along with fakeroot may need privilege itself, as util-linux does in Fedora.
    result = execution.prepare((*_SHELL, step.command), Emulation.SECCOMP)
    if result.status != 0:
        what = f"init step {number} exited with {result.status}" + (f": {result.problem}" if result.problem else "")
        raise RunFailed(
            f"build failed: --force=fakeroot: {what}\n  {execution.label}",
            hint="install fakeroot in the base image, or use --force=seccomp, which needs nothing in the image",
        )
