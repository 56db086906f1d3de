"""Events as text on stderr, in the manual's shape.

Everything that comes from outside (Dockerfiles, file names, messages) is made printable here: it cannot steer a
terminal.
"""

from collections.abc import Iterator
from typing import TextIO

from chimage_core.errors import ChimageError
from chimage_core.events import Event, Notice, Warned
from chimage_core.events.build import BuildFinished, BuildStarted, ImageCopied, StageStarted, StepFinished, StepResolved
from chimage_core.events.storage import ImageDeleted, ImageReady, LockAwaited
from chimage_core.text import duration, plural, printable

_LEVELS = {"info": 0, "verbose": 1, "debug": 2}
_MARKS = {"hit": "*", "miss": ".", "none": " "}


class Printer:
    """Prints the events that the verbosity lets through; it is a Sink.

    Verbosity 0 is the default; 1 and more tell more; -1 leaves only warnings and errors, -2 only errors, -3 nothing.
    """

    def __init__(self, stream: TextIO, verbosity: int) -> None:
        self._stream = stream
        self._verbosity = verbosity

    def __call__(self, event: Event) -> None:
        """Print one event, if it has something to say at this verbosity."""
        for level, line in _lines(event):
            if self._verbosity >= level:
                self._print(line)

    def error(self, error: ChimageError) -> None:
        """Print why the command failed, and what to do about it."""
        if self._verbosity >= -2:
            self._print(f"error: {error.message}")
            if error.hint:
                self._print(f"hint: {error.hint}")

    def _print(self, text: str) -> None:
        self._stream.write(printable(text, keep="\n\t") + "\n")
        self._stream.flush()


def _lines(event: Event) -> Iterator[tuple[int, str]]:
    """Yield what to say of an event: lowest verbosity that shows it, text."""
    match event:
        case Notice(level=level, text=text):
            yield _LEVELS[level], text
        case Warned(text=text):
            yield -1, f"warning: {text}"
        case BuildStarted():
            counts = f"{plural(event.instructions, 'instruction')}, {plural(event.stages, 'stage')}"
            yield 1, f"building {event.reference} from {event.dockerfile}: {counts}"
        case StageStarted():
            alias = f" ({event.alias})" if event.alias else ""
            yield 1, f"stage {event.stage}{alias}: {event.reference}"
        case StepResolved():
            yield 0, f"{event.step:3d}{_MARKS[event.outcome]} {event.name} {event.text}"
            if event.state:
                yield 2, f"     state {event.state[:12]}"
        case StepFinished():
            yield 1, f"     step {event.step} took {duration(event.seconds)}"
        case ImageCopied():
            yield 0, "copying image ..."
            yield 1, f"     to {event.reference}"
        case BuildFinished():
            if event.modified_runs:
                yield 0, f"--force={event.force}: modified {event.modified_runs} RUN instructions"
            yield 0, f"grown in {event.instructions} instructions: {event.reference}"
            yield 1, f"     {event.hits} hits, {event.misses} misses, {duration(event.seconds)}"
        case LockAwaited():
            yield 0, f"waiting for {event.lock}, in use by {event.holder} ..."
        case ImageReady():
            yield 1, f"image {event.reference} is at {event.path}"
        case ImageDeleted():
            yield 0, f"deleting image: {event.reference}"
        case _:
            pass
