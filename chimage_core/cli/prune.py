"""`build-cache --prune`."""

import time
from typing import TYPE_CHECKING

from chimage_core.cli.session import Session, open_reading, open_working, yield_to_others
from chimage_core.errors import UsageError

if TYPE_CHECKING:
    from chimage_core.ops.prune import PruneRequest


def prune(session: Session) -> None:
    """Carry it out, or only tell, and print what goes and what that frees."""
    from chimage_core.cli import render_prune
    from chimage_core.ops import prune as ops

    request, now = _request(session), time.time()
    is_dry_run = session.option("dry_run", False)
    with open_reading(session) if is_dry_run else open_working(session, exclusive=True) as workspace:
        plan = ops.make_plan(workspace, request, now)
        if not is_dry_run:
            yield_to_others()
            plan = ops.carry_out(workspace, plan, session.settings.processors)
    if session.json:
        session.json.result(render_prune.plan_document(plan, is_done=not is_dry_run))
        return
    for line in render_prune.plan_lines(plan, is_done=not is_dry_run, verbose=session.settings.verbosity > 0, now=now):
        session.print(line)


def _request(session: Session) -> "PruneRequest":
    from chimage_core.ops.prune import PruneRequest
    from chimage_core.ops.prune_policy import GONE, KINDS, Limits

    asked = session.option("prune")
    kinds = [kind for kind in KINDS if kind not in GONE] if asked == "default" else asked.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--prune: no such kind: {kind!r}", hint=f"name some of: {', '.join(KINDS)}")
    return PruneRequest(
        kinds=tuple(kind for kind in KINDS if kind in kinds),
        limits=Limits(session.option("older_than"), session.option("keep_last")),
        max_size=session.option("max_size"),
        min_free=session.option("min_free"),
    )
