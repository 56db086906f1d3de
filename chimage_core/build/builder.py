"""The loop: look up, restore, apply, commit.

One Builder makes the image of one stage. While instructions hit, nothing but state IDs moves. At the first miss the
snapshot before it is restored into the work place, and from then on the work place is what the next instruction sees.
What is in the image's own place is always whole. From the first miss until the stage is finished, its last version may
be away at the work place, because changing that is cheaper than making all anew; a stage that fails puts it back.
"""

import os
from collections.abc import Callable
from typing import Literal, NamedTuple

from chimage_core.build.journal import Journal
from chimage_core.build.step import Step, Tools
from chimage_core.cache.protocol import Cache, Snapshot, StepRecord
from chimage_core.cache.state import StateID
from chimage_core.errors import ChimageError
from chimage_core.events import Sink, Warned
from chimage_core.events.build import StepResolved
from chimage_core.fs.remove import remove_tree
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs.changes import AnythingChanged, PathsChanged
from chimage_core.runner.protocol import OutputChunks
from chimage_core.storage.images import Images


def scratch_state(architecture: str) -> StateID:
    """Return the state of an image without files but those that every image has.

    One storage directory may serve hosts of several architectures, and what RUN makes of it is not the same there.
    """
    return StateID.root(b"scratch\0" + architecture.encode())


class Counts(NamedTuple):
    """What became of the instructions."""

    hits: int = 0
    misses: int = 0
    modified: int = 0
    """RUNs changed by root emulation."""

    def plus(self, other: "Counts") -> "Counts":
        """Return both together."""
        return Counts(self.hits + other.hits, self.misses + other.misses, self.modified + other.modified)


class Site(NamedTuple):
    """Where a stage is built and what with."""

    name: str
    """The stage's image name in file form."""
    reference: str
    stage: int
    images: Images
    cache: Cache
    tools: Tools
    journal: Journal
    emit: Sink
    clock: Callable[[], float]
    """Seconds, monotonic."""
    is_dry_run: bool
    """Look up and announce, but carry nothing out."""
    captures_output: bool
    """Send what commands print as events."""
    explains_hits: bool


