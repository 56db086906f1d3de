"""RSYNC: copy files from the context by the host's rsync(1). A Charliecloud extension; NSYNC is another spelling.

A hit looks at the metadata of the sources only, and at the content of the few files that options read. `.dockerignore`
does not apply: rsync has ways of its own. Source: ch-image manual, "RSYNC (Dockerfile extension)".
"""

import hashlib
import posixpath
from collections.abc import Iterable
from typing import Any

from chimage_core.build.context import SourceTree
from chimage_core.build.rsync import rules, sources
from chimage_core.build.rsync.options import DEFAULT_GROUP, GROUPS, Option, OptionProblem, parse_options
from chimage_core.build.rsync.transfer import CopyByRsync, follows_links
from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Rsync
from chimage_core.dockerfile.errors import InstructionProblem
from chimage_core.errors import ContextError
from chimage_core.text import quoted

_MAY_LACK_SOURCES = {"ignore-missing-args", "delete-missing-args"}
_XATTRS = {"acls", "xattrs"}


def resolve(instruction: Rsync, scope: Scope) -> Step:
    """Return the step of an RSYNC. Sources are looked at, by metadata only."""
    path, with_xattrs = scope.inputs.path, scope.inputs.with_xattrs
    expander = scope.expander(instruction)
    given = [expander.expand(word) for word in instruction.rsync_options]
    patterns = [expander.expand(word) for word in instruction.sources]
    dest = expander.expand(instruction.dest)
    if not all((*patterns, dest)):
        raise scope.problem(instruction, "a source or the destination is empty after substitution")
    if any("\0" in word for word in (*given, *patterns, dest)):
        raise scope.problem(instruction, "a word holds a NUL byte")
    _refuse_remote(instruction, path, (*patterns, dest))
    group = instruction.plus or DEFAULT_GROUP
    options = tuple(
        option
        for option in _options(instruction, path, (*GROUPS[group], *given))
        if with_xattrs or option.name not in _XATTRS
    )
    tree = scope.inputs.context
    if tree is None:
        raise ContextError(str(scope.problem(instruction, "no context")), hint="the context was given as “-”")
    words = _found(tree, patterns, options)
    target = posixpath.join("/", scope.config.workdir, dest)
    text = " ".join(filter(None, (f"+{group}", quoted(given), f"{patterns!r} -> {dest!r}")))
    parameters = {
        "options": [option.argument for option in options],
        "patterns": patterns,
        "target": target,
        "umask": _umask(),
        **_files_read(instruction, path, tree, options),
    }
    looked_at = sources.described(
        tree, words, follows=follows_links(options), with_xattrs=with_xattrs, by_content=scope.inputs.by_content
    )
    return Step(
        instruction=instruction,
        name="RSYNC",
        text=text,
        inputs=StepInputs("RSYNC", text, parameters, looked_at),
        config=scope.config,
        effect=CopyByRsync(
            tree=tree,
            words=words,
            target=target,
            workdir=None if dest.startswith("/") else scope.config.workdir,
            options=options,
            shows_progress=group != "z",
        ),
        warnings=expander.warnings,
    )


def check(instruction: Rsync, path: str) -> None:
    """Refuse what needs no look at files; see `instructions.check`."""
    _options(instruction, path, [word for word in instruction.rsync_options if "$" not in word])
    _refuse_remote(instruction, path, (*instruction.sources, instruction.dest))


def _options(instruction: Rsync, path: str, words: Iterable[str]) -> tuple[Option, ...]:
    try:
        options = parse_options(words)
        for option in options:
            rules.file_of(option)
    except OptionProblem as problem:
        raise _problem(instruction, path, problem.message, problem.hint) from None
    return options


def _refuse_remote(instruction: Rsync, path: str, words: Iterable[str]) -> None:
    """Raise InstructionProblem for what rsync takes for a path on another host: a colon before any slash."""
    for word in words:
        if ":" in word.partition("/")[0].partition("$")[0]:
            hint = f"for a local file of that name, write ./{word}; or use rsync(1) in a RUN instruction"
            raise _problem(instruction, path, f"other hosts are not supported: {word}", hint)


def _problem(instruction: Rsync, path: str, message: str, hint: str | None) -> InstructionProblem:
    return InstructionProblem(path, instruction.range, f"RSYNC: {message}", hint=hint)


def _found(tree: SourceTree, patterns: list[str], options: tuple[Option, ...]) -> tuple[str, ...]:
    may_be_missing = any(option.name in _MAY_LACK_SOURCES for option in options)
    follows = follows_links(options)
    return tuple(
        word
        for pattern in patterns
        for word in sources.find(tree, pattern, follows=follows, may_be_missing=may_be_missing)
    )


def _files_read(instruction: Rsync, path: str, tree: SourceTree, options: tuple[Option, ...]) -> dict[str, Any]:
    """Return a hash of each file in the context that an option reads. Those in the image are part of the state."""
    hashes: dict[str, Any] = {}
    try:
        for option in options:
            name = rules.file_of(option)
            if name is not None and not name.startswith("/"):
                content = rules.read(option, rules.path_in_context(tree, name))
                hashes[f"content of {name}"] = hashlib.sha256(content).hexdigest()
    except OptionProblem as problem:
        raise _problem(instruction, path, problem.message, problem.hint) from None
    return hashes


def _umask() -> str:
    """Return the umask, which is part of the modes of what rsync makes, octal.

    umask(2) can tell it only by changing it, for all threads.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((line.split()[1] for line in file if line.startswith("Umask:")), "")
