"""LABEL: metadata for people and tools. It changes nothing about how the image is built or run."""

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Label


def resolve(instruction: Label, scope: Scope) -> Step:
    """Return the step of a LABEL."""
    expander = scope.expander(instruction)
    pairs = [(expander.expand(name), expander.expand(value)) for name, value in instruction.pairs]
    text = " ".join(f"{name}='{value}'" for name, value in pairs)
    return Step(
        instruction=instruction,
        name="LABEL",
        text=text,
        inputs=StepInputs("LABEL", text, {"labels": dict(pairs)}),
        config=scope.config._replace(labels={**scope.config.labels, **dict(pairs)}),
        warnings=expander.warnings,
    )
