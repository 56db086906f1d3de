"""What the stages of a build start from and need: all that can be said, and refused, before the first one is built."""

from collections.abc import Mapping
from typing import NamedTuple

from chimage_core.build.instructions import arg, check, from_, origins
from chimage_core.build.origins import Names
from chimage_core.build.plan import Plan, Stage, refuse_unconsumed
from chimage_core.build.scope import Inputs, Scope
from chimage_core.dockerfile.ast import Instruction, OnBuild
from chimage_core.dockerfile.errors import telling_where
from chimage_core.events import Sink, Warned
from chimage_core.events.build import StepResolved
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.ops.bases import Bases, Needed

SCRATCH = "scratch"
"""FROM nothing."""


class Start(NamedTuple):
    """What a stage starts from, as far as the Dockerfile says it."""

    origin: from_.Origin
    image: Reference | None
    """None: an earlier stage, or nothing."""
    stage: int | None
    """Number of the earlier stage."""


def read_starts(plan: Plan, inputs: Inputs, architecture: str, emit: Sink) -> dict[int, Start]:
    """Announce the arguments before the first FROM, and return what each stage starts from, by number.

    `architecture` is that of images from nothing. Raises DockerfileError, InvalidReference.
    """
    scope = Scope(inputs=inputs, config=ImageConfig(architecture=architecture), stages={}, is_outside=True)
    for number, instruction in enumerate(plan.global_args, start=1):
        expander = scope.expander(instruction)
        with telling_where(inputs.path, instruction):
            values = arg.values_of(instruction, scope, expander)
        for text in expander.warnings:
            emit(Warned(text=text))
        emit(
            StepResolved(
                step=number,
                line=instruction.range.line,
                stage=0,
                name="ARG",
                text=arg.announced(values),
                outcome="none",
                state=None,
            )
        )
        args = {**scope.config.args, **arg.recorded(values, scope)}
        scope = scope._replace(config=scope.config._replace(args=args))
    return {stage.number: _start(plan, stage, scope) for stage in plan.stages}


def check_stages(plan: Plan, inputs: Inputs) -> dict[int, list[Needed]]:
    """Refuse what can be refused now; return the images that files are taken from, by number of the stage.

    Raises DockerfileError, BuildError, InvalidReference.
    """
    sources = {}
    for stage in plan.stages:
        needed = sources[stage.number] = list[Needed]()
        for instruction in stage.instructions:
            with telling_where(inputs.path, instruction):
                check(instruction, inputs.path)
                for name in origins(instruction):
                    meaning = None if "$" in name else inputs.names.meaning(name, stage.number)
                    if isinstance(meaning, Reference):
                        needed.append(Needed(meaning, instruction, as_files=True))
    return sources


def needs_of(plan: Plan, starts: Mapping[int, Start], names: Names, bases: Bases) -> dict[int, set[int]]:
    """Return by number of each stage the numbers of the earlier ones that it needs, or may need."""
    stages = {stage.number: stage for stage in plan.stages}
    needs = {}
    for number, stage in stages.items():
        known = None if _may_have_triggers(stages, starts[number], bases) else _named(stage, starts[number], names)
        needs[number] = {other for other in stages if other < number} if known is None else known
    return needs


def refuse_undeclared(plan: Plan, starts: Mapping[int, Start], bases: Bases, path: str) -> None:
    """Refuse build arguments that neither the file nor a trigger of a base image declares. Raises UnusedBuildArgs."""
    from chimage_core.ops.triggers import declared_arguments

    names = set(plan.unconsumed)
    for stage in plan.stages:
        start = starts[stage.number]
        if start.image is not None:
            with telling_where(path, stage.from_):
                config = bases.provide(start.image, start.origin.architecture).config
            names -= declared_arguments(triggers_of(stage, start, config, path))
    refuse_unconsumed(names, path)


def triggers_of(stage: Stage, start: Start, base: ImageConfig, path: str) -> list[Instruction]:
    """Return the ONBUILD triggers that a stage carries out first. Raises DockerfileError."""
    if not base.onbuild:
        return []
    from chimage_core.ops.triggers import read_triggers

    return read_triggers(base.onbuild, start.origin.text, path, stage.from_)


def _start(plan: Plan, stage: Stage, scope: Scope) -> Start:
    with telling_where(scope.inputs.path, stage.from_):
        origin = from_.origin(stage.from_, scope)
        # The nearest earlier stage of that name wins over an image.
        for earlier in reversed(plan.stages[: stage.number]):
            if earlier.alias == origin.text.lower():
                return Start(origin, None, earlier.number)
        return Start(origin, None if origin.text == SCRATCH else Reference.parse(origin.text), None)


def _named(stage: Stage, start: Start, names: Names) -> set[int] | None:
    """Return the earlier stages that a stage names; None if only what comes before tells."""
    named = set() if start.stage is None else {start.stage}
    for instruction in stage.instructions:
        for name in origins(instruction):
            meaning = None if "$" in name else names.meaning(name, stage.number)
            if meaning is None:
                return None
            if isinstance(meaning, int):
                named.add(meaning)
    return named


def _may_have_triggers(stages: Mapping[int, Stage], start: Start, bases: Bases) -> bool:
    if start.stage is not None:
        return any(isinstance(instruction, OnBuild) for instruction in stages[start.stage].instructions)
    return start.image is not None and bases.may_have_triggers(start.image, start.origin.architecture)
