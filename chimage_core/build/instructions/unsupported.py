"""Instructions that are read but not carried out: the user is told once for each, and the build goes on.

Source: ch-image manual, "Features we do not plan to support".
"""

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.dockerfile import ast

_FOREVER = (ast.Expose, ast.HealthCheck, ast.Maintainer, ast.StopSignal, ast.User, ast.Volume)


def resolve(instruction: ast.Instruction, scope: Scope) -> Step:
    """Return a step that only warns."""
    yet = "" if isinstance(instruction, _FOREVER) else " yet"
    return Step(
        instruction=instruction,
        name=instruction.name,
        text="(unsupported)",
        inputs=None,
        config=scope.config,
        warnings=(f"not{yet} supported, ignored: {instruction.name} instruction",),
    )
