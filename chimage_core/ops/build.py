"""`build`: an image from a Dockerfile."""

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.build.builder import Counts
from chimage_core.build.force import Forcer
from chimage_core.build.plan import Plan, add_labels, make_plan, stop_at
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

if TYPE_CHECKING:
    from chimage_core.build.offers import Offers

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
    tags: tuple[str, ...]
    """Names of the image, the first one its own; empty: infer it."""
    target: str | None
    """Name or number of the last stage to build; None: all."""
    labels: Mapping[str, str]
    """Labels of the image besides those of the Dockerfile."""
    skips_unused: bool
    """Stages that the last one does not need are left out."""
    architecture: str | None
    """What base images must be for; None: whatever they are."""
    arch: str
    """What registries are asked for where nothing else says it: `host` or `yolo`."""
    pulls: str
    """Which images are pulled: `missing`, `newer` (also those that may be newer in their registries) or `never`."""
    always_download: bool
    """Download also what was downloaded before."""
    build_args: Mapping[str, str]
    passed_in: Mapping[str, str]
    """Variables of the host that builds see."""
    binds: tuple[Bind, ...]
    offers: "Offers | None"
    """What RUN --mount may have of the host; None: nothing."""
    forcer: Forcer
    suggests_force: bool
    """Say which root emulation might help when a RUN fails."""
    is_dry_run: bool
    with_xattrs: bool
    is_filtered: bool
    """`.dockerignore` counts."""
    caches_by_content: bool
    jobs: int
    """How many stages are built side by side, at most."""
    captures_output: bool
    """What commands print is sent as events; else it goes where ours goes."""
    explains_hits: bool
    """Hits are explained, too, not only misses."""
    read_stdin: Callable[[], bytes]


class BuildResult(NamedTuple):
    """What came of it."""

    reference: Reference
    names: tuple[Reference, ...]
    """All names of the image, that one first."""
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
    reference, *others = _tags(request)
    plan = _plan(request, dockerfile, reference)
    for warning in dockerfile.warnings:
        emit(Warned(text=f"{dockerfile.path}:{warning.line}: {warning.text}"))
    emit(
        BuildStarted(
            reference=str(reference),
            dockerfile=dockerfile.path,
            instructions=plan.instruction_count,
            stages=len(plan.stages),
            jobs=min(request.jobs, len(plan.stages)),
        )
    )
    done = Stages(workspace, request, dockerfile, plan).build(others)
    result = BuildResult(
        reference,
        (reference, *others),
        workspace.images.published(reference.file_name).root,
        done.state.hex if done.snapshot else None,
        done.counts,
    )
    if request.is_dry_run:
        emit(Notice(level="info", text="dry run: nothing was executed"))
        return result
    emit(ImageReady(reference=str(reference), path=result.path))
    for other in others:
        emit(Notice(level="info", text=f"another name of it: {other}"))
    emit(
        BuildFinished(
            reference=str(reference),
            instructions=done.instructions,
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


def _tags(request: BuildRequest) -> list[Reference]:
    if request.tags:
        return list(dict.fromkeys(map(Reference.parse, request.tags)))
    from chimage_core.image.naming import infer_tag

    return [infer_tag(_dockerfile_path(request), request.context)]


def _predefined(request: BuildRequest) -> tuple[str, ...]:
    """Return names of arguments that need no ARG."""
    if not request.build_args:
        return ()
    from chimage_core.image.platform import ARGUMENTS

    return (*PASSED_VARIABLES, *ARGUMENTS)


def _plan(request: BuildRequest, dockerfile: Dockerfile, reference: Reference) -> Plan:
    plan = make_plan(dockerfile, reference, request.build_args, _predefined(request))
    if request.target is not None:
        plan = stop_at(plan, request.target, reference)
    return add_labels(plan, request.labels) if request.labels else plan
