"""`modify`: a new image from another one, by commands, by a script, or by hand.

Commands and scripts are RUN instructions of a Dockerfile that nobody has written: what was done to the same image
before, by that Dockerfile or by these words, is there already. A shell that somebody types into is another matter: its
result depends on more than can be known, so it is never found in the build cache. Source: ch-image(1) of later
Charliecloud versions, "modify".
"""

from typing import NamedTuple

from chimage_core.dockerfile.ast import (
    Dockerfile,
    ExecCommand,
    From,
    Heredoc,
    Instruction,
    Interact,
    Run,
    ShellCommand,
    SourceRange,
)
from chimage_core.errors import UsageError
from chimage_core.image.reference import Reference
from chimage_core.ops.build import STDIN, BuildRequest, BuildResult, build
from chimage_core.workspace import Workspace

_SHELL = "/bin/sh"
_PATH = "modify"
"""Stands for the path of a Dockerfile in messages."""


class Script(NamedTuple):
    """A program text to be run in the image."""

    name: str
    """For messages."""
    content: str


class ModifyRequest(NamedTuple):
    """What to do to which image."""

    source: Reference
    destination: Reference
    commands: tuple[str, ...]
    """Each is a RUN. If there is neither one nor a script, somebody types."""
    script: Script | None
    shell: str | None
    """Path in the image of what runs all of that instead of the image's shell, or of what a script names by `#!`."""
    build: BuildRequest
    """How to do it; context and name of the image do not count."""


def require_different(source: Reference, destination: Reference) -> None:
    """Raise UsageError if both are the same image."""
    if source.full == destination.full:
        raise UsageError(f"SOURCE and DEST are the same image: {source}", hint="give the modified image another name")


def modify(workspace: Workspace, request: ModifyRequest) -> BuildResult:
    """Make the image. Raises ChimageError; a destination that was there is then as it was."""
    require_different(request.source, request.destination)
    how = request.build._replace(context=STDIN, file=None, tags=(str(request.destination),))
    return build(workspace, how, equivalent(request))


def equivalent(request: ModifyRequest) -> Dockerfile:
    """Return the Dockerfile that does the same."""
    first = From(range=_line(1), text=str(request.source), image=str(request.source))
    steps: list[Instruction] = [
        Run(range=_line(number), text=_shown(command), command=_command(command, request.shell))
        for number, command in enumerate(request.commands, start=2)
    ]
    if request.script is not None:
        script = request.script
        steps.append(Run(range=_line(2), text=f"<<{script.name}", command=_whole(script.content, request.shell)))
    if not steps:
        shell = request.shell or _SHELL
        steps.append(Interact(range=_line(2), text=shell, command=ExecCommand((shell,))))
    return Dockerfile(path=_PATH, directives={}, instructions=(first, *steps), warnings=())


def _command(text: str, shell: str | None) -> ShellCommand:
    return ShellCommand(text) if shell is None else _whole(text, shell)


def _whole(text: str, shell: str | None) -> ShellCommand:
    """Return a command that is one here-document: given to the image's shell, unless it says itself what runs it."""
    body = text if not text or text.endswith("\n") else f"{text}\n"
    if shell is not None:
        body = f"#!{shell}\n{body}"
    return ShellCommand("<<EOF", (Heredoc("EOF", expand=False, strip_tabs=False, body=body),), lone_heredoc=True)


def _line(number: int) -> SourceRange:
    return SourceRange(number, number)


def _shown(command: str) -> str:
    return " ".join(command.splitlines())
