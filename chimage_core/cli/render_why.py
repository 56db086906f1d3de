"""Why a step hit or missed, in words."""

import datetime
import itertools
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chimage_core.cache.sources import source_files
from chimage_core.events import plain
from chimage_core.events.explain import Cause, Change, Recorded
from chimage_core.image.reference import Reference
from chimage_core.text import plural, word_diff

if TYPE_CHECKING:
    from chimage_core.cache.inputs import StepInputs
    from chimage_core.ops.why import Why

_DIGITS = 8
"""Of a state ID: enough to name it in a command."""
_LONGEST = 300
"""Characters of a text that are shown."""
_MOST_HINTS = 3
_MOST_FILES = 10
_NAMES = {"arguments": "ARG", "variables": "ENV", "labels": "LABEL"}


def cause_lines(cause: Cause) -> Iterator[str]:
    """Yield the cause of a miss in one line, then what there is to say in addition, indented."""
    yield _summary(cause)
    for (what, name), group in itertools.groupby(cause.changes, key=lambda change: (change.what, change.name)):
        changes = list(group)
        if what == "base":
            yield from _base_lines(name, changes)
        elif what == "source":
            yield f"  {name}: {', '.join(map(_source, changes))}"
        else:
            yield from (f"  {_value(change)}" for change in changes)
    if cause.omitted:
        yield f"  … and {cause.omitted} more"
    yield from _hints(cause.changes)
    if cause.compared is not None and cause.kind != "expired":
        yield f"  compared with {recorded_text(cause.compared)}"


def recorded_text(recorded: Recorded) -> str:
    """Return `state 1a2b3c4d, made 2026-11-21 03:08:00 by line 7 of debian:12`."""
    made = f"made {moment(recorded.time)} by line {recorded.line} of {recorded.image}"
    return f"state {recorded.state[:_DIGITS]}, {made}"


def hit_line(recorded: Recorded | None) -> str:
    """Return since when a step hits, and thanks to whom."""
    if recorded is None:
        return "hit: no record of who made it, and when"
    return f"hit since {moment(recorded.time)}, by {recorded.image} (state {recorded.state[:_DIGITS]})"


def moment(time: float) -> str:
    """Return a time, seconds since the epoch, as local time."""
    try:
        return f"{datetime.datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # Files may have any time; calendars end with the year 9999.
        return f"@{time:.0f}"


def _summary(cause: Cause) -> str:
    if cause.kind == "rebuild":
        return "rebuild mode: all instructions but FROM are carried out again"
    if cause.kind == "upstream":
        return f"it builds on what line {cause.line} makes, which missed"
    if cause.kind == "expired":
        made = "" if cause.compared is None else f"; it was {recorded_text(cause.compared)}"
        when = "was removed from the cache" if cause.time is None else f"was removed by gc on {moment(cause.time)}"
        return f"its result {when}{made}"
    if cause.kind == "base":
        return "what the stage starts from is not the same as before"
    if cause.kind == "unrecorded":
        return "not known: there is no record of what the states before were made of (older build?)"
    if cause.kind == "changed":
        return _summary_of_changes(cause)
    if cause.compared is not None:
        return f"never seen before; what followed here was: {_cut(cause.compared.text)}"
    return "never seen before"


def _summary_of_changes(cause: Cause) -> str:
    kinds = {change.what for change in cause.changes}
    files = {change.name for change in cause.changes if change.what == "source"}
    if kinds == {"source"}:
        changed = f"{plural(len(files) + cause.omitted, 'source file')} changed"
        return f"{changed}: touched, but of the same size" if _are_touched(cause) else changed
    if kinds == {"text"}:
        return "the text of the instruction changed"
    if kinds == {"stage"}:
        return "the stage that it copies from changed"
    if kinds == {"remote"}:
        return "what it fetches changed"
    if kinds <= set(_NAMES) and len(kinds) == 1:
        return f"another value of {_NAMES[kinds.pop()]}"
    return "it is not computed from the same as before"


def _are_touched(cause: Cause) -> bool:
    return all(change.attribute == "mtime" for change in cause.changes)


def _base_lines(name: str, changes: list[Change]) -> Iterator[str]:
    facts = {change.attribute: change for change in changes}
    state = facts["state"]
    yield f"  {f'base image {name}' if name else 'earlier stage'}: {_state(state.before)} -> {_state(state.after)}"
    for label, side in (("before", "before"), ("now", "after")):
        source = getattr(facts["from"], side) if "from" in facts else None
        time = getattr(facts["time"], side) if "time" in facts else None
        if source is not None and time is not None:
            yield f"    {label}: imported {moment(time)} from {source}"


def _source(change: Change) -> str:
    """Return one attribute of a source file before and after."""
    if change.attribute is None:
        if change.before is None:
            return f"new {change.after}"
        return f"{change.before} is gone" if change.after is None else f"{change.before} -> {change.after}"
    if change.attribute == "mtime":
        return f"mtime {_mtime(change.before)} -> {_mtime(change.after)}"
    return f"{change.attribute} {_known(change.before)} -> {_known(change.after)}"


