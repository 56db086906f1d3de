"""Which state each instruction of a stage led to, and who is asked to explain and record it.

While everything hits, a journal is but a list, which is left beside the image if it is another one than there was: so
people can name a step as the build announced it. What explains and records is imported at the first miss.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from chimage_core.cache.state import StateID
from chimage_core.events import Notice, Sink
from chimage_core.rootfs.place import ImagePlace

if TYPE_CHECKING:
    from chimage_core.build.explaining import Explainer
    from chimage_core.build.step import Step
    from chimage_core.events.explain import Cause


class Journal:
    """Accompanies the Builder of one stage. Instructions come with their numbers, counted from 1 in the whole file."""

    def __init__(
        self, image: str, base: str, explainer: "Callable[[], Explainer] | None", missed: dict[StateID, int]
    ) -> None:
        """`image`: the reference of what the stage makes, in full; `base`: of what it starts from; `scratch`; empty: an
        earlier stage. `explainer` is None if there is no build cache. `missed`: line of the first miss in each earlier
        stage in which something missed, by the stage's last state; the one of this stage is added."""
        self.image = image
        self.base = base
        self.base_state: StateID | None = None
        self.start: tuple[int, Step] | None = None
        """Number and step of the FROM."""
        self.missed = missed
        self.first_miss: int | None = None
        """Its line."""
        self._cause: Cause | None = None
        self._explainer = explainer
        self._states: dict[int, str] = {}
        """By line."""

    def begin(self, number: int, step: "Step", base: StateID, *, base_is_known: bool) -> None:
        """Take up the FROM."""
        self.base_state, self.start = base, (number, step)
        self._states[step.instruction.range.line] = base.hex
        self.first_miss = self.missed.get(base) if base_is_known else step.instruction.range.line

    def hit(self, number: int, step: "Step", state: StateID, *, explains: bool) -> None:
        """Note a hit, and tell where it comes from, if it `explains`."""
        self._states[step.instruction.range.line] = state.hex
        if explains and self._explainer is not None:
            self._explainer().hit(number, step, state)

    def miss(self, number: int, step: "Step", parent: StateID) -> None:
        """Find out and tell why a step missed that starts from the state `parent`."""
        if self._explainer is not None:
            self._cause = self._explainer().miss(self, number, step, parent)
        if self.first_miss is None:
            self.first_miss = step.instruction.range.line

    def made(self, number: int, step: "Step", parent: StateID, state: StateID) -> None:
        """Put a step on record that missed and was carried out."""
        self._states[step.instruction.range.line] = state.hex
        if self._explainer is not None:
            self._explainer().record(self, number, step, parent, self._cause)

    def end(self, state: StateID) -> None:
        """Say which state the stage ended with."""
        if self.first_miss is not None:
            self.missed[state] = self.first_miss

    def leave(self, place: ImagePlace, emit: Sink, *, is_finished: bool) -> None:
        """Write beside the image what each step led to. Of a stage that was not finished, only if there is anything of
        that image: a build that fails early leaves no trace."""
        if self._explainer is not None and (is_finished or os.path.isdir(place.side)):
            try:
                _write(place, self._states)
            except OSError as error:  # It only serves people who ask.
                emit(Notice(level="verbose", text=f"can’t note the steps of {self.image}: {error}"))


def led_to(place: ImagePlace) -> dict[int, str]:
    """Return the state (hexadecimal) that each instruction led to when the image was last built, by its line."""
    pairs = [line.split(b" ") for line in _read(place).splitlines()]
    return {int(line): state.decode() for line, state in pairs}


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
