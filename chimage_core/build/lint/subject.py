"""What the rules look at: a Dockerfile, and what is known at each of its instructions.

Values of variables are followed through the file as a build would do it, but for those that a base image brings along:
nothing is known of that before it is there.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from chimage_core.build.context import SourceTree
from chimage_core.build.origins import Names
from chimage_core.build.scope import PREDEFINED
from chimage_core.dockerfile import substitute
from chimage_core.dockerfile.ast import Arg, Dockerfile, Env, From, Instruction, OnBuild
from chimage_core.dockerfile.errors import ExpansionProblem
from chimage_core.image.platform import ARGUMENTS as PLATFORM_ARGS
from chimage_core.settings import PASSED_VARIABLES

SCRATCH = "scratch"


class Word(NamedTuple):
    """A word of an instruction, expanded as well as it can be."""

    text: str
    unset: tuple[str, ...]
    """Variables that have no value as far as we know."""
    problem: str | None = None
    """Why it cannot be expanded."""


class Moment(NamedTuple):
    """What is known when an instruction is reached."""

    instruction: Instruction
    stage: int
    """Counted from 0; -1 before the first FROM."""
    values: Mapping[str, str]
    without_value: frozenset[str]
    """Declared by ARG, but nothing gives them a value."""
    is_open: bool
    """A base image may have set more."""
    globals_only: frozenset[str]
    """Arguments from before the first FROM that this stage did not declare again."""
    escape: str
    is_trigger: bool = False
    """The instruction is carried out by other builds."""

    def expand(self, word: str) -> Word:
        """Return a word with its variables replaced; those of unknown value are empty."""
        try:
            found = substitute.expand(word, self.values, escape=self.escape)
        except ExpansionProblem as problem:
            return Word("", (), problem.reason)
        return Word(found.value, found.unset)

    def known(self, word: str) -> str | None:
        """Return the value of a word; None if anything about it is not known."""
        expanded = self.expand(word)
        return None if expanded.unset or expanded.problem else expanded.text


class Subject(NamedTuple):
    """A Dockerfile and what it is built with."""

    dockerfile: Dockerfile
    moments: tuple[Moment, ...]
    """One for each instruction, and one more for each trigger of an ONBUILD."""
    names: Names
    """Of stages and build contexts."""
    numbers: Mapping[str, list[int]]
    """Of the stages of each name, in order."""
    context: SourceTree | None
    """None: there is none."""
    target: str | None
    """Stage that is asked for; None: the last one."""
    stages: tuple[tuple[Moment, ...], ...]
    """The moments of each stage, its FROM included, triggers not."""


def make_subject(
    dockerfile: Dockerfile,
    build_args: Mapping[str, str],
    context: SourceTree | None,
    contexts: Mapping[str, SourceTree],
    target: str | None = None,
) -> Subject:
    """Follow the values of variables through a Dockerfile."""
    aliases = tuple(instruction.alias for instruction in dockerfile.instructions if isinstance(instruction, From))
    names = Names(stages=aliases, contexts=contexts)
    moments = tuple(_Follower(dockerfile, build_args).moments())
    numbers: dict[str, list[int]] = {}
    for number, alias in enumerate(aliases):
        if alias is not None:
            numbers.setdefault(alias, []).append(number)
    stages: list[list[Moment]] = [[] for _ in aliases]
    for moment in moments:
        if moment.stage >= 0 and not moment.is_trigger:
            stages[moment.stage].append(moment)
    return Subject(dockerfile, moments, names, numbers, context, target, tuple(map(tuple, stages)))


class _Stage(NamedTuple):
    """What a stage hands on to its children."""

    env: dict[str, str]
    args: dict[str, str | None]
    is_open: bool


class _Follower:
    """Goes through a file once."""

    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str]) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._globals: dict[str, str | None] = {}
        self._count = 0
        """Of stages that are complete."""
        self._named: dict[str, _Stage] = {}
        self._env: dict[str, str] = {}
        self._args: dict[str, str | None] = {}
        self._declared: set[str] = set()
        self._is_open = False
        self._alias: str | None = None
        self._is_begun = False
        """A FROM was there."""

    def moments(self) -> Iterator[Moment]:
        """Yield what is known at each instruction, from the first to the last."""
        for instruction in self._dockerfile.instructions:
            if isinstance(instruction, From):
                yield self._begin(instruction)
                continue
            moment = self._moment(instruction)
            yield moment
            if isinstance(instruction, OnBuild):
                yield moment._replace(instruction=instruction.trigger, is_open=True, is_trigger=True)
            elif isinstance(instruction, Arg):
                self._args = {**self._args, **self._declared_by(instruction, moment)}
                self._declared.update(name for name, _ in instruction.args)
            elif isinstance(instruction, Env):
                pairs = ((moment.expand(name).text, moment.expand(value).text) for name, value in instruction.pairs)
                self._env = {**self._env, **dict(pairs)}

    def _begin(self, instruction: From) -> Moment:
        if self._is_begun:
            self._end()
        else:
            self._globals = self._args
        own = {name: self._build_args.get(name, value) for name, value in instruction.args}
        self._env, self._args, self._is_open, self._declared = {}, {**self._globals, **own}, False, set()
        self._is_begun = True
        moment = self._moment(instruction)
        image = moment.expand(instruction.image).text
        parent = self._named.get(image.lower())
        self._alias = instruction.alias
        if parent is None:
            self._is_open = image != SCRATCH
        else:
            self._env, self._is_open = parent.env, parent.is_open
            self._args = {**self._args, **parent.args, **own}
        return moment

    def _end(self) -> None:
        self._count += 1
        if self._alias is not None:
            self._named[self._alias] = _Stage(self._env, self._args, self._is_open)

    def _moment(self, instruction: Instruction) -> Moment:
        given = {name: self._build_args.get(name, "x") for name in PASSED_VARIABLES}
        if not self._is_begun or isinstance(instruction, From):
            given.update(dict.fromkeys(PLATFORM_ARGS, "x"))
        args = {name: value for name, value in self._args.items() if value is not None}
        return Moment(
            instruction=instruction,
            stage=self._count if self._is_begun else -1,
            values={**PREDEFINED, **given, **args, **self._env},
            without_value=frozenset(self._args) - frozenset(args) - frozenset(self._env),
            is_open=self._is_open,
            globals_only=frozenset(self._globals) - self._declared - frozenset(self._env),
            escape=self._dockerfile.escape,
        )

    def _declared_by(self, instruction: Arg, moment: Moment) -> dict[str, str | None]:
        """Return the arguments that an ARG declares; None: it has no value."""
        values: dict[str, str | None] = {}
        for name, default in instruction.args:
            given = self._build_args.get(name, default)
            if given is not None:
                values[name] = moment.expand(given).text
            else:
                values[name] = self._args.get(name, "x" if name in (*PLATFORM_ARGS, *PASSED_VARIABLES) else None)
        return values
