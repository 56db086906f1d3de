"""ONBUILD triggers: instructions that a base image brings along, carried out right behind the FROM.

They were parsed when the base was built, but perhaps by another program, so they are parsed again, and nothing of them
is believed. They are not inherited further. Source: Dockerfile reference, "ONBUILD".
"""

import contextlib
from collections.abc import Collection, Iterator

from chimage_core.build.instructions import check
from chimage_core.dockerfile.ast import Arg, From, Instruction, Maintainer, OnBuild
from chimage_core.dockerfile.errors import InstructionProblem, telling_where
from chimage_core.dockerfile.parser import parse_trigger
from chimage_core.errors import Cancelled, ChimageError

_REFUSED = (From, Maintainer, OnBuild)


def read_triggers(sources: Collection[str], base: str, path: str, from_: From) -> list[Instruction]:
    """Return the triggers of a base, as if they stood in the line of the FROM.

    `base` is its name, `path` the Dockerfile's. Raises DockerfileError.
    """
    triggers = []
    for source in sources:
        with telling_where(path, from_), telling_trigger(base, source):
            trigger = parse_trigger(source, path=f"ONBUILD of {base}", place=from_.range)
            if isinstance(trigger, _REFUSED):
                raise InstructionProblem(path, from_.range, f"FROM: {trigger.name} cannot be a trigger")
            check(trigger, path)
        triggers.append(trigger)
    return triggers


def declared_arguments(triggers: Collection[Instruction]) -> set[str]:
    """Return the names that ARGs among triggers declare."""
    return {name for trigger in triggers if isinstance(trigger, Arg) for name, _ in trigger.args}


@contextlib.contextmanager
def telling_trigger(base: str, source: str) -> Iterator[None]:
    """Add to an error that it is a trigger which failed."""
    try:
        yield
    except Cancelled:
        raise
    except ChimageError as error:
        first = source.partition("\n")[0]
        error.message += f"\n  ONBUILD trigger of {base}: {first}"
        raise
