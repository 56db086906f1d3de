"""What `--from=NAME` of COPY and of mounts means: an earlier stage, a directory of `--build-context`, or an image.

In this order: number of a stage, name of a stage (any case), name of a build context, image reference. The last is what
Docker does, and ch-image does not.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.build.context import SourceTree
from chimage_core.cache.state import StateID
from chimage_core.errors import StageError

if TYPE_CHECKING:
    from chimage_core.image.reference import Reference


class Origin(NamedTuple):
    """Files to copy from, or to mount."""

    state: StateID | None
    """Stands for all of them; None: a directory of the host, whose files count one by one."""
    tree: Callable[[], SourceTree]
    """Unpacks them if they are not there yet."""
    is_image: bool = False
    """Neither a stage nor a directory."""


class Names(NamedTuple):
    """The names that `--from` may use in a Dockerfile."""

    stages: tuple[str | None, ...]
    """Name of each stage, in lower case, by number."""
    contexts: Mapping[str, SourceTree]
    """Build contexts by name, in lower case."""

    def meaning(self, name: str, stage: int) -> "int | SourceTree | Reference":
        """Return the number of an earlier stage, a directory, or an image, for an instruction in a stage.

        Raises StageError for this or a later stage, InvalidReference.
        """
        lowered = name.lower()
        if name.isascii() and name.isdecimal():
            return self._earlier(name, int(name), stage)
        numbers = [number for number, alias in enumerate(self.stages) if alias == lowered]
        earlier = [number for number in numbers if number < stage]
        if earlier:
            return earlier[-1]
        if lowered in self.contexts:
            return self.contexts[lowered]
        if numbers:
            return self._earlier(name, numbers[0], stage)
        from chimage_core.image.reference import Reference

        return Reference.parse(name)

    def _earlier(self, name: str, number: int, stage: int) -> int:
        if number < stage:
            return number
        if number >= len(self.stages):
            problem = "no such stage"
        elif number == stage:
            problem = "the stage that this instruction is in"
        else:
            problem = "a later stage"
        raise StageError(
            f"--from={name}: {problem}", hint="only earlier stages can be taken from, by number (from 0) or by name"
        )
