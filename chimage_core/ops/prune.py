"""`build-cache --prune`: give back disk space, and say before what that costs.

A plan says for each kind of things (see `prune_policy`) what goes and how many bytes that gives back. The sum is exact,
but for compressing packs again, which nobody can know before: that is an estimate beside it. A plan is made of items,
so whoever shows it can leave some out and have the rest planned anew (`plan_of`). Carrying it out goes item by item,
the cheapest first, in an order in which a crash loses nothing that was not to go.
"""

from collections.abc import Sequence
from typing import NamedTuple

from chimage_core.errors import UsageError
from chimage_core.fs.usage import free_space
from chimage_core.ops import prune_policy as policy
from chimage_core.ops.du import total_size
from chimage_core.ops.prune_policy import Item, Limits
from chimage_core.ops.prune_prices import lose, price
from chimage_core.ops.prune_survey import Survey
from chimage_core.workspace import Workspace


class PruneRequest(NamedTuple):
    """What may go."""

    kinds: tuple[str, ...]
    limits: Limits = Limits()
    max_size: int | None = None
    """Bytes: stop when the storage directory takes no more."""
    min_free: int | None = None
    """Bytes: stop when so much of the file system is free."""


class Line(NamedTuple):
    """What goes of one kind."""

    kind: str
    items: tuple[Item, ...]
    frees: int
    """Bytes."""
    is_estimate: bool = False


class Plan(NamedTuple):
    """What goes, in this order."""

    lines: tuple[Line, ...]
    used: int
    """Bytes that the storage directory takes now."""
    free: int
    """Bytes of the file system that are free now."""
    goal: int | None
    """Bytes that were to be given back; None: no such goal."""

    @property
    def frees(self) -> int:
        """Bytes that are given back for sure."""
        return sum(line.frees for line in self.lines if not line.is_estimate)

    @property
    def short(self) -> int:
        """Bytes by which the goal is missed."""
        return max(0, (self.goal or 0) - self.frees)


def make_plan(workspace: Workspace, request: PruneRequest, now: float) -> Plan:
    """Find out what goes. `now`: seconds since the epoch. Changes nothing.

    Raises UsageError, CacheDisabled, FileError, CacheError, Cancelled.
    """
    _refuse_boundless(request)
    workspace.require_cache()
    used, free = total_size(workspace), free_space(workspace.layout.root)
    goal = _goal(request, used, free)
    if goal is not None and goal <= 0:
        return Plan((), used, free, 0)
    survey = Survey(workspace)
    found = [item for kind in request.kinds for item in survey.items(kind)]
    items = policy.chosen(found, request.limits, now)
    plan = Plan(plan_of(workspace, items), used, free, goal)
    return plan if goal is None else _least(workspace, plan, goal)


def plan_of(workspace: Workspace, items: Sequence[Item]) -> tuple[Line, ...]:
    """Return what the loss of these items gives back, by kind; they are in the order in which they are to go.

    Raises FileError, CacheError, Cancelled.
    """
    priced = price(workspace, items)
    return tuple(Line(kind, items, frees, kind == policy.PACKS) for kind, (items, frees) in priced.items())


def carry_out(workspace: Workspace, plan: Plan, processors: int | None = None) -> Plan:
    """Let go what is planned; return the plan with what that really gave back.

    `processors`: so many may be used, at most. The storage directory is locked exclusively, and has been since the plan
    was made. A crash or an error leaves a part of it to be done again. Raises FileError, CacheError, Cancelled.
    """
    lose(workspace, [item for line in plan.lines for item in line.items])
    # Last: what has gone need not be compressed.
    lines = (line._replace(frees=_compress(workspace, processors)) if line.is_estimate else line for line in plan.lines)
    return plan._replace(lines=tuple(lines))


def _compress(workspace: Workspace, processors: int | None) -> int:
    """Compress all packs; return the bytes that this gave back."""
    from chimage_core.cache.git.gc import compress
    from chimage_core.cache.git.graph import disk_use
    from chimage_core.ops.collect import means_of

    engine = workspace.engine
    before = disk_use(engine.repository.path)[1]
    compress(engine, means_of(processors))
    return before - disk_use(engine.repository.path)[1]


def _least(workspace: Workspace, plan: Plan, goal: int) -> Plan:
    """Return a plan of no more of the items than the goal needs."""
    items = [item for line in plan.lines for item in line.items]
    wanted = goal
    while plan.frees > goal:
        fewer = policy.enough(items, wanted)
        smaller = plan._replace(lines=plan_of(workspace, fewer))
        if smaller.frees >= goal or len(fewer) == len(items):
            return smaller
        # Sizes of objects add up to that of a pack but for what is lost at its end; so a little more is needed.
        wanted += goal - smaller.frees
    return plan


def _refuse_boundless(request: PruneRequest) -> None:
    limits = request.limits
    bounds = (limits.older_than, limits.keep_last, request.max_size, request.min_free)
    if policy.IMAGES in request.kinds and all(bound is None for bound in bounds):
        raise UsageError(
            "--prune=images without limit would delete all images",
            hint="say which: --older-than, --keep-last, --max-size or --min-free; or use delete",
        )


def _goal(request: PruneRequest, used: int, free: int) -> int | None:
    goals = []
    if request.max_size is not None:
        goals.append(used - request.max_size)
    if request.min_free is not None:
        goals.append(request.min_free - free)
    return max(goals, default=None)
