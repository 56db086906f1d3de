"""A shell that somebody types into, as `modify` wants it: exit 0 keeps the changes, anything else discards them."""

import os

from chimage_core.build.instructions.run import Execute
from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import ExecCommand, Interact


def resolve(instruction: Interact, scope: Scope) -> Step:
    """Return the step of a shell. No two are the same: nobody knows what will be typed."""
    forcer = scope.inputs.forcer
    assert isinstance(instruction.command, ExecCommand)
    argv = instruction.command.argv
    parameters = {"--force": forcer.mode, "command": argv, "session": os.urandom(16).hex()}
    return Step(
        instruction=instruction,
        name=f"RUN.{forcer.suffix}",
        text=f"{instruction.text} (interactive)",
        inputs=StepInputs("RUN", instruction.text, parameters),
        config=scope.config,
        effect=Execute(
            argv=argv,
            is_modified=False,
            script=None,
            env=scope.environment(),
            workdir=scope.config.workdir,
            label=instruction.text,
            is_interactive=True,
        ),
    )
