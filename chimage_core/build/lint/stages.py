"""Stages: their names, who uses them, and what they start from."""

import re
from collections.abc import Iterator

from chimage_core.build.lint.finding import Finding, at, nearest
from chimage_core.build.lint.mounts import mount_fields
from chimage_core.build.lint.subject import SCRATCH, Moment, Subject
from chimage_core.dockerfile import ast
from chimage_core.errors import ChimageError
from chimage_core.image.platform import ARGUMENTS as PLATFORM_ARGS
from chimage_core.image.reference import Reference

_RESERVED = (SCRATCH, "context")


def names(subject: Subject) -> Iterator[Finding]:
    """Find names of stages that are there twice, that mean something else, or that are not in lower case."""
    seen: dict[str, int] = {}
    for moment in _froms(subject):
        alias, instruction = _from(moment).alias, moment.instruction
        if alias is None:
            continue
        if alias in seen:
            text = (
                f"the name {alias} is that of the stage in line {seen[alias]}, too; the later one is meant from here on"
            )
            yield at(instruction, "warning", "stage-duplicate", text, "choose another name; Docker refuses this")
        if alias in _RESERVED:
            text = f"{alias} means something else already, so the stage can’t be named by it everywhere"
            yield at(instruction, "warning", "stage-reserved", text, "choose another name")
        written = instruction.text.split()[-1]
        if written != alias:
            text = f"names of stages are in lower case: {written} is {alias}"
            yield at(instruction, "note", "stage-case", text)
        seen[alias] = instruction.range.line


def origins(subject: Subject) -> Iterator[Finding]:
    """Find `--from` that names no earlier stage although it should."""
    for moment in subject.moments:
        for word in _origins(moment.instruction):
            name = moment.known(word)
            if name is None or moment.is_trigger:
                continue
            yield from _origin(subject, moment, name)


def unused(subject: Subject) -> Iterator[Finding]:
    """Find stages that no other one uses and that are not asked for: they are built all the same."""
    used: set[int] = {_target(subject)}
    for moment in subject.moments:
        words = (*_origins(moment.instruction), *_image(moment))
        if any(re.search(rf"\$\{{?({'|'.join(PLATFORM_ARGS)})\b", word) for word in words):
            return  # Which stage it is depends on the machine.
        for word in words:
            number = _stage_number(subject, moment, moment.expand(word).text)
            if number is not None:
                used.add(number)
    for moment in _froms(subject):
        if moment.stage not in used:
            name = _from(moment).alias or moment.stage
            text = f"no later stage uses stage {name}, but it is built"
            yield at(moment.instruction, "note", "stage-unused", text, "remove it if nobody asks for it with --target")


def references(subject: Subject) -> Iterator[Finding]:
    """Find base images that no image can be called."""
    for moment, image in _bases(subject):
        try:
            Reference.parse(image)
        except ChimageError as error:
            yield at(moment.instruction, "error", "from-invalid", error.message.splitlines()[0], error.hint)


def tags(subject: Subject) -> Iterator[Finding]:
    """Find base images without a tag, or with one that moves."""
    for moment, image in _bases(subject):
        name = image.rpartition("/")[2]
        if "@" in image:
            continue
        if ":" not in name:
            text = f"{image} has no tag, so {image}:latest is meant, which may be another image tomorrow"
        elif name.endswith(":latest"):
            text = f"{image} may be another image tomorrow"
        else:
            continue
        yield at(moment.instruction, "note", "from-latest", text, "name a version")


def _froms(subject: Subject) -> Iterator[Moment]:
    return (moment for moment in subject.moments if isinstance(moment.instruction, ast.From))


def _bases(subject: Subject) -> Iterator[tuple[Moment, str]]:
    """Yield each FROM of an image, as far as its name is known."""
    for moment in _froms(subject):
        image = moment.known(_from(moment).image)
        if image is not None and image != SCRATCH and _stage_number(subject, moment, image) is None:
            yield moment, image


def _from(moment: Moment) -> ast.From:
    assert isinstance(moment.instruction, ast.From)
    return moment.instruction


def _image(moment: Moment) -> tuple[str, ...]:
    return (moment.instruction.image,) if isinstance(moment.instruction, ast.From) else ()


def _origins(instruction: ast.Instruction) -> tuple[str, ...]:
    if isinstance(instruction, ast.Copy):
        return () if instruction.from_ is None else (instruction.from_,)
    if isinstance(instruction, ast.Run):
        return tuple(fields["from"] for fields in map(mount_fields, instruction.mounts) if "from" in fields)
    return ()


def _target(subject: Subject) -> int:
    aliases = subject.names.stages
    target = (subject.target or "").lower()
    if target.isascii() and target.isdecimal():
        return int(target[:9])
    return subject.numbers.get(target, [len(aliases) - 1])[-1]


def _stage_number(subject: Subject, moment: Moment, name: str) -> int | None:
    """Return the number of the earlier stage that is meant; None: something else."""
    if name.isascii() and name.isdecimal() and not isinstance(moment.instruction, ast.From):
        return int(name[:9])
    numbers = subject.numbers.get(name.lower(), ())
    return next((number for number in reversed(numbers) if number < moment.stage), None)


def _origin(subject: Subject, moment: Moment, name: str) -> Iterator[Finding]:
    try:
        meaning = subject.names.meaning(name, moment.stage)
    except ChimageError as error:
        yield at(moment.instruction, "error", "from-unknown", error.message.splitlines()[0], error.hint)
        return
    if isinstance(meaning, int) or name.lower() in subject.names.contexts:
        return
    near = nearest(name.lower(), [alias for alias in subject.names.stages[: moment.stage] if alias])
    if near:
        text = f"--from={name} is no stage, so the image of this name is meant"
        yield at(moment.instruction, "warning", "from-image", text, f"did you mean the stage {near}?")


RULES = (names, origins, unused, references, tags)
