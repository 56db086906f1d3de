"""Why a step missed: its inputs against those of the nearest step on record.

Nearest is a step from the same state; of these, one of the same instruction with the most similar text. A first step
after FROM has older neighbours, too: those on what the base image was before, and those on the same base with other
arguments of FROM.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from chimage_core.cache.changes import MOST_CHANGES, Changes, by_name, compare
from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.records import Records, StepRow
from chimage_core.cache.state import StateID
from chimage_core.events.explain import Cause, Change

_MOST_COMPARED = 16
_MOST_EQUAL = 3
"""Steps of the same text that are compared: what differs least is nearest."""
_LONGEST_COMPARED = 200
"""Words of a text that count for its similarity."""
_MOST_BASES = 4


class Start(NamedTuple):
    """What a stage starts from."""

    reference: str
    """Of the image, in full; `scratch`; empty: an earlier stage."""
    base: StateID
    arguments: dict[str, str]
    """Which FROM adds to those of the base."""

    @property
    def is_scratch(self) -> bool:
        """There is nothing before, and so no record of it."""
        return self.reference == "scratch"


class Missed(NamedTuple):
    """A step that missed, though what it starts from was there."""

    image: str
    step: int
    parent: StateID
    state: StateID
    inputs: StepInputs
    start: Start | None
    """Given for the first step of a stage."""


class _Neighbour(NamedTuple):
    """A step that may tell something."""

    row: StepRow
    base: StateID
    """What its stage started from, if it is a first step."""
    arguments: dict[str, str]


def find_cause(records: Records, missed: Missed) -> Cause:
    """Return why a step missed."""
    known = records.step(missed.state)
    if known is not None:
        return Cause("expired", time=known.expired, compared=known.recorded)
    siblings = [row for row in records.children(missed.parent) if row.instruction != "FROM"]
    cause = None
    if missed.start is not None:
        cause = _first_step(records, missed, missed.start, siblings)
    else:
        cause = _changed(records, missed, siblings) or _since_last_build(records, missed)
    if cause is not None:
        return cause
    if siblings:
        return Cause("new", compared=siblings[0].recorded)
    return Cause("new" if _is_on_record(records, missed) else "unrecorded")


def _first_step(records: Records, missed: Missed, start: Start, siblings: list[StepRow]) -> Cause | None:
    """Look around the base, too: an equal step there says that only the base or the arguments of FROM differ."""
    same_base = [each for each in _steps_on(records, start.base) if each.row.parent != missed.parent]
    # What has the same arguments, too, differs in less.
    other_bases = sorted(
        _on_other_bases(records, missed, start), key=lambda neighbour: neighbour.arguments != start.arguments
    )
    for neighbours in (other_bases, same_base):
        equal = _equal(records, missed.inputs, neighbours)
        if equal is not None:
            return _moved(records, missed, start, equal)
    cause = _changed(records, missed, siblings)
    if cause is not None:
        return cause
    for neighbours in (same_base, other_bases):
        near = _nearest([each.row for each in neighbours], missed.inputs)
        if near:
            return _moved(records, missed, start, next(each for each in neighbours if each.row is near[0]))
    return None


def _steps_on(records: Records, base: StateID) -> list[_Neighbour]:
    """Return the first steps of stages that started from a base, with whatever arguments."""
    found = []
    for row in records.children(base):
        if row.instruction == "FROM":
            arguments = _arguments(records, row)
            found += [_Neighbour(child, base, arguments) for child in records.children(row.state)]
        else:
            found.append(_Neighbour(row, base, {}))
    return found


def _on_other_bases(records: Records, missed: Missed, start: Start) -> Iterable[_Neighbour]:
    """Yield what this step was in the last build of the image, and steps on what the base image was before."""
    last = records.last(missed.image, missed.step)
    before = None if last is None else records.step(last.parent)
    if last is not None and before is not None and before.instruction == "FROM":
        if before.parent != start.base:
            yield _Neighbour(last, before.parent, _arguments(records, before))
    elif last is not None and last.parent != start.base and (before is None or before.image != missed.image):
        # What an instruction of the image itself made is no base: the step was not the first then.
        yield _Neighbour(last, last.parent, {})
    others = [origin for origin in records.origins(start.reference) if origin.state != start.base]
    for origin in others[:_MOST_BASES]:
        yield from _steps_on(records, origin.state)


def _arguments(records: Records, row: StepRow) -> dict[str, str]:
    inputs = records.inputs(row)
    return {} if inputs is None else inputs.parameters.get("arguments", {})


def _equal(records: Records, inputs: StepInputs, neighbours: Iterable[_Neighbour]) -> _Neighbour | None:
    for each in neighbours:
        if each.row.instruction == inputs.instruction and each.row.text == inputs.text:
            recorded = records.inputs(each.row)
            if recorded is not None and recorded.key() == inputs.key():
                return each
    return None


def _moved(records: Records, missed: Missed, start: Start, neighbour: _Neighbour) -> Cause:
    """Compare with a step on another base, or on the same with other arguments."""
    changed = by_name("arguments", neighbour.arguments, start.arguments)
    is_base = neighbour.base != start.base
    if is_base:
        changed.insert(0, _base_changes(records, start, neighbour.base))
    before = records.inputs(neighbour.row)
    if before is not None:
        changed += compare(before, missed.inputs)
    return _cause("base" if is_base else "changed", neighbour.row, changed)


def _base_changes(records: Records, start: Start, before: StateID) -> tuple[Change, ...]:
    changes = [Change("base", start.reference, "state", before.hex, start.base.hex)]
    old, new = records.origin(before), records.origin(start.base)
    if old is not None or new is not None:
        changes.append(
            Change("base", start.reference, "from", old.source if old else None, new.source if new else None)
        )
        changes.append(Change("base", start.reference, "time", old.time if old else None, new.time if new else None))
    return tuple(changes)


def _changed(records: Records, missed: Missed, siblings: list[StepRow]) -> Cause | None:
    found = []
    for row in _nearest(siblings, missed.inputs):
        before = records.inputs(row)
        if before is not None:
            found.append((row, compare(before, missed.inputs)))
    if not found:
        return None
    row, changed = min(found, key=lambda pair: len(pair[1]))
    return _cause("changed", row, changed) if changed else None


def _since_last_build(records: Records, missed: Missed) -> Cause | None:
    """Compare with the same step of the image's last build, which started from another state."""
    last = records.last(missed.image, missed.step)
    return None if last is None else _changed(records, missed, [last])


