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
    from chimage_core.cache.explain import Start
    from chimage_core.cache.inputs_store import InputsStore
    from chimage_core.events.explain import Cause


class Where(NamedTuple):
    """Which instruction of the file."""

    step: int
    """Counted from 1 through the whole file."""
    line: int


class LedTo(NamedTuple):
    """What an instruction led to in the last build of an image."""

    line: int
    step: int
    state: str
    """Hexadecimal."""


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
    """Accompanies one stage. `image` is the reference of what it makes."""

    def __init__(self, telling: Telling, image: str) -> None:
        self._telling = telling
        self._image = image
        self._led_to: list[LedTo] = []
        self._first_miss: int | None = None
        self._base: Base | None = None
        self._from: StepInputs | None = None
        self._from_where = Where(0, 0)
        self._cause: Cause | None = None

    def begin(self, where: Where, base: Base, inputs: StepInputs | None) -> None:
        """Take up the FROM; `inputs`: the arguments that it adds."""
        self._base, self._from, self._from_where = base, inputs, where
        self._first_miss = self._telling.missed.get(base.state)
        if not base.is_known:
            self._first_miss = where.line

    def hit(self, where: Where, state: StateID) -> None:
        """Note a hit, and tell where it comes from if somebody wants to know."""
        self._led_to.append(LedTo(where.line, where.step, state.hex))
        telling = self._telling
        if telling.records is not None and telling.explains_hits:
            from chimage_core.events.explain import HitExplained

            row = telling.records().ask(lambda records: records.step(state))
            recorded = None if row is None else row.recorded
            telling.emit(HitExplained(step=where.step, line=where.line, state=state.hex, recorded=recorded))

    def miss(self, where: Where, parent: StateID, inputs: StepInputs) -> None:
        """Find out and tell why a step missed."""
        telling = self._telling
        if telling.records is None:
            return
        from chimage_core.events.explain import MissExplained

        state = parent.child(inputs.key())
        self._cause = self._why(where, parent, inputs, state)
        if self._first_miss is None:
            self._first_miss = where.line
        telling.emit(MissExplained(step=where.step, line=where.line, state=state.hex, cause=self._cause))

    def made(self, where: Where, parent: StateID, inputs: StepInputs) -> None:
        """Put a step on record that missed and was carried out."""
        telling = self._telling
        state = parent.child(inputs.key())
        self._led_to.append(LedTo(where.line, where.step, state.hex))
        if telling.records is None:
            return
        if self._is_first(parent) and self._from is not None and self._base is not None:
            self._record(self._from_where, self._base.state, self._from, None)
        self._record(where, parent, inputs, self._cause)

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

    def _why(self, where: Where, parent: StateID, inputs: StepInputs, state: StateID) -> "Cause":
        from chimage_core.events.explain import Cause

        telling = self._telling
        if telling.rebuilds:
            return Cause("rebuild")
        if self._first_miss is not None:
            return Cause("upstream", line=self._first_miss)
        assert telling.records is not None
        from chimage_core.cache.explain import Missed, find_cause

        start = self._start() if self._is_first(parent) else None
        missed = Missed(self._image, where.step, parent, state, inputs, start)
        cause = telling.records().ask(lambda records: find_cause(records, missed))
        return self._through_stage(cause) if cause is not None else Cause("unrecorded")

    def _through_stage(self, cause: "Cause") -> "Cause":
        """Name the step of another stage that missed, if it is all that files from there are different for."""
        if [change.what for change in cause.changes] == ["stage"]:
            state = cause.changes[0].after
            line = self._telling.missed.get(StateID.from_hex(str(state))) if state is not None else None
            return cause if line is None else cause._replace(kind="upstream", line=line)
        return cause

    def _is_first(self, parent: StateID) -> bool:
        assert self._base is not None
        base = self._base.state
        return parent == (base if self._from is None else base.child(self._from.key()))

    def _start(self) -> "Start":
        from chimage_core.cache.explain import Start

        assert self._base is not None
        arguments = {} if self._from is None else self._from.parameters["arguments"]
        return Start(self._base.reference, self._base.state, arguments)

    def _record(self, where: Where, parent: StateID, inputs: StepInputs, cause: "Cause | None") -> None:
        from chimage_core.cache.records import StepRow

        row = StepRow(
            state=parent.child(inputs.key()),
            parent=parent,
            instruction=inputs.instruction,
            text=inputs.text,
            image=self._image,
            step=where.step,
            line=where.line,
            time=int(self._telling.clock()),
            expired=None,
        )
        assert self._telling.records is not None
        self._telling.records().add(row, inputs, cause)


def led_to(place: ImagePlace) -> tuple[LedTo, ...]:
    """Return what each instruction led to when the image was last built; nothing if it was not built here."""
    lines = [line.split(" ") for line in _read(place).splitlines()]
    return tuple(LedTo(int(line), int(step), state) for line, step, state in lines)


def _write(place: ImagePlace, steps: list[LedTo]) -> None:
    text = "".join(f"{line} {step} {state}\n" for line, step, state in steps)
    if text == _read(place):
        return
    from chimage_core.fs.atomic import write_file

    os.makedirs(place.side, exist_ok=True)
    write_file(_path(place), text.encode("ascii"), sync=False)


def _read(place: ImagePlace) -> str:
    try:
        with open(_path(place), encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _path(place: ImagePlace) -> str:
    return f"{place.side}/steps"
