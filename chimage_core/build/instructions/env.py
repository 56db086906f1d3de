"""ENV: set environment variables, for the rest of the build and for the image."""

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Env


def resolve(instruction: Env, scope: Scope) -> Step:
    """Return the step of an ENV. All its values see the environment before it."""
    expander = scope.expander(instruction)
    pairs = [(expander.expand(name), expander.expand(value)) for name, value in instruction.pairs]
    for name, _ in pairs:
        if not name or "=" in name or "\0" in name:
            raise scope.problem(instruction, f"not a name for a variable: {name!r}")
    text = " ".join(f"{name}='{value}'" for name, value in pairs)
    return Step(
        instruction=instruction,
        name="ENV",
        text=text,
        inputs=StepInputs("ENV", text, {"variables": dict(pairs)}),
        config=scope.config._replace(env={**scope.config.env, **dict(pairs)}),
        warnings=expander.warnings,
    )
