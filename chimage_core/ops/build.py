"""`build`: an image from a Dockerfile."""

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chimage_core.build.builder import Counts
from chimage_core.build.force import Forcer
from chimage_core.build.plan import make_plan
from chimage_core.dockerfile.ast import Dockerfile
from chimage_core.errors import ContextError, UsageError, file_errors
from chimage_core.events import Notice, Warned
from chimage_core.events.build import BuildFinished, BuildStarted
from chimage_core.events.images import ImageReady
from chimage_core.image.reference import Reference
from chimage_core.ops.stages import Stages
from chimage_core.runner.protocol import Bind
from chimage_core.settings import PASSED_VARIABLES
from chimage_core.workspace import Workspace

STDIN = "-"
"""Dockerfile from standard input; as a context, also: no context."""


class BuildRequest(NamedTuple):
    """What to build, and how."""

    context: str
    """Directory, or `-`."""
    file: str | None
    """Dockerfile, or `-`; None: `Dockerfile` or `Containerfile` in the context; standard input if there is none."""
    contexts: Mapping[str, str]
    """More directories, for `--from`, by name."""
    tag: str | None
    """None: infer it."""
    build_args: Mapping[str, str]
    passed_in: Mapping[str, str]
    """Variables of the host that builds see."""
    binds: tuple[Bind, ...]
    forcer: Forcer
    suggests_force: bool
    """Say which root emulation might help when a RUN fails."""
    is_dry_run: bool
    with_xattrs: bool
    is_filtered: bool
    """`.dockerignore` counts."""
    caches_by_content: bool
    captures_output: bool
    """What commands print is sent as events; else it goes where ours goes."""
    explains_hits: bool
    """Hits are explained, too, not only misses."""
    read_stdin: Callable[[], bytes]


class BuildResult(NamedTuple):
    """What came of it."""

    reference: Reference
    path: str
    """The unpacked image."""
    state: str | None
    """State ID, hexadecimal; None after a dry run."""
    counts: Counts


def read_dockerfile(request: BuildRequest) -> Dockerfile:
    """Read and parse the Dockerfile of a request. Touches no storage directory. Raises DockerfileError, FileError."""
    from chimage_core.dockerfile.parser import parse

    if request.context == STDIN and request.file is not None:
        raise UsageError("--file can’t be used when CONTEXT is “-”", hint="CONTEXT “-” means: Dockerfile from stdin")
    if request.context != STDIN and not os.path.isdir(request.context):
        raise ContextError(f"context is not a directory: {request.context}")
    path = _dockerfile_path(request)
    if path == STDIN:
        return parse(request.read_stdin(), path)
    with file_errors("read Dockerfile", path), open(path, "rb") as file:
        return parse(file.read(), path)


def build(workspace: Workspace, request: BuildRequest, dockerfile: Dockerfile) -> BuildResult:
    """Build an image. Raises ChimageError; the images and the cache are then as they were, but for finished steps."""
    began = time.monotonic()
    emit = workspace.emit
    reference = _tag(request)
    plan = make_plan(dockerfile, reference, request.build_args, set(PASSED_VARIABLES))
    for warning in dockerfile.warnings:
        emit(Warned(text=f"{dockerfile.path}:{warning.line}: {warning.text}"))
    emit(
        BuildStarted(
            reference=str(reference),
            dockerfile=dockerfile.path,
            instructions=plan.instruction_count,
            stages=len(plan.stages),
        )
    )
    done = Stages(workspace, request, dockerfile, plan).build()
    result = BuildResult(
        reference,
        workspace.images.published(reference.file_name).root,
        done.state.hex if done.snapshot else None,
        done.counts,
    )
    if request.is_dry_run:
        emit(Notice(level="info", text="dry run: nothing was executed"))
        return result
    emit(ImageReady(reference=str(reference), path=result.path))
    emit(
        BuildFinished(
            reference=str(reference),
            instructions=plan.instruction_count,
            hits=result.counts.hits,
            misses=result.counts.misses,
            modified_runs=result.counts.modified,
            force=request.forcer.mode,
            seconds=time.monotonic() - began,
        )
    )
    return result


def _dockerfile_path(request: BuildRequest) -> str:
    if request.file is not None:
        return request.file
    if request.context == STDIN:
        return STDIN
    usual, other = (os.path.join(request.context, name) for name in ("Dockerfile", "Containerfile"))
    return other if not os.path.lexists(usual) and os.path.isfile(other) else usual


def _tag(request: BuildRequest) -> Reference:
    if request.tag is not None:
        return Reference.parse(request.tag)
    from chimage_core.image.naming import infer_tag

    return infer_tag(_dockerfile_path(request), request.context)
