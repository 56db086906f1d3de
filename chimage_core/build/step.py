"""A step: an instruction with everything substituted, and what it does to a root file system."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chimage_core.build.force import Forcer
from chimage_core.cache.inputs import StepInputs
from chimage_core.cancel import CancelToken
from chimage_core.dockerfile.ast import Instruction
from chimage_core.events import Sink
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs.changes import Changes
from chimage_core.rootfs.place import ImagePlace
from chimage_core.runner.protocol import Bind, OutputChunks, Runner

if TYPE_CHECKING:
    from chimage_core.build.offers import Offers
    from chimage_core.fs.deferred import Delegate
    from chimage_core.storage.cache_mounts import CacheMounts


class Tools(NamedTuple):
    """What effects work with."""

    runner: Callable[[], Runner]
    """Started at the first RUN only, because finding out what works here takes time."""
    can_overlay: Callable[[], bool]
    forcer: Forcer
    binds: tuple[Bind, ...]
    """Of `--bind`; what root emulation needs comes in addition."""
    opening: Callable[[ImagePlace], None]
    """To be called before anything in a root file system is changed in place."""
    unshare: Callable[[ImagePlace], None]
    """To be called before files may be written to that are there already."""
    copier: "Callable[[ImagePlace], Delegate | None]"
    """Gives what copies many files into a root file system as the build cache likes it best."""
    cancel: CancelToken
    with_xattrs: bool
    emit: Sink
    caches: "Callable[[], CacheMounts]"
    """For RUN --mount=type=cache."""
    offers: "Offers | None" = None
    """For RUN --mount=type=secret and ssh; None: nothing."""
    output: OutputChunks | None = None
    """Receives what commands print; None: it goes where ours goes."""
    count_modified: Callable[[], None] = lambda: None
    """To be called for a RUN that root emulation changed because of what is in the image."""
    suggests: bool = True
    """Look for the reason when a command fails, and say which root emulation might help."""


class Effect(Protocol):
    """What a step does to a root file system."""

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Do it, and return where to look for what changed. On an error nobody relies on the content of `place`."""


class Step(NamedTuple):
    """An instruction, understood."""

    instruction: Instruction
    name: str
    """As announced: `RUN.S`, `COPY`, …"""
    text: str
    """As announced, on one line."""
    inputs: StepInputs | None
    """What the state after the step depends on, besides the state before it. None: the step makes no state."""
    config: ImageConfig
    """The configuration after the step."""
    effect: Effect | None = None
    """None: only the configuration changes."""
    is_modified: bool = False
    """Root emulation changed the command because of its text."""
    warnings: tuple[str, ...] = ()
