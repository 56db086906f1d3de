"""ARG: declare build arguments.

A value comes from `--build-arg`, else from the default, else from the same ARG before the first FROM, else there is
none; those that tell platforms have one of their own. Defining an argument is a miss when its value changed, whether or
not it is used (manual, "Variable substitution"), except for those that the host passes in.
"""

from collections.abc import Mapping

from chimage_core.build.scope import Expander, Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Arg
from chimage_core.settings import PASSED_VARIABLES


def resolve(instruction: Arg, scope: Scope) -> Step:
    """Return the step of an ARG inside a stage."""
    expander = scope.expander(instruction)
    values = values_of(instruction, scope, expander)
    counted = {name: value for name, value in values.items() if name not in PASSED_VARIABLES}
    text = announced(values)
    return Step(
        instruction=instruction,
        name="ARG",
        text=text,
        inputs=StepInputs("ARG", text, {"arguments": counted}) if counted else None,
        config=scope.config._replace(args={**scope.config.args, **recorded(values, scope)}),
        warnings=expander.warnings,
    )


def values_of(instruction: Arg, scope: Scope, expander: Expander) -> dict[str, str | None]:
    """Return names and values of an ARG; None: no value. All see the variables before the instruction."""
    return {name: _value(name, default, scope, expander) for name, default in instruction.args}


def recorded(values: Mapping[str, str | None], scope: Scope) -> dict[str, str]:
    """Return what an image remembers of these arguments: not what the host passes in, which instructions see anyway,
    and which may be a proxy with a password in it.
    """
    passed_in = scope.inputs.passed_in
    return {name: value for name, value in values.items() if value is not None and name not in passed_in}


def announced(values: Mapping[str, str | None]) -> str:
    """Return how arguments are shown: of those that the host passes in, only the names."""
    return " ".join(
        name if value is None or name in PASSED_VARIABLES else f"{name}='{value}'" for name, value in values.items()
    )


def _value(name: str, default: str | None, scope: Scope, expander: Expander) -> str | None:
    given = scope.inputs.build_args.get(name)
    if given is not None:
        return expander.expand_variables(given)  # Quotes in it were meant: the user's shell has taken off its own.
    if name in scope.inputs.passed_in:
        return scope.inputs.passed_in[name]
    if default is not None:
        return expander.expand(default)
    value = scope.config.args.get(name)
    return scope.inputs.platform_args().get(name) if value is None else value
