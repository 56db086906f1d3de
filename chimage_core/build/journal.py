"""What a build tells and leaves about its steps: why each missed, what each was made of, and which state each led to.

One Journal accompanies the Builder of a stage. While everything hits, it only keeps a list; at the end that list is
written beside the image, if it is another one than there was, so that people can name a step as the build announced it.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.state import StateID
from chimage_core.events import Notice, Sink
from chimage_core.rootfs.place import ImagePlace

if TYPE_CHECKING:
    # Imported where something missed or is asked for: an all-hit build must not pay for it.
    from chimage_core.build.step import Step
    from chimage_core.cache.explain import Start
    from chimage_core.cache.inputs_store import InputsStore
    from chimage_core.events.explain import Cause


class Telling(NamedTuple):
    """What is told and recorded in a whole build."""

    records: "Callable[[], InputsStore] | None"
    """None: there is no build cache."""
    emit: Sink
    explains_hits: bool
    rebuilds: bool
    """All misses are wanted."""
    is_dry_run: bool
    missed: dict[StateID, int]
    """Line of the first miss in each stage in which something missed, by the stage's last state."""
    clock: Callable[[], float] = time.time


class Base(NamedTuple):
    """What a stage starts from."""

    reference: str
    """Of the image, in full; `scratch`; empty: an earlier stage."""
    state: StateID
    is_known: bool
    """It was in the cache before."""


class Journal:
    """Accompanies one stage. `image` is the reference of what it makes, in full.

    Instructions come with their numbers, counted from 1 through the whole file.
    """

    def __init__(self, telling: Telling, image: str) -> None:
        self._telling = telling
        self._image = image
        self._led_to: dict[int, str] = {}
        """State by line."""
        self._first_miss: int | None = None
        """Its line."""
        self._begun: tuple[int, Step, Base] | None = None
        self._cause: Cause | None = None

    def begin(self, number: int, step: "Step", base: Base) -> None:
        """Take up the FROM."""
        self._begun = number, step, base
        self._led_to[_line(step)] = base.state.hex
        self._first_miss = self._telling.missed.get(base.state)
        if not base.is_known:
            self._first_miss = _line(step)

    def hit(self, number: int, step: "Step", state: StateID) -> None:
        """Note a hit, and tell where it comes from if somebody wants to know."""
        self._led_to[_line(step)] = state.hex
        telling = self._telling
        if telling.records is not None and telling.explains_hits:
            from chimage_core.events.explain import HitExplained

            row = next(telling.records().answers(lambda records: records.step(state)), None)
            recorded = None if row is None else row.recorded
            telling.emit(HitExplained(step=number, line=_line(step), state=state.hex, recorded=recorded))

    def miss(self, number: int, step: "Step", parent: StateID) -> None:
        """Find out and tell why a step missed that starts from the state `parent`."""
        if self._telling.records is None or step.inputs is None:
            return
        from chimage_core.events.explain import MissExplained

        state = parent.child(step.inputs.key())
        self._cause = self._why(number, step.inputs, parent, state)
        if self._first_miss is None:
            self._first_miss = _line(step)
        event = MissExplained(step=number, line=_line(step), state=state.hex, cause=self._cause)
        self._telling.emit(event)

    def made(self, number: int, step: "Step", parent: StateID) -> None:
        """Put a step on record that missed and was carried out."""
        if self._telling.records is None or step.inputs is None:
            return
        self._led_to[_line(step)] = parent.child(step.inputs.key()).hex
        assert self._begun is not None
        from_number, from_step, base = self._begun
        if from_step.inputs is not None and self._is_first(parent):
            self._record(from_number, from_step, base.state, None)
        self._record(number, step, parent, self._cause)

    def close(self, place: ImagePlace, state: StateID, *, is_finished: bool) -> None:
        """Leave beside the image what each step led to; `state`: the last one. Of a stage that was not finished, only
        if there is anything of that image: a build that fails early leaves no trace."""
        if self._first_miss is not None:
            self._telling.missed[state] = self._first_miss
        if self._telling.records is None or self._telling.is_dry_run:
            return
        if is_finished or os.path.isdir(place.side):
            try:
                _write(place, self._led_to)
            except OSError as error:  # It only serves people who ask.
                self._telling.emit(Notice(level="verbose", text=f"can’t note the steps of {self._image}: {error}"))

    def _why(self, number: int, inputs: StepInputs, parent: StateID, state: StateID) -> "Cause":
        from chimage_core.events.explain import Cause

        telling = self._telling
        if telling.rebuilds:
            return Cause("rebuild")
        if self._first_miss is not None:
            return Cause("upstream", line=self._first_miss)
        assert telling.records is not None
        from chimage_core.cache.explain import Missed, find_cause

        missed = Missed(self._image, number, parent, state, inputs, self._start() if self._is_first(parent) else None)
        causes = list(telling.records().answers(lambda records: find_cause(records, missed)))
        telling_something = [cause for cause in causes if cause.kind not in ("new", "unrecorded")]
        return self._through_stage((telling_something or causes or [Cause("unrecorded")])[0])

    def _through_stage(self, cause: "Cause") -> "Cause":
        """Name the step of another stage that missed, if it is all that files from there are different for."""
        if [change.what for change in cause.changes] == ["stage"]:
            state = cause.changes[0].after
            line = self._telling.missed.get(StateID.from_hex(str(state))) if state is not None else None
            return cause if line is None else cause._replace(kind="upstream", line=line)
        return cause

    def _is_first(self, parent: StateID) -> bool:
        assert self._begun is not None
        _, step, base = self._begun
        return parent == (base.state if step.inputs is None else base.state.child(step.inputs.key()))

    def _start(self) -> "Start":
        from chimage_core.cache.explain import Start

        assert self._begun is not None
        _, step, base = self._begun
        return Start(base.reference, base.state, {} if step.inputs is None else step.inputs.parameters["arguments"])

    def _record(self, number: int, step: "Step", parent: StateID, cause: "Cause | None") -> None:
        from chimage_core.cache.records import StepRow

        assert self._telling.records is not None
        assert step.inputs is not None
        row = StepRow(
            state=parent.child(step.inputs.key()),
            parent=parent,
            instruction=step.inputs.instruction,
            text=step.inputs.text,
            image=self._image,
            step=number,
            line=_line(step),
            time=int(self._telling.clock()),
            expired=None,
        )
        self._telling.records().add(row, step.inputs, cause)


def led_to(place: ImagePlace) -> dict[int, str]:
    """Return the state (hexadecimal) that each instruction led to when the image was last built, by its line."""
    pairs = [line.split(b" ") for line in _read(place).splitlines()]
    return {int(line): state.decode() for line, state in pairs}


def _line(step: "Step") -> int:
    return step.instruction.range.line


def _write(place: ImagePlace, states: dict[int, str]) -> None:
    data = "".join([f"{line} {state}\n" for line, state in states.items()]).encode()
    if data == _read(place):
        return
    from chimage_core.fs.atomic import write_file

    os.makedirs(place.side, exist_ok=True)
    write_file(_path(place), data, sync=False)


def _read(place: ImagePlace) -> bytes:
    try:
        with open(_path(place), "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        return b""


def _path(place: ImagePlace) -> str:
    return f"{place.side}/steps"
