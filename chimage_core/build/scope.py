"""What an instruction may see while it is resolved: configuration, arguments, context, finished stages.

Variables, strongest first: ENV of the image; ARG; what the host passes in (proxies, SSH_AUTH_SOCK, USER); what is
always defined (PATH, TAR_OPTIONS). Source: ch-image manual, "Variable substitution".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.build.context import Source, SourceTree, described
from chimage_core.build.force import Forcer
from chimage_core.build.origins import Names, Origin
from chimage_core.dockerfile import substitute
from chimage_core.dockerfile.ast import Instruction
from chimage_core.dockerfile.errors import ExpansionProblem, InstructionProblem
from chimage_core.dockerfile.substitute import Unset
from chimage_core.image.config import ImageConfig
from chimage_core.settings import PASSED_VARIABLES

if TYPE_CHECKING:
    from chimage_core.build.remote import Remote
    from chimage_core.image.reference import Reference

PREDEFINED: Mapping[str, str] = {
    "PATH": "/ch/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TAR_OPTIONS": "--no-same-owner",
}
"""Defined in every build, whatever the host's values are."""


class Inputs(NamedTuple):
    """What stays the same during a build."""

    path: str
    """The Dockerfile's, for messages."""
    escape: str
    build_args: Mapping[str, str]
    passed_in: Mapping[str, str]
    """Variables of the host that every build sees, and that never cause a miss."""
    context: SourceTree | None
    names: Names
    """What `--from` may name."""
    image_files: "Callable[[Reference], Origin]"
    """Finds an image that `--from` names. Raises ImageUnavailable."""
    remote: "Callable[[], Remote]"
    """Gets what is on other machines."""
    forcer: Forcer
    with_xattrs: bool
    platform_args: Callable[[], Mapping[str, str]]
    """Arguments that tell platforms: known in FROM, elsewhere if ARG declares them."""
    by_content: bool = False
    """Source files are known by their content, and not by size and mtime."""


class Scope(NamedTuple):
    """What one instruction sees."""

    inputs: Inputs
    config: ImageConfig
    """After the instructions before."""
    stages: Mapping[int, Origin]
    """The finished ones, by number."""
    stage: int = 0
    """The number of the present one."""
    sets_cmd: bool = False
    """A CMD is among the instructions before, in this stage."""
    is_outside: bool = False
    """Outside of stages (FROM, and ARG before it) what tells platforms needs no ARG."""

    def lookup(self, name: str) -> str | None:
        """Return the value of a variable; None if it is not set."""
        for values in (self.config.env, self.config.args, self.inputs.passed_in, PREDEFINED):
            if name in values:
                return values[name]
        return self.inputs.platform_args().get(name) if self.is_outside else None

    def lookup_for_key(self, name: str) -> str | None:
        """Return the value of a variable as a cache key may have it: those that never cause a miss are but names."""
        if name in PASSED_VARIABLES and name not in self.config.env:
            return f"${{host:{name}}}"  # Nobody can have written that: it is no expansion.
        return self.lookup(name)

    def environment(self) -> dict[str, str]:
        """Return the environment of RUN."""
        return {**PREDEFINED, **self.inputs.passed_in, **self.config.args, **self.config.env}

    def describe(self, sources: Iterable[Source]) -> bytes:
        """Return what a step depends on that copies these sources: see `described`. Raises FileError."""
        inputs = self.inputs
        return described(sources, with_xattrs=inputs.with_xattrs, by_content=inputs.by_content)

    def origin(self, name: str) -> Origin:
        """Return what `--from=NAME` means here. Raises StageError, InvalidReference, ImageUnavailable."""
        meaning = self.inputs.names.meaning(name, self.stage)
        if isinstance(meaning, int):
            return self.stages[meaning]
        if isinstance(meaning, SourceTree):
            return Origin(None, lambda: meaning)
        return self.inputs.image_files(meaning)

    def expander(self, instruction: Instruction) -> "Expander":
        """Return what expands the words of one instruction."""
        return Expander(self, instruction)

    def problem(self, instruction: Instruction, message: str, *, hint: str | None = None) -> InstructionProblem:
        """Return an error about an instruction, to be raised."""
        return InstructionProblem(self.inputs.path, instruction.range, f"{instruction.name}: {message}", hint=hint)


class Expander:
    """Expands the words of one instruction and remembers what to warn of."""

    def __init__(self, scope: Scope, instruction: Instruction, lookup: substitute.Lookup | None = None) -> None:
        """Take the values of variables from `scope`, or from `lookup`."""
        self._scope = scope
        self._instruction = instruction
        self._lookup = lookup or scope.lookup
        self._unset: dict[str, None] = {}

    @property
    def unset(self) -> tuple[str, ...]:
        """Names of variables that were not set, in order."""
        return tuple(self._unset)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One text for each variable that was not set."""
        return tuple(map(self._warning, self._unset))

    @property
    def for_key(self) -> "Expander":
        """What expands the same words for a cache key, and for what is shown: without the values that the host passes
        in. It has no warnings of its own.
        """
        return Expander(self._scope, self._instruction, self._scope.lookup_for_key)

    def expand(self, word: str, *, unset: Unset = Unset.EMPTY) -> str:
        """Return a word with its variables replaced, quotes and escapes removed. Raises InstructionProblem."""
        return self._expanded(substitute.expand, word, unset)

    def expand_variables(self, text: str) -> str:
        """Return text with its set variables replaced; everything else stays. Raises InstructionProblem."""
        return self._expanded(substitute.expand_text, text, Unset.KEEP)

    def expand_document(self, text: str) -> str:
        """Return the body of a here-document with its variables replaced; quotes stay. Raises InstructionProblem."""
        return self._expanded(substitute.expand_text, text, Unset.EMPTY)

    def _expanded(self, function: Callable[..., substitute.Expanded], word: str, unset: Unset) -> str:
        scope, instruction = self._scope, self._instruction
        try:
            expanded = function(word, self._lookup, escape=scope.inputs.escape, unset=unset)
        except ExpansionProblem as problem:
            raise scope.problem(instruction, problem.message) from None
        if unset is Unset.EMPTY:
            self._unset.update(dict.fromkeys(expanded.unset))
        return expanded.value

    def _warning(self, name: str) -> str:
        scope, instruction = self._scope, self._instruction
        known = {*scope.config.env, *scope.config.args, *scope.inputs.passed_in, *PREDEFINED}
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean ${near[0]}?" if near else ""
        place = f"{scope.inputs.path}:{instruction.range.line}"
        return f"{place}: {instruction.name}: variable is not set, empty text used: ${name}{hint}"