def _cause(kind: Literal["base", "changed"], row: StepRow, changed: Changes) -> Cause:
    shown = changed[:MOST_CHANGES]
    return Cause(
        kind,
        compared=row.recorded,
        changes=tuple(change for changes in shown for change in changes),
        omitted=len(changed) - len(shown),
    )


def _nearest(rows: list[StepRow], inputs: StepInputs) -> list[StepRow]:
    """Return rows of the same instruction: the newest ones of the same text, else the one of the most similar text."""
    same = [row for row in rows if row.instruction == inputs.instruction]
    equal = [row for row in same if row.text == inputs.text]
    if equal or len(same) < 2:
        return equal[:_MOST_EQUAL] or same
    import difflib

    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(inputs.text.split()[:_LONGEST_COMPARED])

    def similarity(row: StepRow) -> float:
        matcher.set_seq1(row.text.split()[:_LONGEST_COMPARED])
        return matcher.quick_ratio()

    return [max(same[:_MOST_COMPARED], key=similarity)]


def _is_on_record(records: Records, missed: Missed) -> bool:
    """Return whether there are records of how the state was made that the step starts from."""
    if missed.start is not None:
        base = missed.start.base
        return missed.start.is_scratch or records.step(base) is not None or records.origin(base) is not None
    return records.step(missed.parent) is not None