class Builder:
    """Makes one stage's image. Use as a context manager: leaving it by an error leaves the image as it was before."""

    def __init__(self, site: Site, base: Snapshot | None, state: StateID, config: ImageConfig) -> None:
        """Start from `base`, whose state and configuration are given; None: from nothing (or it is a dry run)."""
        self._site = site
        self._place = site.images.workplace(site.name)
        self._snapshot = base
        self._state = state
        self._is_current = False
        self._previous: Snapshot | None = None
        self._base_config = config
        self._begun: tuple[int, Step, StateID] | None = None
        """Number, step and base of the FROM, as long as nothing but that makes the state."""
        self.config = config
        self.counts = Counts()

    @property
    def snapshot(self) -> Snapshot | None:
        """What the last step made; None before the first step of an image from nothing, and in a dry run."""
        return self._snapshot

    @property
    def state(self) -> StateID:
        """The state after the last step."""
        return self._state

    def __enter__(self) -> "Builder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        site = self._site
        site.journal.end(self._state)
        if not site.is_dry_run:
            site.journal.leave(self._place, site.emit, is_finished=error is None)
        if error is None or not self._is_current:
            return
        try:
            with self._site.tools.cancel.shielded():
                self._undo()
        except ChimageError as problem:
            # What went wrong first is what people have to know; the next command tries again to undo it.
            self._site.emit(Warned(text=f"can’t put back the image as it was: {self._site.reference}: {problem}"))

    def begin(self, number: int, step: Step, *, base_is_known: bool) -> None:
        """Take up the FROM. Its inputs, if any, tell the states of this stage from those of other arguments."""
        base = self._state
        if step.inputs is not None:
            self._state = base.child(step.inputs.key())
            self._begun = number, step, base
        self.config = step.config
        self._announce(number, step, "hit" if base_is_known else "miss")
        self._site.journal.begin(number, step, base, base_is_known=base_is_known)

    def step(self, number: int, step: Step) -> None:
        """Look one step up, or carry it out. A step without inputs is only announced."""
        site, parent = self._site, self._state
        self.config = step.config
        if step.inputs is None:
            self._announce(number, step, "none")
            return
        self._state = parent.child(step.inputs.key())
        self._begun = None
        hit = None if self._is_current else site.cache.find(self._state)
        self._announce(number, step, "hit" if hit else "miss")
        counted = Counts(hits=int(hit is not None), misses=int(hit is None), modified=int(step.is_modified))
        self.counts = self.counts.plus(counted)
        if hit is not None:
            self._snapshot = hit
            site.journal.hit(number, step, hit.state, explains=site.explains_hits)
            return
        site.journal.miss(number, step, parent)
        if not site.is_dry_run:
            self._carry_out(number, step)
            site.journal.made(number, step, parent, self._state)

    def finish(self, *, unpack: bool) -> Snapshot:
        """Give the image its name and return its snapshot. Only with `unpack` its directory is there in any case."""
        site = self._site
        if self._snapshot is None:
            self._make_current()
        if self._begun is not None:
            self._record_from(*self._begun)
        snapshot = self._snapshot
        assert snapshot is not None
        # A directory that is there must hold what its name promises, also if nobody asked for it.
        if (unpack or site.images.exists(site.name)) and not self._is_current and self._published() != snapshot:
            self._make_current()
        # The head first: should we die between the two, the next command completes what the head promises.
        site.cache.publish(site.name, snapshot)
        if self._is_current:
            site.images.publish(site.name)
            self._is_current = False
        return snapshot

    def _record_from(self, number: int, step: Step, base: StateID) -> None:
        """Make a snapshot of what FROM alone makes of its base: the same files, other arguments, no triggers."""
        hit = None if self._is_current else self._site.cache.find(self._state)
        if hit is not None:
            self._snapshot = hit
            return
        self._carry_out(number, step)
        self._site.journal.made(number, step, base, self._state)

    def _announce(self, number: int, step: Step, outcome: Literal["hit", "miss", "none"]) -> None:
        for text in step.warnings:
            self._site.emit(Warned(text=text))
        self._site.emit(
            StepResolved(
                step=number,
                line=step.instruction.range.line,
                stage=self._site.stage,
                name=step.name,
                text=step.text,
                outcome=outcome,
                state=self._state.hex if outcome != "none" else None,
            )
        )

    def _carry_out(self, number: int, step: Step) -> None:
        from chimage_core.events.steps import StepFinished

        site = self._site
        began = site.clock()
        tools = site.tools._replace(count_modified=self._count_modified)
        if site.captures_output:
            tools = tools._replace(output=self._output(number))
        tools.cancel.check()
        if not self._is_current:
            self._make_current()
        changes = step.effect.apply(self._place, tools) if step.effect else PathsChanged(())
        record = StepRecord(
            parent=self._snapshot,
            state=self._state,
            text=f"{step.name} {step.text}",
            config=step.config,
            changes=changes,
        )
        self._snapshot = site.cache.commit(self._place, record)
        site.emit(StepFinished(step=number, stage=site.stage, seconds=site.clock() - began))

    def _count_modified(self) -> None:
        self.counts = self.counts.plus(Counts(modified=1))

    def _output(self, number: int) -> OutputChunks:
        from chimage_core.events.steps import OutputChunk

        def send(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            self._site.emit(OutputChunk(step=number, stage=self._site.stage, stream=stream, data=data))

        return send

    def _published(self) -> Snapshot | None:
        return self._site.cache.held(self._site.images.published(self._site.name))

    def _make_current(self) -> None:
        """Bring the work place to the present snapshot, from what is nearest."""
        cache, images, name = self._site.cache, self._site.images, self._site.name
        remove_tree(self._place.failed)  # First: it may be what has filled the disk.
        previous = cache.known(images.published(name))
        # Only what differs has to be changed if the present image becomes the new one.
        if cache.held(self._place) is None and previous is not None and images.take(name):
            self._previous = previous
        self._is_current = True
        if self._snapshot is None:
            self._snapshot = self._from_nothing()
        elif cache.held(self._place) != self._snapshot:
            from chimage_core.events.steps import ImageCopied

            self._site.emit(ImageCopied(reference=self._site.reference, stage=self._site.stage))
            cache.restore(self._snapshot, self._place)

    def _from_nothing(self) -> Snapshot:
        from chimage_core.rootfs import skeleton

        cache, place = self._site.cache, self._place
        state = scratch_state(self._base_config.architecture)
        known = cache.find(state)
        if known is not None:
            cache.restore(known, place)
            return known
        self._site.images.discard_work(place.name)
        os.mkdir(place.root)
        os.chmod(place.root, 0o755)
        skeleton.ensure(place.root)
        record = StepRecord(
            parent=None, state=state, text="FROM scratch", config=self._base_config, changes=AnythingChanged()
        )
        return cache.commit(place, record)

    def _undo(self) -> None:
        cache, images, name = self._site.cache, self._site.images, self._site.name
        if self._previous is not None:
            cache.restore(self._previous, self._place)
            images.publish(name)
        elif cache.held(self._place) is None:
            images.discard_work(name)
        # Else the work place holds the last good step: it stays, hidden, and the next try goes on from there at once.
