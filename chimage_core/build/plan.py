"""Stages of a Dockerfile, and everything that can be refused before a disk is touched."""

from collections.abc import Mapping
from typing import NamedTuple

from chimage_core.dockerfile.ast import Arg, Dockerfile, From, Instruction
from chimage_core.errors import UnusedBuildArgs
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

    @property
    def instruction_count(self) -> int:
        """All instructions of the file."""
        return len(self.global_args) + sum(1 + len(stage.instructions) for stage in self.stages)


def make_plan(
    dockerfile: Dockerfile, reference: Reference, build_args: Mapping[str, str], predefined: set[str]
) -> Plan:
    """Divide a Dockerfile into stages; the last one makes `reference`, the others `reference_stageN`.

    `predefined` names arguments that need no ARG. Raises UnusedBuildArgs for a build argument that nothing in the file
    declares: better before an hour of building than after it.
    """
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
    _refuse_unused(dockerfile, build_args, predefined)
    return Plan(tuple(global_args), tuple(stages))


def _refuse_unused(dockerfile: Dockerfile, build_args: Mapping[str, str], predefined: set[str]) -> None:
    declared = set(predefined)
    for instruction in dockerfile.instructions:
        if isinstance(instruction, Arg | From):
            declared.update(name for name, _ in instruction.args)
    unused = sorted(set(build_args) - declared)
    if unused:
        raise UnusedBuildArgs(
            f"--build-arg: not consumed: {' '.join(unused)}", hint=f"no ARG of {dockerfile.path} declares it"
        )
