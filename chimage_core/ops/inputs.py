"""What stays the same during a build: arguments, contexts, and what `--from` and platforms mean."""

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from chimage_core.build.context import SourceTree, open_context
from chimage_core.build.origins import Names, Origin
from chimage_core.build.plan import Plan
from chimage_core.build.scope import Inputs
from chimage_core.dockerfile.ast import Dockerfile
from chimage_core.image.reference import Reference
from chimage_core.settings import PASSED_VARIABLES

if TYPE_CHECKING:
    from chimage_core.build.remote import Remote
    from chimage_core.ops.build import BuildRequest


def inputs_of(
    request: "BuildRequest",
    dockerfile: Dockerfile,
    plan: Plan,
    image_files: Callable[[Reference], Origin],
    remote: "Callable[[], Remote]",
) -> Inputs:
    """Return what a request says for all instructions. Opens the contexts. Raises ContextError, FileError."""
    context, contexts = open_contexts(request, dockerfile)
    return Inputs(
        path=dockerfile.path,
        escape=dockerfile.escape,
        build_args=request.build_args,
        # A build argument of such a name replaces the host's value, and needs no ARG.
        passed_in={
            **request.passed_in,
            **{name: value for name, value in request.build_args.items() if name in PASSED_VARIABLES},
        },
        context=context,
        names=Names(tuple(stage.alias for stage in plan.stages), contexts),
        image_files=image_files,
        remote=remote,
        forcer=request.forcer,
        with_xattrs=request.with_xattrs,
        by_content=request.caches_by_content,
        platform_args=functools.partial(_platform_args, request),
    )


def open_contexts(request: "BuildRequest", dockerfile: Dockerfile) -> tuple[SourceTree | None, dict[str, SourceTree]]:
    """Open the context, None if there is none, and the directories of `--build-context` by their names in lower case.

    Raises ContextError, FileError.
    """
    is_filtered = request.is_filtered
    context = None
    if request.context != "-":
        path = None if dockerfile.path == "-" else dockerfile.path
        context = open_context(request.context, path, is_filtered=is_filtered)
    return context, {
        name.lower(): open_context(path, None, label=f"context {name}", is_filtered=is_filtered)
        for name, path in request.contexts.items()
    }


def _platform_args(request: "BuildRequest") -> dict[str, str]:
    from chimage_core.image import platform
    from chimage_core.image.architecture import host_architecture

    host = host_architecture(os.uname().machine)
    given = {name: value for name, value in request.build_args.items() if name in platform.ARGUMENTS}
    return {**platform.arguments(request.architecture or host, host), **given}
