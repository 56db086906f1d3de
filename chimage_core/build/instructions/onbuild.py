"""ONBUILD: an instruction for builds that start FROM this image. Here it is stored; see `ops.triggers`."""

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import OnBuild


def resolve(instruction: OnBuild, scope: Scope) -> Step:
    """Return the step of an ONBUILD. Variables are replaced when it is carried out, not now."""
    source = instruction.source
    return Step(
        instruction=instruction,
        name="ONBUILD",
        text=instruction.text,
        inputs=StepInputs("ONBUILD", instruction.text, {"trigger": source}),
        config=scope.config._replace(onbuild=(*scope.config.onbuild, source)),
    )
