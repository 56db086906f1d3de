"""What differs between the inputs of two steps."""

from typing import Any

from chimage_core.cache.inputs import CACHE_BY, REMOTE, StepInputs
from chimage_core.cache.sources import SourceFile, changed_files, is_same_but_touched
from chimage_core.events.explain import Change

BY_NAME = ("arguments", "variables", "labels", REMOTE)
"""Parameters that are values by name."""
_TOLD_BY_TEXT = (
    *("command", "script", "path", "shell", "patterns", "target", "options"),
    *("author", "ports", "signal", "Test", "trigger", "user", "volumes"),
)
_MODIFIED = ("command",)
"""Parameters that root emulation may change."""

Changes = list[tuple[Change, ...]]
"""All that changed, by what has a name of its own; of source files behind the first MOST_CHANGES, nothing but that."""

MOST_CHANGES = 10
"""Names whose changes an explanation lists."""


def compare(before: StepInputs, after: StepInputs) -> Changes:
    """Return what is different: the parameters, then the source files whose copies must differ, then the others."""
    # As they are after a look into the records: there are no tuples in JSON.
    after = StepInputs.from_key(after.text, after.key())
    changed: Changes = []
    told: tuple[str, ...] = BY_NAME
    if before.text != after.text and not _by_name(before, after):
        changed.append((Change("text", after.instruction, None, before.text, after.text),))
        told = (*BY_NAME, *_TOLD_BY_TEXT)
    if before.parameters.get("--force") != after.parameters.get("--force"):
        told = (*told, *_MODIFIED)
    for label in _union(before.parameters, after.parameters):
        old, new = before.parameters.get(label), after.parameters.get(label)
        if label in BY_NAME:
            changed += by_name(label, old or {}, new or {})
        elif old != new and label not in told:
            changed.append((_option(label, old, new),))
    if before.parameters.get(CACHE_BY) != after.parameters.get(CACHE_BY):
        return changed  # The same files are described differently.
    return changed + _sources(before.sources, after.sources)


def by_name(label: Any, before: dict[str, Any], after: dict[str, Any]) -> Changes:
    """Return which values changed; if none did, but their order, say that."""
    changed: Changes = [
        (Change(label, name, None, before.get(name), after.get(name)),)
        for name in _union(before, after)
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]
    if not changed and list(before) != list(after):
        changed.append((Change("text", label, None, " ".join(before), " ".join(after)),))
    return changed


def _by_name(before: StepInputs, after: StepInputs) -> bool:
    """Return whether values say all that the text says."""
    labels = {*before.parameters, *after.parameters}
    return not labels.isdisjoint(BY_NAME) and REMOTE not in labels


def _option(label: str, before: Any, after: Any) -> Change:
    if label == "stage":
        return Change("stage", "", None, before, after)
    return Change("option", label, None, _shown(before), _shown(after))


def _shown(value: Any) -> str | None:
    """Return a parameter as text."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value is None else str(value)


def _union(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return list({**before, **after})


def _sources(before: bytes, after: bytes) -> Changes:
    if before == after:
        return []
    gone, come = changed_files(before, after)
    names = sorted({*gone, *come})
    if not names:
        return [(Change("option", "order of sources", None, None, None),)]
    # Files that were only touched are the least telling: all are, after a fresh checkout.
    names.sort(key=lambda name: _is_only_touched(gone.get(name), come.get(name)))
    told = [_source(name, gone.get(name), come.get(name)) for name in names[:MOST_CHANGES]]
    return told + [()] * (len(names) - len(told))


def _source(name: str, before: SourceFile | None, after: SourceFile | None) -> tuple[Change, ...]:
    old = {} if before is None else before.attributes()
    new = {} if after is None else after.attributes()
    if before is None or after is None or old["type"] != new["type"]:
        return (Change("source", name, None, old.get("type"), new.get("type")),)
    return tuple(
        Change("source", name, attribute, old.get(attribute), new.get(attribute))
        for attribute in _union(old, new)
        if old.get(attribute) != new.get(attribute)
    )


def _is_only_touched(before: SourceFile | None, after: SourceFile | None) -> bool:
    return before is not None and after is not None and is_same_but_touched(before, after)
