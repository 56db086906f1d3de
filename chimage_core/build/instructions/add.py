"""ADD: as COPY, and also files by URL, Git repositories, and tar archives, which are unpacked.

Sources in the context are those of COPY, and copied as COPY does. A file of them that is a tar archive, by its content,
is unpacked into the destination, a fetched one only with `--unpack`. What the cache knows a fetched file by is its
checksum, if the Dockerfile has one, else what the server tells of it; a repository by its commit. Source: Dockerfile
reference, "ADD".
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chimage_core.build.context import Source, SourceTree
from chimage_core.build.instructions.copy import (
    CopyFiles,
    check_mode,
    described_documents,
    documents_of,
    options_of,
    target_of,
    warned_of_empty,
)
from chimage_core.build.remote import Remote, Repository, WebFile, parse_source
from chimage_core.build.scope import Scope
from chimage_core.build.selection import Selection
from chimage_core.build.step import Step, Tools
from chimage_core.cache.inputs import REMOTE, StepInputs
from chimage_core.dockerfile.ast import Add
from chimage_core.dockerfile.errors import InstructionProblem
from chimage_core.errors import ContextError, IntegrityError
from chimage_core.fs.paths import resolve_in_root
from chimage_core.image.digest import Digest
from chimage_core.rootfs.changes import Changes
from chimage_core.rootfs.place import ImagePlace
from chimage_core.text import without_credentials

_COMMIT_LENGTHS = (40, 64)
_GIT_FILES = "**/.git"


class Local(NamedTuple):
    """Files of the context that one word names."""

    sources: tuple[Source, ...]


class Fetched(NamedTuple):
    """A file by URL, looked up."""

    file: WebFile
    seen: Mapping[str, str] | None
    checksum: str | None


class Cloned(NamedTuple):
    """A repository, looked up."""

    repository: Repository
    commit: str
    is_promised: bool
    """The commit is what the Dockerfile says, and nobody has asked the server yet."""
    excludes: tuple[str, ...]


Item = Local | Fetched | Cloned


def resolve(instruction: Add, scope: Scope) -> Step:
    """Return the step of an ADD. Sources in the context are looked at by metadata, servers are asked what they have."""
    expander = scope.expander(instruction)
    words = [expander.expand(word) for word in instruction.sources]
    target, dest = target_of(instruction, scope, expander)
    documents = documents_of(instruction, scope, expander)
    options = options_of(instruction, scope, expander)
    checksum = None if instruction.checksum is None else expander.expand(instruction.checksum)
    excludes = tuple(options.get("--exclude", ()))
    lookup = _Lookup(instruction, scope, checksum, excludes)
    items = [lookup.item(word) for word in words]
    if instruction.unpack is not None:
        options["--unpack"] = instruction.unpack
    if instruction.keep_git_dir:
        options["--keep-git-dir"] = True
    shown = [without_credentials(word) for word in words]
    text = f"{[*shown, *(f'<<{document.name}' for document in documents)]!r} -> {dest!r}"
    parameters: dict[str, Any] = {"patterns": shown, "target": target, **options}
    if remote := dict(map(_known, (item for item in items if not isinstance(item, Local)))):
        parameters[REMOTE] = remote
    parameters |= described_documents(documents)
    local = [source for item in items if isinstance(item, Local) for source in item.sources]
    copy = CopyFiles(list, target, documents, options.get("--chmod"), not instruction.link)
    return Step(
        instruction=instruction,
        name="ADD",
        text=text,
        inputs=StepInputs("ADD", text, parameters, scope.describe(local)),
        config=scope.config,
        effect=AddFiles(tuple(items), copy, instruction.unpack, instruction.keep_git_dir, scope.inputs.remote),
        warnings=(*expander.warnings, *warned_of_empty(instruction, scope, words), *_ignored(instruction)),
    )


def check(instruction: Add, path: str) -> None:
    """Refuse what needs no look at files; see `instructions.check`."""
    if instruction.chmod is not None and "$" not in instruction.chmod:
        check_mode(instruction.chmod, lambda message: InstructionProblem(path, instruction.range, f"ADD: {message}"))


class _Lookup:
    """Finds out what the words of one ADD mean."""

    def __init__(self, instruction: Add, scope: Scope, checksum: str | None, excludes: tuple[str, ...]) -> None:
        self._instruction = instruction
        self._scope = scope
        self._checksum = checksum
        self._excludes = excludes
        if checksum is not None and (len(instruction.sources) != 1 or instruction.heredocs):
            raise self._problem("--checksum is for a single source")

    def item(self, word: str) -> Item:
        try:
            source = parse_source(word)
        except ValueError as error:
            raise self._problem(f"{error}: {without_credentials(word)}") from None
        if source is None:
            return self._local(word)
        return self._fetched(source) if isinstance(source, WebFile) else self._cloned(source)

    def _local(self, word: str) -> Local:
        if self._checksum is not None:
            raise self._problem(f"--checksum is for URLs and Git repositories, not for: {word}")
        tree = self._scope.inputs.context
        if tree is None:
            raise ContextError(str(self._problem("no context")), hint="the context was given as “-”")
        return Local(tuple(Selection((word,), excludes=self._excludes).find(tree)))

    def _fetched(self, file: WebFile) -> Fetched:
        if self._checksum is None:
            return Fetched(file, self._scope.inputs.remote().look(file.url), None)
        try:
            return Fetched(file, None, str(Digest.parse(self._checksum.lower())))
        except ValueError as error:
            raise self._problem(f"--checksum={self._checksum}: {error}") from None

    def _cloned(self, repository: Repository) -> Cloned:
        promised = None if self._checksum is None else self._checksum.lower()
        if promised is not None and not (7 <= len(promised) <= 64 and set(promised) <= set("0123456789abcdef")):
            raise self._problem(f"--checksum={self._checksum}: of a Git repository it is a commit: 40 digits")
        if promised is not None and len(promised) in _COMMIT_LENGTHS:
            return Cloned(repository, promised, True, self._excludes)
        commit = self._scope.inputs.remote().commit(repository.url, repository.ref)
        if promised is not None:
            _verify(repository, promised, commit)
        return Cloned(repository, commit, False, self._excludes)

    def _problem(self, message: str) -> InstructionProblem:
        return self._scope.problem(self._instruction, message)


def _known(item: Fetched | Cloned) -> tuple[str, str]:
    """Return what an item from elsewhere is called, and what it is known by."""
    if isinstance(item, Fetched):
        told = item.checksum or ", ".join(f"{name} {value}" for name, value in (item.seen or {}).items())
        return without_credentials(item.file.url), told
    url, ref, subdirectory = item.repository
    name = f"{without_credentials(url)}#{ref or ''}{f':{subdirectory}' if subdirectory else ''}"
    return name.removesuffix("#"), f"commit {item.commit}"


def _verify(repository: Repository, promised: str, commit: str) -> None:
    if not commit.startswith(promised):
        raise IntegrityError(
            f"checksum of {without_credentials(repository.url)} differs: expected commit {promised}, found {commit}",
            hint=f"look whether {repository.ref or 'the default branch'} has moved on",
        )


def _ignored(instruction: Add) -> tuple[str, ...]:
    if instruction.chown is None:
        return ()
    return ("not supported, ignored: ADD --chown (there is only one user in an unprivileged build)",)


class AddFiles(NamedTuple):
    """Put files, what archives hold, and files of repositories into the image."""

    items: tuple[Item, ...]
    copy: CopyFiles
    """What copies: it lacks the sources only."""
    unpack: bool | None
    """None: archives of the context, but not fetched ones."""
    keep_git_dir: bool
    remote: Callable[[], Remote]

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return what was added."""
        with contextlib.ExitStack() as opened:
            # All of it before anything is changed: most of what can go wrong does so on the network.
            sources = [source for item in self.items for source in self._sources(item, opened)]
            self._check_names(sources, place)
            return self.copy._replace(find=lambda: sources).apply(place, tools)

    def _sources(self, item: Item, opened: contextlib.ExitStack) -> list[Source]:
        if isinstance(item, Local):
            return [_marked(source) if self.unpack is not False else source for source in item.sources]
        if isinstance(item, Fetched):
            source = Source(item.file.name, self.remote().fetch(item.file.url, item.seen, item.checksum))
            return [_marked(source) if self.unpack else source]
        repository, commit = item.repository, item.commit
        if item.is_promised:
            _verify(repository, commit, self.remote().commit(repository.url, repository.ref))
        tree = opened.enter_context(self.remote().checkout(repository.url, repository.ref, commit))
        path = resolve_in_root(tree, repository.subdirectory)
        if not os.path.isdir(path):
            raise ContextError(
                f"not a directory of {without_credentials(repository.url)}, commit {commit}: {repository.subdirectory}"
            )
        excludes = item.excludes if self.keep_git_dir else (*item.excludes, _GIT_FILES)
        return Selection((".",), excludes=excludes).find(SourceTree(path, "repository", is_image=True))

    def _check_names(self, sources: list[Source], place: ImagePlace) -> None:
        """Refuse a file that must go into a directory, but whose URL does not tell its name."""
        target = self.copy.target
        if len(sources) == 1 and not target.endswith("/") and not os.path.isdir(resolve_in_root(place.root, target)):
            return
        for item in self.items:
            if isinstance(item, Fetched) and not item.file.name and not all(source.is_archive for source in sources):
                raise ContextError(
                    f"URL does not end in a file name: {without_credentials(item.file.url)}",
                    hint="give a name at the end of the destination, instead of a directory",
                )


def _marked(source: Source) -> Source:
    """Return a source, marked as an archive if it is one."""
    from chimage_core.layer.added import is_tarball

    return source._replace(is_archive=os.path.isfile(source.path) and is_tarball(source.path))
