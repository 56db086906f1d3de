"""Instructions that are read but not carried out yet: the user is told once for each, and the build goes on."""

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.dockerfile import ast


def resolve(instruction: ast.Instruction, scope: Scope) -> Step:
    """Return a step that only warns."""
    return Step(
        instruction=instruction,
        name=instruction.name,
        text="(unsupported)",
        inputs=None,
        config=scope.config,
        warnings=(f"not yet supported, ignored: {instruction.name} instruction",),
    )
