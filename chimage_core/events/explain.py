"""Why a step hit or missed. Times are seconds since the epoch unless they say otherwise, states are hexadecimal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from chimage_core.events import Event


class Recorded(NamedTuple):
    """A step that was carried out earlier."""

    state: str
    text: str
    """The instruction, as announced, with its name."""
    image: str
    """The image that was being built."""
    step: int
    """Counted as in StepResolved."""
    line: int
    time: int
    """When its result was recorded."""


class Change(NamedTuple):
    """One thing that a step depends on, and that is different now."""

    what: Literal["text", "arguments", "variables", "labels", "remote", "source", "stage", "option", "base"]
    name: str
    """Of the argument, variable, label, URL, source file, option or base image; of the instruction for its text."""
    attribute: str | None
    """Of a source file: `type`, `mode` (octal), `size`, `mtime` (ns), `target` or an extended attribute, None: the
    whole file. Of a base: `state`, `from` or `time`."""
    before: str | int | None
    """None: there was none."""
    after: str | int | None
    """None: there is none any more."""


class Cause(NamedTuple):
    """Why a step missed."""

    kind: Literal["rebuild", "adopted", "upstream", "expired", "base", "changed", "new", "unrecorded"]
    """`rebuild`: rebuild mode. `adopted`: the image was made without the build cache. `upstream`: an instruction before
    it missed. `expired`: it was in the cache and has been removed. `base`: the base image is another one. `changed`:
    see `changes`. `new`: nothing like it was built here. `unrecorded`: what is in the cache has no record of inputs."""
    line: int | None = None
    """Of the instruction that missed first, for `upstream`."""
    time: int | None = None
    """When garbage collection removed it, for `expired`; None: not known."""
    compared: Recorded | None = None
    """What the step was compared with: the nearest one on record."""
    changes: tuple[Change, ...] = ()
    omitted: int = 0
    """Further names that changed."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Cause":
        """Read what `events.plain` made. Raises TypeError, KeyError for anything else."""
        compared = document["compared"]
        return cls(
            **{
                **document,
                "compared": None if compared is None else Recorded(**compared),
                "changes": tuple(Change(**change) for change in document["changes"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MissExplained(Event):
    """We know why an instruction missed. Sent behind its StepResolved, if there is a build cache."""

    step: int
    line: int
    state: str
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class HitExplained(Event):
    """We know where the result of an instruction comes from. Sent behind its StepResolved, only on request."""

    step: int
    line: int
    state: str
    recorded: Recorded | None
    """None: there is no record of it."""
