"""Stages of a Dockerfile, and everything that can be refused before a disk is touched."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from chimage_core.dockerfile.ast import Arg, Dockerfile, From, Instruction, Label, OnBuild, SourceRange
from chimage_core.errors import StageError, UnusedBuildArgs
from chimage_core.image.reference import Reference


class Stage(NamedTuple):
    """A FROM and the instructions that belong to it."""

    number: int
    """Counted from 0."""
    alias: str | None
    reference: Reference
    """The image that the stage makes."""
    from_: From
    instructions: tuple[Instruction, ...]
    first_step: int
    """Number of its FROM, counted from 1 through the whole file."""


class Plan(NamedTuple):
    """A Dockerfile, divided."""

    global_args: tuple[Arg, ...]
    """Before the first FROM: visible in the whole file."""
    stages: tuple[Stage, ...]
    unconsumed: tuple[str, ...] = ()
    """Build arguments that nothing in the file declares; a trigger of a base image may."""

    @property
    def instruction_count(self) -> int:
        """All instructions of the file."""
        return len(self.global_args) + sum(1 + len(stage.instructions) for stage in self.stages)


def make_plan(
    dockerfile: Dockerfile, reference: Reference, build_args: Mapping[str, str], predefined: Collection[str]
) -> Plan:
    """Divide a Dockerfile into stages; the last one makes `reference`, the others `reference_stageN`.

    `predefined` names arguments that need no ARG."""
    starts = [index for index, instruction in enumerate(dockerfile.instructions) if isinstance(instruction, From)]
    ends = [*starts[1:], len(dockerfile.instructions)]
    global_args = [instruction for instruction in dockerfile.instructions[: starts[0]] if isinstance(instruction, Arg)]
    stages = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        from_ = dockerfile.instructions[start]
        assert isinstance(from_, From)
        stages.append(
            Stage(
                number=number,
                alias=from_.alias,
                reference=reference if number == len(starts) - 1 else reference.stage(number),
                from_=from_,
                instructions=dockerfile.instructions[start + 1 : end],
                first_step=start + 1,
            )
        )
    return Plan(tuple(global_args), tuple(stages), _unconsumed(dockerfile, build_args, predefined))


def stop_at(plan: Plan, target: str, reference: Reference) -> Plan:
    """Return the plan up to a stage, named by number or alias, which makes `reference`. Raises StageError."""
    # The last of a name is the one that a user sees when asking for it.
    found = [stage for stage in plan.stages if target.lower() in (stage.alias, str(stage.number))]
    if not found:
        aliases = [stage.alias or str(stage.number) for stage in plan.stages]
        raise StageError(f"--target: no such stage: {target}", hint=f"stages: {', '.join(aliases)}")
    last = found[-1]
    return plan._replace(stages=(*plan.stages[: last.number], last._replace(reference=reference)))


def add_labels(plan: Plan, labels: Mapping[str, str]) -> Plan:
    """Return the plan with a LABEL as the last instruction, in the line behind what is there."""
    last = plan.stages[-1]
    line = (last.instructions[-1] if last.instructions else last.from_).range.end_line + 1
    pairs = tuple((_literal(name), _literal(value)) for name, value in labels.items())
    text = " ".join(f"{name}={value}" for name, value in pairs)
    label = Label(range=SourceRange(line, line), text=text, pairs=pairs)
    return plan._replace(stages=(*plan.stages[:-1], last._replace(instructions=(*last.instructions, label))))


def refuse_unconsumed(names: Collection[str], path: str) -> None:
    """Raise UnusedBuildArgs if there are such: better before an hour of building than after it."""
    if names:
        raise UnusedBuildArgs(
            f"--build-arg: not consumed: {' '.join(sorted(names))}", hint=f"no ARG of {path} declares it"
        )


def _literal(text: str) -> str:
    """Return a word that expands to this text."""
    quoted = text.replace("'", "'\"'\"'")
    return f"'{quoted}'"


def _unconsumed(dockerfile: Dockerfile, build_args: Mapping[str, str], predefined: Collection[str]) -> tuple[str, ...]:
    if not build_args:
        return ()
    declared = set(predefined)
    for instruction in dockerfile.instructions:
        known = instruction.trigger if isinstance(instruction, OnBuild) else instruction
        if isinstance(known, Arg | From):
            declared.update(name for name, _ in known.args)
    return tuple(sorted(set(build_args) - declared))
