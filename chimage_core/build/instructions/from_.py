"""FROM: what a stage starts from.

Arguments before the first FROM, and those of `FROM --arg`, are visible in the whole file (manual, "ARG"). So they are
part of each stage's configuration, and a stage that gets other values than its base was built with starts in a state
of its own.
"""

from collections.abc import Mapping
from typing import NamedTuple

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import From
from chimage_core.image.config import ImageConfig
from chimage_core.settings import PASSED_VARIABLES


class Origin(NamedTuple):
    """What a FROM names, with variables replaced."""

    text: str
    """`scratch`, the name of an earlier stage, or an image reference."""
    args: Mapping[str, str]
    """Global arguments as this stage sees them, with its own."""
    own_args: Mapping[str, str]
    """Those of `--arg`."""
    warnings: tuple[str, ...]


def origin(instruction: From, scope: Scope) -> Origin:
    """Return what to start from; `scope.config.args` holds the global arguments so far.

    Raises InstructionProblem for an undefined variable: guessing a base image would be worse.
    """
    if instruction.platform is not None:
        raise scope.problem(instruction, "--platform is not yet supported")
    expander = scope.expander(instruction)
    given = {name: scope.inputs.build_args.get(name, value) for name, value in instruction.args}
    own_args = {name: expander.expand(value) for name, value in given.items()}
    args = {**scope.config.args, **own_args}
    image_expander = scope._replace(config=scope.config._replace(args=args)).expander(instruction)
    text = image_expander.expand(instruction.image)
    if image_expander.unset:
        raise scope.problem(instruction, f"image reference contains an undefined variable: ${image_expander.unset[0]}")
    return Origin(text, args, own_args, expander.warnings)


def resolve(instruction: From, start: Origin, base: ImageConfig, *, base_is_stage: bool) -> Step:
    """Return the step of a FROM on top of a base whose configuration is `base`.

    An earlier stage hands on its own arguments, which may shadow global ones; an image's are shadowed by global ones.
    What the host passes in is not inherited from an image: it was built elsewhere, or yesterday.
    """
    if base_is_stage:
        args = {**start.args, **base.args, **start.own_args}
    else:
        inherited = {name: value for name, value in base.args.items() if name not in PASSED_VARIABLES}
        args = {**inherited, **start.args}
    alias = f" AS {instruction.alias}" if instruction.alias else ""
    text = f"{start.text}{alias}"
    changed = {name: value for name, value in sorted(args.items()) if base.args.get(name) != value}
    counted = {name: value for name, value in changed.items() if name not in PASSED_VARIABLES}
    return Step(
        instruction=instruction,
        name="FROM",
        text=text,
        inputs=StepInputs("FROM", text, {"arguments": counted}) if counted else None,
        config=base._replace(args=args),
        warnings=start.warnings,
    )
