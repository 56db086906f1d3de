"""The stages of a build, one after the other: the instructions of each, the image that it makes."""

import contextlib
import functools
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.build.builder import Builder, Counts, Site, scratch_state
from chimage_core.build.context import SourceTree
from chimage_core.build.instructions import from_, resolve
from chimage_core.build.journal import Journal
from chimage_core.build.origins import Origin
from chimage_core.build.plan import Plan, Stage
from chimage_core.build.scope import Scope
from chimage_core.build.step import Tools
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.state import StateID
from chimage_core.dockerfile.ast import Cmd, Dockerfile, Instruction
from chimage_core.dockerfile.errors import telling_where
from chimage_core.events import Notice
from chimage_core.events.build import StageStarted
from chimage_core.image.config import ImageConfig
from chimage_core.image.reference import Reference
from chimage_core.ops.bases import Base, Bases, Needed, Wanted, refuse_other
from chimage_core.ops.heads import add_name, unpack
from chimage_core.ops.inputs import inputs_of
from chimage_core.ops.starting import (
    SCRATCH,
    Start,
    check_stages,
    needs_of,
    read_starts,
    refuse_undeclared,
    triggers_of,
)
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.build.explaining import Explainer
    from chimage_core.cache.protocol import Cache
    from chimage_core.ops.build import BuildRequest
    from chimage_core.ops.image_files import ImageFiles


class _Finished(NamedTuple):
    """A finished stage."""

    stage: Stage
    snapshot: Snapshot | None
    """None in a dry run, if a step would have to be carried out."""
    state: StateID
    config: ImageConfig


class Outcome(NamedTuple):
    """What the last stage led to."""

    snapshot: Snapshot | None
    """None in a dry run, if a step would have to be carried out."""
    state: StateID
    counts: Counts
    """Of all stages."""
    instructions: int


