"""Why a step of a build missed, and what it was made of: found in the records, told by events, put on record."""

from collections.abc import Callable

from chimage_core.build.journal import Journal
from chimage_core.build.step import Step
from chimage_core.cache.explain import Missed, Start, find_cause
from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.inputs_store import InputsStore
from chimage_core.cache.records import StepRow
from chimage_core.cache.state import StateID
from chimage_core.events import Sink
from chimage_core.events.explain import Cause, HitExplained, MissExplained


class Explainer:
    """Explains and records the steps of a build."""

    def __init__(self, records: InputsStore, emit: Sink, clock: Callable[[], float], *, rebuilds: bool) -> None:
        """`clock` tells seconds since the epoch. `rebuilds`: all misses are wanted."""
        self._records = records
        self._emit = emit
        self._clock = clock
        self._rebuilds = rebuilds

    def hit(self, number: int, step: Step, state: StateID) -> None:
        """Tell where the result of a step comes from."""
        row = next(self._records.answers(lambda records: records.step(state)), None)
        recorded = None if row is None else row.recorded
        self._emit(HitExplained(step=number, line=_line(step), state=state.hex, recorded=recorded))

    def miss(self, journal: Journal, number: int, step: Step, parent: StateID) -> Cause:
        """Find out, tell and return why a step missed that starts from the state `parent`."""
        state = parent.child(_inputs(step).key())
        cause = self._why(journal, number, step, parent)
        self._emit(MissExplained(step=number, line=_line(step), state=state.hex, cause=cause))
        return cause

    def record(self, journal: Journal, number: int, step: Step, parent: StateID, cause: Cause | None) -> None:
        """Put a step on record; with the first of a stage also the FROM, if that makes a state of its own."""
        assert journal.start is not None
        assert journal.base_state is not None
        from_number, from_step = journal.start
        if from_step.inputs is not None and _is_first(journal, parent):
            self._add(journal.image, from_number, from_step, journal.base_state, None)
        self._add(journal.image, number, step, parent, cause)

    def _why(self, journal: Journal, number: int, step: Step, parent: StateID) -> Cause:
        if self._rebuilds:
            return Cause("rebuild")
        if journal.first_miss is not None:
            return Cause("upstream", line=journal.first_miss)
        inputs = _inputs(step)
        start = _start(journal) if _is_first(journal, parent) else None
        missed = Missed(journal.image, number, parent, parent.child(inputs.key()), inputs, start)
        causes = list(self._records.answers(lambda records: find_cause(records, missed)))
        telling = [cause for cause in causes if cause.kind not in ("new", "unrecorded")]
        return _through_stage(journal, (telling or causes or [Cause("unrecorded")])[0])

    def _add(self, image: str, number: int, step: Step, parent: StateID, cause: Cause | None) -> None:
        inputs = _inputs(step)
        row = StepRow(
            state=parent.child(inputs.key()),
            parent=parent,
            instruction=inputs.instruction,
            text=inputs.text,
            image=image,
            step=number,
            line=_line(step),
            time=int(self._clock()),
            expired=None,
        )
        self._records.add(row, inputs, cause)


def _line(step: Step) -> int:
    return step.instruction.range.line


def _inputs(step: Step) -> StepInputs:
    assert step.inputs is not None, "only a step with inputs makes a state"
    return step.inputs


def _is_first(journal: Journal, parent: StateID) -> bool:
    """Return whether nothing but FROM is before a step that starts from `parent`."""
    assert journal.start is not None
    assert journal.base_state is not None
    inputs = journal.start[1].inputs
    return parent == (journal.base_state if inputs is None else journal.base_state.child(inputs.key()))


def _start(journal: Journal) -> Start:
    assert journal.start is not None
    assert journal.base_state is not None
    inputs = journal.start[1].inputs
    return Start(journal.base, journal.base_state, {} if inputs is None else inputs.parameters.get("arguments", {}))


def _through_stage(journal: Journal, cause: Cause) -> Cause:
    """Name the step of another stage that missed, if it is all that files from there are different for."""
    if [change.what for change in cause.changes] == ["stage"]:
        state = cause.changes[0].after
        line = journal.missed.get(StateID.from_hex(str(state))) if state is not None else None
        return cause if line is None else cause._replace(kind="upstream", line=line)
    return cause