def _mtime(nanoseconds: str | int | None) -> str:
    seconds, rest = divmod(int(nanoseconds or 0), 1_000_000_000)
    return moment(seconds) + (f".{rest:09d}".rstrip("0") if rest else "")


def _value(change: Change) -> str:
    if change.what == "text":
        return f"{change.name} {_cut(word_diff(str(change.before), str(change.after)))}"
    if change.what == "stage":
        return f"it copies from {_copied_from(change.before)} -> {_copied_from(change.after)}"
    if change.what in ("option", "remote"):
        if change.before is None and change.after is None:
            return change.name
        if change.before is None or change.after is None:
            return f"{change.name}: {_known(change.before)} -> {_known(change.after)}"
        return f"{change.name}: {_cut(word_diff(str(change.before), str(change.after)))}"
    return f"{_NAMES[change.what]} {change.name}: {_quoted(change.before)} -> {_quoted(change.after)}"


def _hints(changes: tuple[Change, ...]) -> Iterator[str]:
    """Tell how to hit again where files were only touched, as checking out again or an editor does."""
    attributes: dict[str, list[Change]] = {}
    for change in changes:
        if change.what == "source":
            attributes.setdefault(change.name, []).append(change)
    touched = [found[0] for found in attributes.values() if [change.attribute for change in found] == ["mtime"]]
    if not touched:
        return
    yield "  contents are not compared; if they are the same, this helps (in the context directory):"
    for change in touched[:_MOST_HINTS]:
        seconds, rest = divmod(int(change.before or 0), 1_000_000_000)
        time = f"{seconds}.{rest:09d}" if rest else str(seconds)
        yield f"    touch -d @{time} {shlex.quote(change.name)}"


def _copied_from(state: str | int | None) -> str:
    return "the context" if state is None else f"a stage (state {_state(state)})"


def _state(text: str | int | None) -> str:
    return _known(text if text is None else str(text)[:_DIGITS])


def _known(value: str | int | None) -> str:
    return "none" if value is None else str(value)


def _quoted(value: str | int | None) -> str:
    return "not set" if value is None else f"'{_cut(str(value))}'"


def _cut(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def why_lines(why: "Why", *, verbose: bool) -> Iterator[str]:
    """Yield all that is known of a state; of many source files only some, unless `verbose`."""
    lineage, row, origin = why.lineage, why.row, why.origin
    rows = [("state", lineage.state.hex), ("instruction", _cut(lineage.text)), ("since", moment(lineage.time))]
    if row is not None:
        rows.append(("made by", f"line {row.line} of {row.image}, {moment(row.time)}"))
    if origin is not None:
        rows.append(("imported", f"{moment(origin.time)} from {origin.source}, as {origin.reference}"))
    rows.append(("parent", "none" if lineage.parent is None else lineage.parent.hex))
    rows.append(("in images", ", ".join(_image(name) for name in lineage.images) or "none"))
    for label, value in rows:
        yield f"{label + ':':<13} {value}"
    if why.inputs is not None:
        yield "computed from:"
        yield from _input_lines(why.inputs, verbose)
    elif origin is None:
        yield "computed from: not on record"
    if why.cause is not None:
        yield "why it missed then:"
        yield from (f"  {line}" for line in cause_lines(why.cause))


def why_document(why: "Why") -> dict[str, Any]:
    """Return all that is known of a state, for JSON."""
    lineage, inputs, origin = why.lineage, why.inputs, why.origin
    return {
        "state": lineage.state.hex,
        "instruction": lineage.text,
        "time": lineage.time,
        "parent": None if lineage.parent is None else lineage.parent.hex,
        "images": [_image(name) for name in lineage.images],
        "recorded": None if why.row is None else plain(why.row.recorded),
        "inputs": None if inputs is None else _inputs_document(inputs),
        "origin": None if origin is None else {**origin._asdict(), "state": origin.state.hex},
        "cause": plain(why.cause),
    }


def _inputs_document(inputs: "StepInputs") -> dict[str, Any]:
    files = [{"name": file.name, **file.attributes()} for file in source_files(inputs.sources)]
    return {"instruction": inputs.instruction, "parameters": inputs.parameters, "sources": files}


def _input_lines(inputs: "StepInputs", verbose: bool) -> Iterator[str]:
    for label, value in inputs.parameters.items():
        if isinstance(value, dict):
            yield from (f"  {_NAMES.get(label, label)} {name}: {_quoted(each)}" for name, each in value.items())
        elif value is not None:
            yield f"  {label}: {_cut(' '.join(map(str, value)) if isinstance(value, list) else str(value))}"
    files = source_files(inputs.sources)
    if files:
        yield f"  {plural(len(files), 'source file')}:"
    for file in files if verbose else files[:_MOST_FILES]:
        attributes = file.attributes()
        if "mtime" in attributes:
            attributes["mtime"] = _mtime(attributes["mtime"])
        kind = attributes.pop("type")
        yield f"    {file.name}: {', '.join([str(kind), *(f'{name} {value}' for name, value in attributes.items())])}"
    if not verbose and len(files) > _MOST_FILES:
        yield f"    … and {len(files) - _MOST_FILES} more (-v)"


def _image(name: str) -> str:
    return str(Reference.from_file_name(name))
