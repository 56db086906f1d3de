"""`build`: an image from a Dockerfile."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.build.builder import Builder, Counts, Site, scratch_state
from chimage_core.build.context import SourceTree
from chimage_core.build.force import Forcer
from chimage_core.build.instructions import arg, check, from_, resolve
from chimage_core.build.journal import Journal
from chimage_core.build.plan import Plan, Stage, make_plan
from chimage_core.build.scope import FinishedStage, Inputs, Scope
from chimage_core.build.step import Tools
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.state import StateID
from chimage_core.dockerfile.ast import Dockerfile, Instruction
from chimage_core.errors import (
    Cancelled,
    ChimageError,
    ContextError,
    ImageUnavailable,
    RunFailed,
    UsageError,
    file_errors,
)
from chimage_core.events import Notice, Warned
from chimage_core.events.build import BuildFinished, BuildStarted, StageStarted, StepResolved
from chimage_core.events.images import ImageReady
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.ops.heads import config_of, needs_adoption, needs_settling, needs_unpacking, settle, unpack
from chimage_core.runner.protocol import Bind
from chimage_core.settings import PASSED_VARIABLES
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.build.explaining import Explainer

SCRATCH = "scratch"
"""FROM nothing."""
STDIN = "-"
"""Dockerfile from standard input; as a context, also: no context."""


class BuildRequest(NamedTuple):
    """What to build, and how."""

    context: str
    """Directory, or `-`."""
    file: str | None
    """Dockerfile, or `-`; None: `Dockerfile` in the context, or standard input if there is no context."""
    tag: str | None
    """None: infer it."""
    build_args: Mapping[str, str]
    passed_in: Mapping[str, str]
    """Variables of the host that builds see."""
    binds: tuple[Bind, ...]
    forcer: Forcer
    is_dry_run: bool
    with_xattrs: bool
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
    result = _Build(workspace, request, dockerfile, plan).run()
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
    return STDIN if request.context == STDIN else os.path.join(request.context, "Dockerfile")


def _tag(request: BuildRequest) -> Reference:
    if request.tag is not None:
        return Reference.parse(request.tag)
    from chimage_core.image.naming import infer_tag

    return infer_tag(_dockerfile_path(request), request.context)


class _Start(NamedTuple):
    """What a stage starts from, as far as the Dockerfile says it."""

    origin: from_.Origin
    image: Reference | None
    """None: an earlier stage, or nothing."""
    stage: int | None
    """Number of the earlier stage."""


class _Finished(NamedTuple):
    """A finished stage."""

    stage: Stage
    snapshot: Snapshot | None
    """None in a dry run, if a step would have to be carried out."""
    state: StateID
    config: ImageConfig


class _Build:
    """One build under way."""

    def __init__(self, workspace: Workspace, request: BuildRequest, dockerfile: Dockerfile, plan: Plan) -> None:
        self._workspace = workspace
        self._request = request
        self._plan = plan
        self._finished: list[_Finished] = []
        self._new_bases: set[str] = set()
        """Names of bases that the cache did not know as they are."""
        self._missed: dict[StateID, int] = {}
        context = None
        if request.context != STDIN:
            context = SourceTree(os.path.abspath(request.context), "context", is_image=False)
        self._inputs = Inputs(
            path=dockerfile.path,
            escape=dockerfile.escape,
            build_args=request.build_args,
            # A build argument of such a name replaces the host's value, and needs no ARG.
            passed_in={
                **request.passed_in,
                **{name: value for name, value in request.build_args.items() if name in PASSED_VARIABLES},
            },
            context=context,
            forcer=request.forcer,
            with_xattrs=request.with_xattrs,
        )

    def run(self) -> BuildResult:
        """Build all stages, holding the locks of all names that are written or copied from."""
        args = self._global_args()
        starts = [self._start(stage, args) for stage in self._plan.stages]
        self._check()
        with contextlib.ExitStack() as locks:
            if not self._request.is_dry_run:
                locks.enter_context(self._locked(starts))
            total = Counts()
            for stage, start in zip(self._plan.stages, starts, strict=True):
                total = total.plus(self._build_stage(stage, start))
        last = self._finished[-1]
        place = self._workspace.images.published(last.stage.reference.file_name)
        state = last.state.hex if last.snapshot else None
        return BuildResult(last.stage.reference, place.root, state, total)

    def _global_args(self) -> dict[str, str]:
        """Announce and return the arguments before the first FROM."""
        args: dict[str, str] = {}
        for number, instruction in enumerate(self._plan.global_args, start=1):
            scope = self._scope(self._empty_config(args))
            expander = scope.expander(instruction)
            with self._telling_where(instruction):
                values = arg.values_of(instruction, scope, expander)
            for text in expander.warnings:
                self._workspace.emit(Warned(text=text))
            self._workspace.emit(
                StepResolved(
                    step=number,
                    line=instruction.range.line,
                    stage=0,
                    name="ARG",
                    text=arg.announced(values),
                    outcome="none",
                    state=None,
                )
            )
            args.update((name, value) for name, value in values.items() if value is not None)
        return args

    def _start(self, stage: Stage, args: Mapping[str, str]) -> _Start:
        with self._telling_where(stage.from_):
            origin = from_.origin(stage.from_, self._scope(self._empty_config(args)))
            # The nearest earlier stage of that name wins over an image.
            for earlier in reversed(self._plan.stages[: stage.number]):
                if earlier.alias == origin.text.lower():
                    return _Start(origin, None, earlier.number)
            return _Start(origin, None if origin.text == SCRATCH else Reference.parse(origin.text), None)

    def _check(self) -> None:
        earlier: set[str] = set()
        for stage in self._plan.stages:
            for instruction in stage.instructions:
                with self._telling_where(instruction):
                    check(instruction, self._inputs.path, earlier)
            earlier |= {str(stage.number), stage.alias or ""}

    @contextlib.contextmanager
    def _locked(self, starts: list[_Start]) -> Iterator[None]:
        """Lock what is made, and without cache also the bases, which are copied.

        Bases that the cache does not know as they are, or that are only there, are locked and put right.
        """
        workspace = self._workspace
        write = {stage.reference.file_name for stage in self._plan.stages}
        bases = {start.image.file_name for start in starts if start.image}
        read = () if workspace.cache.keeps_snapshots else bases
        while True:
            held = write | {name for name in bases if needs_settling(workspace, name)}
            with workspace.locks.images(write=held, read=read):
                # Whom we waited for may have made or changed another one.
                if all(name in held for name in bases if needs_settling(workspace, name)):
                    self._settle(starts)
                    yield
                    return

    def _settle(self, starts: list[_Start]) -> None:
        """Put the bases right. From here on they are what the cache says, whatever becomes of their directories."""
        for stage, start in zip(self._plan.stages, starts, strict=True):
            if start.image is not None and needs_settling(self._workspace, start.image.file_name):
                with self._telling_where(stage.from_):
                    if settle(self._workspace, start.image.file_name):
                        self._new_bases.add(start.image.file_name)

    def _build_stage(self, stage: Stage, start: _Start) -> Counts:
        workspace, request = self._workspace, self._request
        workspace.emit(StageStarted(stage=stage.number, alias=stage.alias, reference=str(stage.reference)))
        with self._telling_where(stage.from_):
            base, state, config, is_known = self._base(start)
        site = Site(
            name=stage.reference.file_name,
            reference=str(stage.reference),
            stage=stage.number,
            images=workspace.images,
            cache=workspace.cache,
            tools=self._tools(),
            journal=self._journal(stage, start),
            emit=workspace.emit,
            clock=time.monotonic,
            is_dry_run=request.is_dry_run,
            captures_output=request.captures_output,
            explains_hits=request.explains_hits,
        )
        with Builder(site, base, state, config) as builder:
            with self._telling_where(stage.from_):
                first = from_.resolve(stage.from_, start.origin, config, base_is_stage=start.stage is not None)
                builder.begin(stage.first_step, first, base_is_known=is_known)
            for number, instruction in enumerate(stage.instructions, start=stage.first_step + 1):
                with self._telling_where(instruction):
                    builder.step(number, resolve(instruction, self._scope(builder.config)))
            snapshot = builder.snapshot
            if not request.is_dry_run:
                is_last = stage.number == len(self._plan.stages) - 1
                snapshot = builder.finish(unpack=is_last or not workspace.cache.keeps_snapshots)
        self._finished.append(_Finished(stage, snapshot, builder.state, builder.config))
        return builder.counts

    @contextlib.contextmanager
    def _telling_where(self, instruction: Instruction) -> Iterator[None]:
        """Add the place in the Dockerfile to an error: whoever raises it below does not know it."""
        try:
            yield
        except (Cancelled, RunFailed):  # Nobody's fault; and the one that tells itself, with the whole command.
            raise
        except ChimageError as error:
            error.message += f"\n  {self._inputs.path}:{instruction.range.line}: {instruction.name}"
            raise

    def _base(self, start: _Start) -> tuple[Snapshot | None, StateID, ImageConfig, bool]:
        """Return snapshot, state and configuration that a stage starts from, and whether they were there already."""
        if start.stage is not None:
            done = self._finished[start.stage]
            return done.snapshot, done.state, done.config, True
        if start.image is None:
            return None, scratch_state(self._workspace.architecture), self._empty_config({}), True
        cache, name = self._workspace.cache, start.image.file_name
        told = self._told_base(name) if self._request.is_dry_run else None
        if told is not None:
            return told
        # A site's image is what anybody starts from, but never replaces one of the user's own.
        snapshot = cache.head(name) or cache.shared_head(name)
        if snapshot is None:
            raise ImageUnavailable(
                f"image not found in storage directory: {start.image}",
                hint=f"pulling is not yet available; get the image here with: chimage import PATH {start.image}",
            )
        return snapshot, snapshot.state, cache.config(snapshot), name not in self._new_bases

    def _told_base(self, name: str) -> tuple[None, StateID, ImageConfig, bool] | None:
        """Return what `_base` does, for a dry run that must not do what would make the base one; None for others."""
        if needs_adoption(self._workspace, name):
            # Most likely a state that the cache has not seen yet, so nothing on top of it can hit.
            return None, StateID.root(os.urandom(32)), config_of(self._workspace, name), False
        cache = self._workspace.lasting_cache
        snapshot = cache.head(name) if needs_unpacking(self._workspace, name) else None
        return None if snapshot is None else (None, snapshot.state, cache.config(snapshot), True)

    def _journal(self, stage: Stage, start: _Start) -> Journal:
        base = "" if start.stage is not None else SCRATCH if start.image is None else str(start.image.full)
        explainer = (lambda: self._explainer) if self._workspace.cache.keeps_snapshots else None
        return Journal(str(stage.reference.full), base, explainer, self._missed)

    @functools.cached_property
    def _explainer(self) -> "Explainer":
        from chimage_core.build.explaining import Explainer

        workspace = self._workspace
        return Explainer(workspace.inputs, workspace.emit, time.time, rebuilds=workspace.rebuilds)

    def _tools(self) -> Tools:
        workspace, request = self._workspace, self._request
        return Tools(
            runner=workspace.runners.runner,
            can_overlay=workspace.runners.can_overlay,
            forcer=request.forcer,
            binds=request.binds,
            opening=workspace.cache.opening,
            unshare=workspace.cache.unshare,
            cancel=workspace.cancel,
            with_xattrs=request.with_xattrs,
            emit=workspace.emit,
        )

    def _scope(self, config: ImageConfig) -> Scope:
        stages = {}
        for done in self._finished:
            finished = FinishedStage(done.state, functools.partial(self._stage_tree, done))
            stages[str(done.stage.number)] = finished
            if done.stage.alias:
                stages[done.stage.alias] = finished
        return Scope(inputs=self._inputs, config=config, stages=stages)

    def _stage_tree(self, done: _Finished) -> SourceTree:
        """Return the files of a finished stage, unpacked if they are not yet."""
        images, name = self._workspace.images, done.stage.reference.file_name
        assert done.snapshot is not None
        unpack(self._workspace, name, done.snapshot)
        label = f"stage {done.stage.alias or done.stage.number}"
        return SourceTree(images.published(name).root, label, is_image=True)

    def _empty_config(self, args: Mapping[str, str]) -> ImageConfig:
        return ImageConfig(architecture=self._workspace.architecture, args=args)
