"""Events of steps that are carried out: a build in which everything hits has none."""

from dataclasses import dataclass
from typing import Literal

from chimage_core.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished(Event):
    """An instruction that missed was carried out and its result recorded."""

    step: int
    stage: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCopied(Event):
    """An image is being retrieved from the cache into its directory ("copying image")."""

    reference: str
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChunk(Event):
    """A command wrote something. Only sent when its output does not go to the terminal directly."""

    step: int
    stage: int
    stream: Literal["stdout", "stderr"]
    data: bytes
