"""COPY: files from the context, an earlier stage or another image into the image. How they are copied: `copying`.

Source: ch-image manual, "COPY"; for options that it does not know, Docker's reference.
"""

import posixpath
from collections.abc import Callable
from typing import Any, NamedTuple

from chimage_core.build.context import Source
from chimage_core.build.scope import Expander, Scope
from chimage_core.build.selection import Selection
from chimage_core.build.step import Step, Tools
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Add, Copy
from chimage_core.dockerfile.errors import InstructionProblem
from chimage_core.errors import ContextError
from chimage_core.rootfs.changes import Changes
from chimage_core.rootfs.place import ImagePlace


class Document(NamedTuple):
    """A source whose content is in the Dockerfile."""

    name: str
    content: str
    key: str
    """Stands for the content in a cache key."""


class CopyFiles(NamedTuple):
    """Copy sources to a path in the image."""

    find: Callable[[], list[Source]]
    target: str
    """Absolute path in the image; ends in a slash if it must be a directory."""
    documents: tuple[Document, ...] = ()
    """More sources."""
    chmod: str | None = None
    """Permissions of what is copied, as `--chmod` has them; None: those of the sources, 0644 for documents."""
    follows_links: bool = True
    """False: a symlink on the way to the target, or at it, is replaced by what is needed there."""

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return what was copied to."""
        from chimage_core.build.copying import copy_files

        return copy_files(self, place, tools)


class _Sources(NamedTuple):
    """Where files come from."""

    find: Callable[[], list[Source]]
    parameters: dict[str, Any]
    """That the files depend on."""
    looked_at: bytes = b""


def resolve(instruction: Copy, scope: Scope) -> Step:
    """Return the step of a COPY. Sources in a directory of the host are looked at, by metadata only."""
    expander = scope.expander(instruction)
    patterns = [expander.expand(word) for word in instruction.sources]
    target, dest = target_of(instruction, scope, expander)
    documents = documents_of(instruction, scope, expander)
    options = options_of(instruction, scope, expander)
    selection = Selection(tuple(patterns), instruction.parents, tuple(options.get("--exclude", ())))
    sources = _sources(instruction, scope, expander, selection)
    text = f"{[*patterns, *(f'<<{document.name}' for document in documents)]!r} -> {dest!r}"
    parameters = {"patterns": patterns, "target": target, **sources.parameters, **options}
    parameters |= described_documents(documents)
    return Step(
        instruction=instruction,
        name="COPY",
        text=text,
        inputs=StepInputs("COPY", text, parameters, sources.looked_at),
        config=scope.config,
        effect=CopyFiles(sources.find, target, documents, options.get("--chmod"), not instruction.link),
        warnings=(*expander.warnings, *warned_of_empty(instruction, scope, patterns), *_ignored(instruction)),
    )


def warned_of_empty(instruction: Copy | Add, scope: Scope, patterns: list[str]) -> tuple[str, ...]:
    """Return a warning if a source is empty after substitution: as for Docker, it is the whole tree then."""
    if all(patterns):
        return ()
    place = f"{scope.inputs.path}:{instruction.range.line}"
    return (f"{place}: {instruction.name}: a source is empty after substitution: everything is copied",)


def check(instruction: Copy, path: str) -> None:
    """Refuse what needs no look at files; see `instructions.check`. Raises InstructionProblem, ContextError."""
    if instruction.chmod is not None and "$" not in instruction.chmod:
        check_mode(instruction.chmod, lambda message: InstructionProblem(path, instruction.range, f"COPY: {message}"))
    if instruction.excludes:
        from chimage_core.build.ignore import from_patterns

        from_patterns((pattern for pattern in instruction.excludes if "$" not in pattern), "--exclude")


def origins(instruction: Copy) -> tuple[str, ...]:
    """Return what is copied from; see `instructions.origins`."""
    return () if instruction.from_ is None else (instruction.from_,)


def check_mode(mode: str, problem: Callable[[str], InstructionProblem]) -> None:
    """Raise what `problem` makes of a message if this is no value of `--chmod`."""
    from chimage_core.build.modes import parse_mode

    try:
        parse_mode(mode)
    except ValueError as error:
        raise problem(f"--chmod: {error}") from None


def target_of(instruction: Copy | Add, scope: Scope, expander: Expander) -> tuple[str, str]:
    """Return the destination as a path in the image, and as the instruction has it. Raises InstructionProblem."""
    dest = expander.expand(instruction.dest)
    if not dest or "\0" in dest:
        raise scope.problem(instruction, f"the destination is {'not a path' if dest else 'empty after substitution'}")
    # The slash at the end says "a directory", and joining would lose it.
    keeps_parents = isinstance(instruction, Copy) and instruction.parents
    return posixpath.join("/", scope.config.workdir, f"{dest}/" if keeps_parents else dest), dest


def options_of(instruction: Copy | Add, scope: Scope, expander: Expander) -> dict[str, Any]:
    """Return the options of COPY and ADD that change what is copied, by label. Those that are not used must not change
    cache keys. Raises InstructionProblem.
    """
    options: dict[str, Any] = {}
    if instruction.chmod is not None:
        options["--chmod"] = expander.expand(instruction.chmod)
        check_mode(options["--chmod"], lambda message: scope.problem(instruction, message))
    if instruction.excludes:
        options["--exclude"] = [expander.expand(pattern) for pattern in instruction.excludes]
    if instruction.link:
        options["--link"] = True
    if isinstance(instruction, Copy) and instruction.parents:
        options["--parents"] = True
    return options


def documents_of(instruction: Copy | Add, scope: Scope, expander: Expander) -> tuple[Document, ...]:
    """Return the here-documents of COPY and ADD. Raises InstructionProblem."""
    documents = []
    for heredoc in instruction.heredocs:
        name = posixpath.basename(heredoc.name)
        if name in ("", ".", ".."):
            raise scope.problem(instruction, f"a here-document can’t be a file of this name: {heredoc.name}")
        content = key = heredoc.content
        if heredoc.expand:
            content, key = expander.expand_document(content), expander.for_key.expand_document(content)
        documents.append(Document(name, content, key))
    return tuple(documents)


def described_documents(documents: tuple[Document, ...]) -> dict[str, str]:
    """Return what a step depends on that writes these documents, by label."""
    return {f"here-document {document.name}": document.key for document in documents}


def _sources(instruction: Copy, scope: Scope, expander: Expander, selection: Selection) -> _Sources:
    if not selection.patterns:  # There are only here-documents.
        return _Sources(list, {"stage": None})
    if instruction.from_ is None:
        tree = scope.inputs.context
        if tree is None:
            raise ContextError(str(scope.problem(instruction, "no context")), hint="the context was given as “-”")
    else:
        name = expander.expand(instruction.from_)
        if not name:
            raise scope.problem(instruction, "--from is empty after substitution")
        origin = scope.origin(name)
        if origin.state is not None:
            key = {"image of --from": origin.state.hex} if origin.is_image else {}
            parameters = {"stage": None if origin.is_image else origin.state.hex, **key}
            return _Sources(lambda: selection.find(origin.tree()), parameters)
        tree = origin.tree()
    found = selection.find(tree)
    return _Sources(lambda: found, {"stage": None}, scope.describe(found))


def _ignored(instruction: Copy) -> tuple[str, ...]:
    if instruction.chown is None:
        return ()
    return ("not supported, ignored: COPY --chown (there is only one user in an unprivileged build)",)
