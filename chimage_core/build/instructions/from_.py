"""FROM: what a stage starts from.

Arguments before the first FROM, and those of `FROM --arg`, are visible in the whole file (manual, "ARG"). So they are
part of each stage's configuration, and a stage that gets other values than its base was built with starts in a state
of its own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from chimage_core.build.scope import Expander, Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import From
from chimage_core.errors import UsageError
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
    architecture: str | None
    """Of `--platform`, without the operating system; None: any."""
    warnings: tuple[str, ...]


def origin(instruction: From, scope: Scope) -> Origin:
    """Return what to start from; `scope.config.args` holds the global arguments so far.

    Raises InstructionProblem for an undefined variable: guessing a base image would be worse.
    """
    expander = scope.expander(instruction)
    own_args = {name: _argument(name, value, scope, expander) for name, value in instruction.args}
    args = {**scope.config.args, **own_args}
    scope = scope._replace(config=scope.config._replace(args=args))
    text = _defined(instruction.image, "image reference", instruction, scope)
    architecture = None
    if instruction.platform is not None:
        architecture = _architecture(
            _defined(instruction.platform, "--platform", instruction, scope), instruction, scope
        )
    return Origin(text, args, own_args, architecture, expander.warnings)


def _argument(name: str, value: str, scope: Scope, expander: Expander) -> str:
    given = scope.inputs.build_args.get(name)
    return expander.expand(value) if given is None else expander.expand_variables(given)


def _defined(word: str, label: str, instruction: From, scope: Scope) -> str:
    expander = scope.expander(instruction)
    text = expander.expand(word)
    if expander.unset:
        raise scope.problem(instruction, f"{label} contains an undefined variable: ${expander.unset[0]}")
    return text


def _architecture(platform: str, instruction: From, scope: Scope) -> str:
    from chimage_core.image.platform import Platform

    try:
        parsed = Platform.parse(platform).usual
    except UsageError as error:
        raise scope.problem(instruction, f"--platform: {error.message}", hint=error.hint) from None
    if parsed.system != "linux":
        raise scope.problem(instruction, f"--platform: only images for linux can be built, not for {parsed.system}")
    return str(parsed)


def resolve(instruction: From, start: Origin, base: ImageConfig, *, base_is_stage: bool) -> Step:
    """Return the step of a FROM on top of a base whose configuration is `base`.

    An earlier stage hands on its own arguments, which may shadow global ones; an image's are shadowed by global ones.
    Triggers of the base are carried out now, and not handed on. What the host passes in is not inherited from an image:
    it was built elsewhere, or yesterday.
    """
    if base_is_stage:
        args = {**start.args, **base.args, **start.own_args}
    else:
        inherited = {name: value for name, value in base.args.items() if name not in PASSED_VARIABLES}
        args = {**inherited, **start.args}
    alias = f" AS {instruction.alias}" if instruction.alias else ""
    platform = f"--platform={start.architecture} " if start.architecture else ""
    text = f"{platform}{start.text}{alias}"
    changed = {name: value for name, value in sorted(args.items()) if base.args.get(name) != value}
    counted = {name: value for name, value in changed.items() if name not in PASSED_VARIABLES}
    parameters: dict[str, Any] = {"arguments": counted} if counted else {}
    if base.onbuild:
        parameters["triggers"] = base.onbuild
    return Step(
        instruction=instruction,
        name="FROM",
        text=text,
        inputs=StepInputs("FROM", text, parameters) if parameters else None,
        config=base._replace(args=args, onbuild=()),
        warnings=start.warnings,
    )
