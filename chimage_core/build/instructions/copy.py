"""COPY: files from the context, or from an earlier stage, into the image.

Semantics are those of Docker's legacy builder: of a directory, the contents are copied; the destination is a directory
if it ends in a slash, or there are several sources, or the source is a directory; symlinks named as source or
destination are followed, deeper ones are copied. Source: ch-image manual, "COPY".
"""

import os
import posixpath
from collections.abc import Callable, Collection
from typing import NamedTuple

from chimage_core.build.context import Source, SourceTree
from chimage_core.build.scope import Scope
from chimage_core.build.step import Step, Tools
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Copy
from chimage_core.dockerfile.errors import InstructionProblem
from chimage_core.errors import ContextError, StageError
from chimage_core.events import Warned
from chimage_core.fs.paths import resolve_in_root
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.xattr import warn_left_out
from chimage_core.rootfs.changes import Changes, PathsChanged
from chimage_core.rootfs.directories import accessible, make_directories
from chimage_core.rootfs.place import ImagePlace

_SUPPORTED_OPTIONS = ("from", "chown")


def resolve(instruction: Copy, scope: Scope) -> Step:
    """Return the step of a COPY. Sources in the context are looked at, by metadata only."""
    expander = scope.expander(instruction)
    patterns = [expander.expand(word) for word in instruction.sources]
    dest = expander.expand(instruction.dest)
    if not dest:
        raise scope.problem(instruction, "the destination is empty after substitution")
    # The slash at the end says "a directory", and joining would lose it.
    target = posixpath.join("/", scope.config.workdir, dest)
    warnings = list(expander.warnings)
    if instruction.chown is not None:
        warnings.append("not supported, ignored: COPY --chown (there is only one user in an unprivileged build)")
    if instruction.from_ is not None:
        origin = expander.expand(instruction.from_)
        stage = scope.stages.get(origin.lower())
        if stage is None:
            raise _no_stage(instruction, scope.inputs.path, origin)
        find, origin_state, looked_at = _in_stage(stage.tree, patterns), stage.state.hex, b""
    else:
        if scope.inputs.context is None:
            raise ContextError(str(scope.problem(instruction, "no context")), hint="the context was given as “-”")
        sources = _found(scope.inputs.context, patterns)
        looked_at = scope.describe(sources)
        find, origin_state = (lambda: sources), None
    text = f"{patterns!r} -> {dest!r}"
    parameters = {"patterns": patterns, "target": target, "stage": origin_state}
    return Step(
        instruction=instruction,
        name="COPY",
        text=text,
        inputs=StepInputs("COPY", text, parameters, looked_at),
        config=scope.config,
        effect=CopyFiles(find, target),
        warnings=tuple(warnings),
    )


def check(instruction: Copy, path: str, stages: Collection[str]) -> None:
    """Refuse what needs no look at files; see `instructions.check`."""
    for option in instruction.options:
        if option not in _SUPPORTED_OPTIONS:
            raise InstructionProblem(path, instruction.range, f"COPY: --{option} is not yet supported")
    if instruction.heredocs:
        raise InstructionProblem(path, instruction.range, "COPY: here-documents are not yet supported")
    origin = instruction.from_
    if origin is not None and "$" not in origin and origin.lower() not in stages:
        raise _no_stage(instruction, path, origin)


def _no_stage(instruction: Copy, path: str, origin: str) -> StageError:
    return StageError(
        str(InstructionProblem(path, instruction.range, f"COPY: --from={origin}: no such earlier stage")),
        hint="only earlier stages can be copied from, by number (from 0) or by name",
    )


def _found(tree: SourceTree, patterns: list[str]) -> list[Source]:
    return [source for pattern in patterns for source in tree.find(pattern)]


def _in_stage(tree: Callable[[], SourceTree], patterns: list[str]) -> Callable[[], list[Source]]:
    return lambda: _found(tree(), patterns)


class CopyFiles(NamedTuple):
    """Copy sources to a path in the image."""

    find: Callable[[], list[Source]]
    target: str
    """Absolute path in the image; ends in a slash if it must be a directory."""

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return what was copied to."""
        sources = self.find()
        _refuse_storage(sources, place)
        tools.opening(place)
        with accessible(place.root, self.target):
            return self._copy(sources, place, tools)

    def _copy(self, sources: list[Source], place: ImagePlace, tools: Tools) -> Changes:
        existing = resolve_in_root(place.root, self.target)
        wants_directory = self.target.endswith("/") or len(sources) > 1 or os.path.isdir(sources[0].path)
        if wants_directory or os.path.isdir(existing):
            directory, made = make_directories(place.root, self.target)
            changed = [path for source in sources for path in _copy_into(source, directory, place.root, tools)]
        else:
            # A symlink at the target is followed, also to where nothing is yet.
            _, made = make_directories(place.root, os.path.relpath(os.path.dirname(existing), place.root))
            changed = [_copy_file(sources[0].path, existing, place.root, tools)]
        return PathsChanged((*changed, made) if made else tuple(changed))


def _refuse_storage(sources: list[Source], place: ImagePlace) -> None:
    """Raise ContextError if the image itself is inside a source: it would be copied into itself without end."""
    image = os.path.realpath(place.root)
    for source in sources:
        if os.path.commonpath((source.path, image)) == source.path:
            raise ContextError(
                f"can't COPY: the storage directory is inside the source: {source.path}",
                hint="choose another directory with --storage, or name the files to copy",
            )


def _copy_into(source: Source, directory: str, root: str, tools: Tools) -> list[str]:
    """Copy one source into a directory, and return the paths that changed, relative to the root."""
    from chimage_core.fs.copy import copy_tree

    if not os.path.isdir(source.path):
        name = os.path.basename(source.name)
        return [_copy_file(source.path, f"{directory}/{name}", root, tools)]
    names = os.listdir(source.path)
    report = copy_tree(
        source.path,
        directory,
        xattrs=tools.with_xattrs,
        cancel=tools.cancel,
        merge=True,
        skip_devices=False,
        exclude=source.exclusion(),
    )
    warn_left_out(report.refused_xattrs, tools.emit)
    if report.sockets:
        tools.emit(Warned(text=f"COPY: sockets left out of {source.name}: {', '.join(report.skipped)}"))
    return [os.path.relpath(f"{directory}/{name}", root) for name in names]


def _copy_file(source: str, target: str, root: str, tools: Tools) -> str:
    from chimage_core.fs.copy import copy_file

    name = os.path.relpath(target, root)
    if os.path.isdir(target) and not os.path.islink(target):
        raise ContextError(f"can't COPY: a directory of the image is in the way: /{name}")
    remove_tree(target)  # Replaced, never written into: it may share its inode with another name.
    report = copy_file(source, target, xattrs=tools.with_xattrs, cancel=tools.cancel)
    warn_left_out(report.refused_xattrs, tools.emit)
    return name
