"""Sources of COPY, ADD and RSYNC that are not in the context."""

import glob
import re
from collections.abc import Iterator

from chimage_core.build.context import SourceTree, has_wildcard
from chimage_core.build.lint.finding import Finding, at
from chimage_core.build.lint.mounts import mount_fields
from chimage_core.build.lint.subject import Moment, Subject
from chimage_core.build.remote import parse_source
from chimage_core.dockerfile import ast
from chimage_core.errors import ChimageError

_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


def missing(subject: Subject) -> Iterator[Finding]:
    """Find sources that are not there, are outside the context, or are excluded."""
    for moment in subject.moments:
        instruction = moment.instruction
        if moment.is_trigger or not isinstance(instruction, ast.Copy | ast.Add | ast.Rsync):
            continue
        tree = _tree(subject, moment)
        if tree is None:
            continue
        for pattern in filter(None, map(moment.known, instruction.sources)):
            if isinstance(instruction, ast.Add) and _is_remote(pattern):
                continue
            problem = _problem(tree, pattern, instruction)
            if problem is not None:
                yield at(instruction, "error", "source-missing", *problem)


def missing_mounts(subject: Subject) -> Iterator[Finding]:
    """Find mounts of files that are not there, are outside the context, or are excluded."""
    for moment in subject.moments:
        instruction = moment.instruction
        if moment.is_trigger or not isinstance(instruction, ast.Run):
            continue
        for fields in map(mount_fields, instruction.mounts):
            if fields.get("type", "bind").lower() != "bind":
                continue
            tree = _tree_of(subject, moment, fields.get("from"))
            source = moment.known(fields.get("source", ""))
            problem = _problem(tree, glob.escape(source), instruction) if tree and source else None
            if problem is not None:
                yield at(instruction, "error", "source-missing", f"--mount: {problem[0]}", problem[1])


def no_context(subject: Subject) -> Iterator[Finding]:
    """Find instructions that need a context where there is none."""
    if subject.context is not None:
        return
    for moment in subject.moments:
        instruction = moment.instruction
        if not isinstance(instruction, ast.Copy | ast.Add | ast.Rsync) or moment.is_trigger:
            continue
        if isinstance(instruction, ast.Copy) and instruction.from_ is not None:
            continue
        if any(not _is_remote(source) for source in instruction.sources):
            yield at(instruction, "error", "no-context", "there is no context to take files from", "name a directory")


def needless_add(subject: Subject) -> Iterator[Finding]:
    """Find ADD of plain files."""
    for moment in subject.moments:
        instruction = moment.instruction
        if not isinstance(instruction, ast.Add) or instruction.checksum or instruction.unpack is not None:
            continue
        sources = [moment.known(source) for source in instruction.sources]
        if sources and all(source and _is_plain(source) for source in sources):
            yield at(instruction, "note", "add-as-copy", "COPY does the same for what is no archive", "use COPY")


def _is_remote(source: str) -> bool:
    try:
        return parse_source(source) is not None
    except ValueError:  # It is refused, and not for being no file.
        return True


def _is_plain(source: str) -> bool:
    """Say whether a source of ADD is one that COPY would treat alike. An archive may hide behind a pattern."""
    return not (_is_remote(source) or _ARCHIVE.search(source) or has_wildcard(source))


def _tree(subject: Subject, moment: Moment) -> SourceTree | None:
    """Return where sources are taken from; None: it is not known before the build, or not there at all."""
    return _tree_of(subject, moment, moment.instruction.from_ if isinstance(moment.instruction, ast.Copy) else None)


def _tree_of(subject: Subject, moment: Moment, origin: str | None) -> SourceTree | None:
    if origin is None:
        return subject.context
    name = moment.known(origin)
    return None if name is None else subject.names.contexts.get(name.lower())


def _problem(
    tree: SourceTree, pattern: str, instruction: ast.Copy | ast.Add | ast.Rsync | ast.Run
) -> tuple[str, str | None] | None:
    if isinstance(instruction, ast.Rsync):
        tree = tree._replace(ignored=None)
    has_parents = isinstance(instruction, ast.Copy) and instruction.parents
    try:
        tree.find(pattern, any_depth=has_parents)
    except ChimageError as error:
        return error.message.replace("\n  ", " "), error.hint
    return None


RULES = (missing, missing_mounts, no_context, needless_add)