class Stages:
    """The stages of one build under way."""

    def __init__(self, workspace: Workspace, request: "BuildRequest", dockerfile: Dockerfile, plan: Plan) -> None:
        self._workspace = workspace
        self._request = request
        self._plan = plan
        wanted = Wanted(request.arch, request.with_xattrs, request.pulls, request.always_download)
        is_dry_run = request.is_dry_run
        self._bases = Bases(workspace, dockerfile.path, request.architecture, None if is_dry_run else wanted)
        self._sources: list[Needed] = []
        """Images that files are taken from, as far as that is known before anything is built."""
        self._finished: dict[int, _Finished] = {}
        """By number."""
        self._missed: dict[StateID, int] = {}
        self._inputs = inputs_of(request, dockerfile, plan, self._image, lambda: workspace.remote)
        self._jobs = 1
        """How many stages are built at a time."""
        self._turn = threading.RLock()
        """Held by the stage that uses what all share: build cache, images, and who finds them."""
        self._stop = workspace.cancel

    def build(self, others: Collection[Reference]) -> Outcome:
        """Build all stages, holding the locks of all names that are written or copied from.

        `others` are further names of the last stage's image.
        """
        starts = read_starts(self._plan, self._inputs, self._workspace.architecture, self._workspace.emit)
        sources = check_stages(self._plan, self._inputs)
        if self._request.skips_unused:
            self._skip_unused(starts)
        self._jobs = 1 if self._request.is_dry_run else min(self._request.jobs, len(self._plan.stages))
        self._sources = [need for stage in self._plan.stages for need in sources[stage.number]]
        if self._request.is_dry_run:
            return self._build_all(starts)
        made = {reference.file_name for reference in (*(stage.reference for stage in self._plan.stages), *others)}
        origins = [(stage.from_, starts[stage.number]) for stage in self._plan.stages]
        needed = [
            Needed(start.image, from_, architecture=start.origin.architecture)
            for from_, start in origins
            if start.image is not None
        ]
        with self._bases.locked(made, [*needed, *self._sources]):
            try:
                for need in self._sources:
                    with telling_where(self._inputs.path, need.instruction):
                        self._files.origin(need.image)
                outcome = self._build_all(starts)
                for other in others:
                    assert outcome.snapshot is not None
                    add_name(self._workspace, other.file_name, outcome.snapshot)
                return outcome
            finally:
                if "_files" in self.__dict__:
                    self._files.close()

    @functools.cached_property
    def _cache(self) -> "Cache":
        return self._workspace.cache

    @functools.cached_property
    def _files(self) -> "ImageFiles":
        from chimage_core.ops.image_files import ImageFiles

        made = [stage.reference.file_name for stage in self._plan.stages]
        locked = [need.image.file_name for need in self._sources]
        is_dry_run = self._request.is_dry_run
        return ImageFiles(self._workspace, self._bases, made=made, locked=locked, is_dry_run=is_dry_run)

    def _build_all(self, starts: Mapping[int, Start]) -> Outcome:
        if self._plan.unconsumed:
            refuse_undeclared(self._plan, starts, self._bases, self._inputs.path)
        if self._jobs > 1:
            counts = self._build_side_by_side(starts)
        else:
            counts = [self._build_stage(stage, starts[stage.number]) for stage in self._plan.stages]
        last = self._finished[self._plan.stages[-1].number]
        return Outcome(last.snapshot, last.state, functools.reduce(Counts.plus, counts), self._plan.instruction_count)

    def _build_side_by_side(self, starts: Mapping[int, Start]) -> Collection[Counts]:
        from chimage_core.ops.side_by_side import build_side_by_side, taking_turns

        stages = {stage.number: stage for stage in self._plan.stages}
        needs = needs_of(self._plan, starts, self._inputs.names, self._bases)
        last = self._plan.stages[-1].number
        needs[last] = stages.keys() - {last}  # No image gets its name if another stage fails.
        self._cache = taking_turns(self._workspace.cache, self._turn)
        with self._workspace.cancel.part() as self._stop:
            return build_side_by_side(
                needs, self._jobs, lambda number: self._build_stage(stages[number], starts[number]), self._stop
            ).values()

    def _skip_unused(self, starts: Mapping[int, Start]) -> None:
        """Leave out the stages that the last one does not need."""
        needs = needs_of(self._plan, starts, self._inputs.names, self._bases)
        wanted = {self._plan.stages[-1].number}
        for stage in reversed(self._plan.stages):
            if stage.number in wanted:
                wanted |= needs[stage.number]
        unused = [stage.alias or str(stage.number) for stage in self._plan.stages if stage.number not in wanted]
        if unused:
            self._workspace.emit(Notice(level="info", text=f"skipping unused stages: {', '.join(unused)}"))
            kept = tuple(stage for stage in self._plan.stages if stage.number in wanted)
            self._plan = self._plan._replace(stages=kept)

    def _build_stage(self, stage: Stage, start: Start) -> Counts:
        workspace, path = self._workspace, self._inputs.path
        workspace.emit(StageStarted(stage=stage.number, alias=stage.alias, reference=str(stage.reference)))
        with telling_where(path, stage.from_), self._turn:
            base = self._base(start)
        triggers = triggers_of(stage, start, base.config, path)
        with Builder(self._site(stage, start), base.snapshot, base.state, base.config) as builder:
            with telling_where(path, stage.from_):
                first = from_.resolve(stage.from_, start.origin, base.config, base_is_stage=start.stage is not None)
                builder.begin(stage.first_step, first, base_is_known=base.is_known)
            sets_cmd = False
            for number, instruction, telling in self._steps(stage, start, triggers, base.config.onbuild):
                with telling_where(path, instruction), telling:
                    self._stop.check()
                    builder.step(
                        number, resolve(instruction, self._scope(builder.config, stage.number, sets_cmd=sets_cmd))
                    )
                sets_cmd = sets_cmd or isinstance(instruction, Cmd)
            snapshot = builder.snapshot
            if not self._request.is_dry_run:
                is_last = stage is self._plan.stages[-1]
                snapshot = builder.finish(unpack=is_last or not workspace.cache.keeps_snapshots)
        self._finished[stage.number] = _Finished(stage, snapshot, builder.state, builder.config)
        return builder.counts

    def _steps(
        self, stage: Stage, start: Start, triggers: Sequence[Instruction], sources: Sequence[str]
    ) -> "Iterator[tuple[int, Instruction, contextlib.AbstractContextManager[None]]]":
        """Yield numbers and instructions of a stage, and what tells more in errors."""
        if triggers:
            from chimage_core.ops.triggers import telling_trigger

            for trigger, source in zip(triggers, sources, strict=True):
                yield stage.first_step, trigger, telling_trigger(start.origin.text, source)
        for number, instruction in enumerate(stage.instructions, start=stage.first_step + 1):
            yield number, instruction, contextlib.nullcontext()

    def _base(self, start: Start) -> Base:
        architecture = start.origin.architecture
        if start.stage is not None:
            done = self._finished[start.stage]
            if architecture is not None:
                refuse_other(done.config.architecture, architecture, start.origin.text)
            return Base(done.snapshot, done.state, done.config)
        if start.image is not None:
            return self._bases.provide(start.image, start.origin.architecture)
        architecture = architecture or self._request.architecture or self._workspace.architecture
        config = ImageConfig(architecture=architecture)
        return Base(None, scratch_state(config.architecture), config)

    def _site(self, stage: Stage, start: Start) -> Site:
        workspace, request = self._workspace, self._request
        return Site(
            name=stage.reference.file_name,
            reference=str(stage.reference),
            stage=stage.number,
            images=workspace.images,
            cache=self._cache,
            tools=self._tools(),
            journal=self._journal(stage, start),
            emit=workspace.emit,
            clock=time.monotonic,
            is_dry_run=request.is_dry_run,
            captures_output=request.captures_output or self._jobs > 1,
            explains_hits=request.explains_hits,
        )

    def _journal(self, stage: Stage, start: Start) -> Journal:
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
            caches=lambda: workspace.cache_mounts,
            offers=request.offers,
            opening=self._cache.opening,
            unshare=self._cache.unshare,
            copier=self._cache.copier,
            cancel=self._stop,
            with_xattrs=request.with_xattrs,
            emit=workspace.emit,
            suggests=request.suggests_force,
        )

    def _scope(self, config: ImageConfig, stage: int, *, sets_cmd: bool) -> Scope:
        stages = {
            number: Origin(done.state, functools.partial(self._stage_tree, done))
            for number, done in tuple(self._finished.items())  # Another stage may finish just now.
        }
        return Scope(inputs=self._inputs, config=config, stages=stages, stage=stage, sets_cmd=sets_cmd)

    def _stage_tree(self, done: _Finished) -> SourceTree:
        """Return the files of a finished stage, unpacked if they are not yet."""
        images, name = self._workspace.images, done.stage.reference.file_name
        assert done.snapshot is not None
        with self._turn:
            unpack(self._workspace, name, done.snapshot)
        label = f"stage {done.stage.alias or done.stage.number}"
        return SourceTree(images.published(name).root, label, is_image=True)

    def _image(self, image: Reference) -> Origin:
        with self._turn:
            origin = self._files.origin(image)
        return origin._replace(tree=functools.partial(self._image_tree, origin))

    def _image_tree(self, origin: Origin) -> SourceTree:
        with self._turn:
            return origin.tree()
