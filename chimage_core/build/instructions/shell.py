"""SHELL: what the shell form of later commands is given to. It lasts to the end of the stage and in its children."""

import json

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Shell


def resolve(instruction: Shell, scope: Scope) -> Step:
    """Return the step of a SHELL. Unset variables stay as they are: other shells spell their own that way."""
    expander = scope.expander(instruction)
    argv = tuple(expander.expand_variables(word) for word in instruction.argv)
    text = json.dumps(argv, ensure_ascii=False)
    return Step(
        instruction=instruction,
        name="SHELL",
        text=text,
        inputs=StepInputs("SHELL", text, {"shell": argv}),
        config=scope.config._replace(shell=argv),
        warnings=expander.warnings,
    )
