"""CMD and ENTRYPOINT: what a container of the image runs. Recorded in its configuration; nothing runs during the build.

A CMD of the base image was made for the base's entry point, so a new ENTRYPOINT drops it; one that the stage itself has
set stays. Source: Dockerfile reference, "Understand how CMD and ENTRYPOINT interact".
"""

import json
from typing import Any

from chimage_core.build.scope import Expander, Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Cmd, Command, Entrypoint, ExecCommand


def resolve(instruction: Cmd | Entrypoint, scope: Scope) -> Step:
    """Return the step of a CMD or ENTRYPOINT; an empty list says that there is none."""
    expander = scope.expander(instruction)
    argv = command_words(instruction.command, scope, expander)
    config, parameters = scope.config, {"command": argv}
    if isinstance(instruction, Cmd):
        config = config._replace(cmd=argv or None)
    else:
        config = config._replace(entrypoint=argv or None)
        if config.cmd is not None and not scope.sets_cmd:
            config = config._replace(cmd=None)
            parameters["inherited CMD"] = ()
    is_exec = isinstance(instruction.command, ExecCommand)
    text = json.dumps(argv, ensure_ascii=False) if is_exec else instruction.text.strip()
    return Step(
        instruction=instruction,
        name=instruction.name,
        text=text,
        inputs=StepInputs(instruction.name, text, dict[str, Any](parameters)),
        config=config,
        warnings=expander.warnings,
    )


def command_words(command: Command, scope: Scope, expander: Expander) -> tuple[str, ...]:
    """Return the words of a command. In the shell form variables are left to the shell, as for RUN; in the exec form
    those that are not set stay.
    """
    if isinstance(command, ExecCommand):
        return tuple(map(expander.expand_variables, command.argv))
    return (*scope.config.shell, command.text.strip())
