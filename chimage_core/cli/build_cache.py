"""`build-cache`: its operations in the order in which they happen (manual, "build-cache"), then a summary.

Each operation opens the storage directory as it needs it: who only looks takes no lock.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chimage_core.cli.session import Session, open_reading, open_working, yield_to_others
from chimage_core.errors import EXIT_OK, UsageError
from chimage_core.text import printable

if TYPE_CHECKING:
    from chimage_core.ops.build_cache import CacheDetails
    from chimage_core.ops.check import CheckReport
    from chimage_core.ops.collect import CollectRequest

Operation = Callable[[Session], bool]
"""Carries out one option; returns whether the summary still follows."""


def build_cache(session: Session) -> int:
    """Carry out what was asked for, in this order, and print the summary."""
    _refuse_lonely_options(session)
    wants_summary = True
    for option, operation in _OPERATIONS.items():
        if session.option(option):
            wants_summary = operation(session) and wants_summary
    if wants_summary:
        _summary(session)
    return EXIT_OK


def _refuse_lonely_options(session: Session) -> None:
    """Refuse options that only say how to do what was not asked for."""
    if session.option("keep_deleted") is not None and not session.option("gc"):
        raise UsageError("--keep-deleted says what --gc keeps, but there is no --gc")
    if session.option("prune") is None:
        for option in ("dry_run", "older_than", "keep_last", "max_size", "min_free"):
            if session.option(option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} says how to prune, but there is no --prune")


def _check(session: Session) -> bool:
    from chimage_core.cli import render_check
    from chimage_core.errors import CacheBroken
    from chimage_core.ops.check import check

    with open_reading(session) as workspace:
        report = check(workspace)
    _report(session, report)
    if report.problems:
        raise CacheBroken(f"{render_check.problems(report)} in the build cache", hint="mend it: build-cache --repair")
    return False


def _repair(session: Session) -> bool:
    from chimage_core.cli import render_check
    from chimage_core.errors import CacheBroken
    from chimage_core.ops.repair import repair_cache

    with open_working(session, exclusive=True) as workspace:
        report = repair_cache(workspace)
    _report(session, report)
    if report.problems:
        raise CacheBroken(
            f"{render_check.problems(report)} left in the build cache",
            hint="images stay with build-cache --reset, which deletes the cache",
        )
    return False


def _report(session: Session, report: "CheckReport") -> None:
    from chimage_core.cli import render_check

    if session.json:
        session.json.result(render_check.check_document(report))
    else:
        for line in render_check.check_lines(report):
            session.print(line)


def _dot(session: Session) -> bool:
    from chimage_core.ops.draw import draw

    with open_reading(session) as workspace:
        draw(workspace, ".")
    return True


def _gc(session: Session) -> bool:
    from chimage_core.ops.collect import collect_garbage

    yield_to_others()
    with open_working(session, exclusive=True) as workspace:
        collect_garbage(workspace, _collect_request(session))
    return True


def _collect_request(session: Session) -> "CollectRequest":
    from chimage_core.ops.collect import CollectRequest

    return CollectRequest(session.settings.keep_deleted, session.settings.processors)


def _prune(session: Session) -> bool:
    from chimage_core.cli.prune import prune

    prune(session)
    return False


def _reset(session: Session) -> bool:
    from chimage_core.ops import build_cache as ops

    with open_working(session, exclusive=True) as workspace:
        ops.reset_cache(workspace)
    return True


def _tree(session: Session) -> bool:
    from chimage_core.cli.render_tree import tree_lines
    from chimage_core.ops import build_cache as ops

    with open_reading(session) as workspace:
        graph = ops.graph(workspace)
    if session.json:
        session.json.result({"nodes": [{**node._asdict(), "state": node.state.hex} for node in graph.nodes]})
        return False
    for line in tree_lines(graph, verbose=session.settings.verbosity > 0):
        session.print(line)
    session.print("")
    return True


def _disk_use(session: Session) -> bool:
    from chimage_core.cli import render_du
    from chimage_core.ops.du import disk_use

    with open_reading(session) as workspace:
        use = disk_use(workspace)
    if session.json:
        session.json.result(render_du.du_document(use))
    else:
        for line in render_du.du_lines(use):
            session.print(line)
    return False


def _why(session: Session) -> bool:
    from chimage_core.cli import render_why
    from chimage_core.ops.why import why

    with open_reading(session) as workspace:
        found = why(workspace, session.option("why"))
    if session.json:
        session.json.result(render_why.why_document(found))
    else:
        for line in render_why.why_lines(found, verbose=session.settings.verbosity > 0):
            session.print(printable(line))
    return False


def _summary(session: Session) -> None:
    from chimage_core.cli import render
    from chimage_core.ops import build_cache as ops

    with open_reading(session) as workspace:
        summary = ops.summary(workspace)
        details = ops.details(workspace, _collect_request(session)) if session.settings.verbosity > 0 else None
    if session.json:
        session.json.result({**summary._asdict(), **(_details_document(details) if details else {})})
        return
    for line in render.summary_lines(summary):
        session.print(line)
    if details:
        session.print("")
        for line in render.details_lines(details):
            session.print(line)


def _details_document(details: "CacheDetails") -> dict[str, Any]:
    return {**details._asdict(), "statistics": details.statistics._asdict()}


_OPERATIONS: dict[str, Operation] = {
    "dot": _dot,
    "gc": _gc,
    "prune": _prune,
    "check": _check,
    "repair": _repair,
    "reset": _reset,
    "tree": _tree,
    "du": _disk_use,
    "why": _why,
}
"""By option, in the order in which they happen."""
