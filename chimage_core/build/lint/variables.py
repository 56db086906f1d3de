"""Variables that have no value where they are used."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import singledispatch

from chimage_core.build.lint.finding import Finding, Severity, at, nearest
from chimage_core.build.lint.subject import Moment, Subject
from chimage_core.dockerfile import ast
from chimage_core.image.platform import ARGUMENTS as PLATFORM_ARGS


def unset(subject: Subject) -> Iterator[Finding]:
    """Find variables that are not set, and those that must be."""
    for moment in subject.moments:
        for word in _words(moment.instruction):
            expanded = moment.expand(word)
            if expanded.problem and not moment.is_open:
                yield at(moment.instruction, "error", "word-fails", f"{expanded.problem} in {word}")
            for name in expanded.unset:
                yield _unset(moment, name)


def unused_globals(subject: Subject) -> Iterator[Finding]:
    """Find arguments before the first FROM that nothing uses."""
    texts = (text for moment in subject.moments for text in _all_text(moment.instruction))
    users = Counter(name for text in texts for name in set(re.findall(r"\w+", text)))
    for moment in subject.moments:
        if moment.stage >= 0 or not isinstance(moment.instruction, ast.Arg):
            continue
        for name, _ in moment.instruction.args:
            if users[name] < 2:  # One is its own text.
                yield at(
                    moment.instruction, "warning", "arg-unused", f"{name} is not used anywhere in the file", "remove it"
                )


def not_declared_again(subject: Subject) -> Iterator[Finding]:
    """Find uses of arguments from before the first FROM that work here only: Docker wants a second ARG."""
    for moment in subject.moments:
        if isinstance(moment.instruction, ast.From | ast.Arg) or moment.stage < 0:
            continue
        used = {name for word in _words(moment.instruction) for name in re.findall(r"\$\{?(\w+)", word)}
        for name in sorted(used & moment.globals_only):
            text = f"${name} was declared before the first FROM: known here, but in Docker only after ARG {name}"
            yield at(moment.instruction, "note", "arg-not-declared-again", text, f"add ARG {name} to the stage")


def _unset(moment: Moment, name: str) -> Finding:
    instruction = moment.instruction
    is_from = isinstance(instruction, ast.From)
    if name in moment.without_value:
        severity: Severity = "error" if is_from else "note"
        text = f"ARG {name} has no default, and no value is given, so ${name} is empty"
        return at(instruction, severity, "variable-without-value", text, f"build with --build-arg {name}=VALUE")
    if name in PLATFORM_ARGS:
        text = f"${name} is known only if the stage declares it"
        return at(instruction, "warning", "variable-unset", text, f"add ARG {name} before")
    near = nearest(name, [*moment.values, *moment.without_value])
    suggestion = f"did you mean ${near}?" if near else None
    if is_from:
        text = f"the image reference contains an undefined variable: ${name}"
        return at(instruction, "error", "variable-unset", text, suggestion or f"declare it before: ARG {name}=VALUE")
    if moment.is_open and not near:
        return at(instruction, "note", "variable-from-base", f"${name} is empty unless the base image sets it")
    return at(instruction, "warning", "variable-unset", f"${name} is not set, so it is empty", suggestion)


def _all_text(instruction: ast.Instruction) -> Iterator[str]:
    """Yield all text in which a variable may be named."""
    yield instruction.text
    inner = instruction.trigger if isinstance(instruction, ast.OnBuild) else instruction
    for heredoc in _heredocs(inner):
        yield heredoc.body


def _heredocs(instruction: ast.Instruction) -> Iterable[ast.Heredoc]:
    if isinstance(instruction, ast.Copy | ast.Add):
        return instruction.heredocs
    if isinstance(instruction, ast.Run) and isinstance(instruction.command, ast.ShellCommand):
        return instruction.command.heredocs
    return ()


def _words(instruction: ast.Instruction) -> Iterable[str]:
    """Return the words that a build expands, and where an unset variable becomes empty."""
    return (word for word in _expanded(instruction) if "$" in word)


@singledispatch
def _expanded(instruction: ast.Instruction) -> Sequence[str]:
    return ()


@_expanded.register
def _(instruction: ast.From) -> Sequence[str]:
    return instruction.image, instruction.platform or "", *(value for _, value in instruction.args)


@_expanded.register(ast.Copy)
@_expanded.register(ast.Add)
def _(instruction: ast.Copy | ast.Add) -> Sequence[str]:
    values = [value for value in instruction.options.values() if isinstance(value, str)]
    return *instruction.sources, instruction.dest, *values, *instruction.excludes


@_expanded.register
def _(instruction: ast.Rsync) -> Sequence[str]:
    return *instruction.sources, instruction.dest


@_expanded.register(ast.Env)
@_expanded.register(ast.Label)
def _(instruction: ast.Env | ast.Label) -> Sequence[str]:
    return [word for pair in instruction.pairs for word in pair]


@_expanded.register
def _(instruction: ast.Arg) -> Sequence[str]:
    return [default for _, default in instruction.args if default]


@_expanded.register(ast.Workdir)
@_expanded.register(ast.User)
@_expanded.register(ast.StopSignal)
def _(instruction: ast.Workdir | ast.User | ast.StopSignal) -> Sequence[str]:
    return (instruction.value,)


@_expanded.register
def _(instruction: ast.Expose) -> Sequence[str]:
    return instruction.ports


@_expanded.register
def _(instruction: ast.Volume) -> Sequence[str]:
    return instruction.paths


@_expanded.register
def _(instruction: ast.Run) -> Sequence[str]:
    return instruction.mounts


RULES = (unset, unused_globals, not_declared_again)
