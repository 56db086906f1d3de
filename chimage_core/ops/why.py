"""`build-cache --why`: what a state was made of, when, by which image, and why it had to be made.

A state is named by the beginning of its ID, or by image and line, as a build announces its instructions.
"""

import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from chimage_core.build.journal import led_to
from chimage_core.cache.git.lineage import Lineage, lineage, states_beginning_with
from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.records import Origin, Records, StepRow
from chimage_core.cache.state import StateID
from chimage_core.errors import ImageNotFound, NotInCache, UsageError
from chimage_core.events.explain import Cause
from chimage_core.image.reference import Reference
from chimage_core.workspace import Workspace

_FEWEST_DIGITS = 4
_MOST_CANDIDATES = 20


class Why(NamedTuple):
    """What is known of a state."""

    lineage: Lineage
    row: StepRow | None
    """What is on record of the step that made it; None: nothing, or no instruction made it."""
    inputs: StepInputs | None
    cause: Cause | None
    origin: Origin | None
    """The import that gave it."""


def why(workspace: Workspace, selector: str) -> Why:
    """Return what is known of the state that a selector names: `STATE`, or `IMAGE,STEP`.

    Raises UsageError, InvalidReference, ImageNotFound, CacheDisabled; NotInCache if there is no such state any more, or
    more than one.
    """
    state = StateID.from_hex(_by_step(workspace, selector) if "," in selector else _by_digits(workspace, selector))
    found = lineage(workspace.engine, state)
    if found is None:
        raise _gone(workspace, state.hex)
    answers = workspace.inputs.answers(lambda records: _recorded(records, found))
    return next(answers, Why(found, None, None, None, None))


def _recorded(records: Records, found: Lineage) -> Why | None:
    row, origin = records.step(found.state), records.origin(found.state)
    if row is None:
        return None if origin is None else Why(found, None, None, None, origin)
    return Why(found, row, records.inputs(row), records.cause(found.state), origin)


def _by_digits(workspace: Workspace, selector: str) -> str:
    digits = selector.lower()
    if not re.fullmatch(f"[0-9a-f]{{{_FEWEST_DIGITS},64}}", digits):
        raise UsageError(
            f"--why: expected STATE or IMAGE,STEP, not {selector!r}",
            hint=f"STATE: at least the first {_FEWEST_DIGITS} hexadecimal digits of a state ID; "
            "STEP: the number that build prints before the instruction",
        )
    if len(digits) == 64:
        return digits
    found = states_beginning_with(workspace.engine, digits)
    if not found:
        raise _gone(workspace, digits)
    if len(found) > 1:
        more = f"\n  … and {len(found) - _MOST_CANDIDATES} more" if len(found) > _MOST_CANDIDATES else ""
        names = "".join(f"\n  {name}" for name in found[:_MOST_CANDIDATES])
        raise NotInCache(f"not unique, {len(found)} states begin with {digits}:{names}{more}", hint="give more digits")
    return found[0]


def _by_step(workspace: Workspace, selector: str) -> str:
    """Find a step of an image's last build; it may be one of an earlier stage."""
    image, _, number = selector.rpartition(",")
    if not (number.isascii() and number.isdecimal()):
        raise UsageError(f"--why: expected the number of a line behind the comma, not {number!r}")
    reference = Reference.parse(image)
    states = _steps(workspace, reference)
    stage = 0
    while more := _steps(workspace, reference.stage(stage)):
        states = {**more, **states}
        stage += 1
    if int(number) in states:
        return states[int(number)]
    if not states:
        name = reference.file_name
        if workspace.lasting_cache.head(name) is None and not workspace.images.exists(name):
            raise ImageNotFound(f"image not found: {reference}", hint="“list” shows what there is")
        raise NotInCache(
            f"it is not on record how the image was built: {reference}",
            hint="build it again, or name a state: “build-cache --tree -v” shows them",
        )
    lines = ", ".join(map(str, sorted(states)))
    raise NotInCache(f"no state was made by line {number} of {reference}", hint=f"there are these: {lines}")


def _steps(workspace: Workspace, reference: Reference) -> Mapping[int, str]:
    return led_to(workspace.images.published(reference.file_name))


def _gone(workspace: Workspace, digits: str) -> NotInCache:
    """Return the error about a state that is not cached, to be raised; tell if it once was."""
    removed = workspace.inputs.ask(lambda records: records.removed(digits))
    if not removed:
        return NotInCache(f"no such state in the build cache: {digits}", hint="“build-cache --tree -v” shows them")
    row = removed[0]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.expired))
    return NotInCache(
        f"gc removed state {row.state.hex[:12]} from the build cache on {when}: {row.instruction} {row.text}",
        hint=f"a build of {row.image} makes it again",
    )
