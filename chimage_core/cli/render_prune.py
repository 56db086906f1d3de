"""`build-cache --prune` as text and as JSON: what goes, how much room that gives back, what getting it back costs."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from chimage_core.cli.render_du import columns
from chimage_core.text import plural, printable, size

if TYPE_CHECKING:
    from chimage_core.ops.prune import Line, Plan

_LONGEST = 40
"""Characters of an example of what is lost."""
_SHOWN = 3
"""Names of what is gone for good that are shown without -v."""


def plan_lines(plan: "Plan", *, is_done: bool, verbose: bool, now: float) -> Iterator[str]:
    """Yield what goes as a table, and the sum. `verbose`: each thing that goes, too."""
    goal = "" if plan.goal is None else f", to be freed: {size(max(0, plan.goal))}"
    yield f"used: {size(plan.used)}, free: {size(plan.free)}{goal}"
    if plan.lines:
        table = [("WHAT", "", "FREED" if is_done else "FREES", "COST OF LOSING IT")]
        for line in plan.lines:
            table += _rows(line, verbose, now, is_done)
        yield from columns(table, left=(0, 3))
    yield f"{'freed' if is_done else 'would free'}: {size(plan.frees)}{_beside(plan, is_done)}"
    if plan.short:
        yield f"goal is missed by {size(plan.short)}; other kinds or limits may free more"


def plan_document(plan: "Plan", *, is_done: bool) -> dict[str, Any]:
    """Return the same in bytes, to be written as JSON."""
    lines = [
        {
            "kind": line.kind,
            "frees": line.frees,
            "is_estimate": line.is_estimate,
            "items": [
                {"name": item.name, "text": item.text, "used": item.used, "frees": item.size} for item in line.items
            ],
        }
        for line in plan.lines
    ]
    document = {"is_done": is_done, "used": plan.used, "free": plan.free, "goal": plan.goal, "lines": lines}
    return {**document, "frees": plan.frees, "short": plan.short}


def _rows(line: "Line", verbose: bool, now: float, is_done: bool) -> Iterator[tuple[str, str, str, str]]:
    what, noun = _NAMES[line.kind]
    number = "" if not line.items else plural(len(line.items), noun)
    about = "~ " if line.is_estimate and not is_done else ""
    yield what, number, f"{about}{size(line.frees)}", printable(_COSTS[line.kind](line, now)) if line.items else "none"
    if verbose:
        for item in line.items:
            yield f"  {printable(_cut(item.text))}", "", size(item.size), ""


def _beside(plan: "Plan", is_done: bool) -> str:
    """Say what is not in the sum."""
    estimates = [line for line in plan.lines if line.is_estimate]
    if not estimates:
        return ""
    amount = size(sum(line.frees for line in estimates))
    return f", and {amount} by compressing" if is_done else f", and perhaps {amount} by compressing"


def _rebuild(line: "Line", now: float) -> str:
    newest = max(line.items, key=lambda item: item.used)
    return f"build again ({_cut(newest.text)})"


def _gone(line: "Line", now: float) -> str:
    names = [f"{item.text} ({_age(now - item.used)})" for item in line.items[-_SHOWN:]]
    more = len(line.items) - len(names)
    return f"GONE: {', '.join(reversed(names))}" + (f" and {more} more" if more else "")


def _fixed(text: str) -> "Callable[[Line, float], str]":
    return lambda line, now: text


def _age(seconds: float) -> str:
    """Return `6 d ago`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_NAMES: Mapping[str, tuple[str, str]] = {
    "states": ("unreachable states", "state"),
    "large": ("unused large files", "file"),
    "packs": ("packs, compress again", "pack"),
    "downloads": ("downloads", "file"),
    "uploads": ("packed for upload", "file"),
    "mounts": ("caches of RUN --mount", "cache"),
    "unpacked": ("unpacked copies, in cache", "image"),
    "deleted": ("deleted, can be undeleted", "image"),
    "images": ("images", "image"),
}
"""By kind: what is shown, and what its items are."""

_COSTS: "Mapping[str, Callable[[Line, float], str]]" = {
    "states": _rebuild,
    "large": _fixed("none"),
    "packs": _fixed("none (CPU time)"),
    "downloads": _fixed("download again"),
    "uploads": _fixed("compute again on push"),
    "mounts": _fixed("RUN fills them again"),
    "unpacked": _fixed("unpack again, before ch-run: undelete or build"),
    "deleted": _gone,
    "images": _gone,
}
