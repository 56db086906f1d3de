"""Events as text on stderr, in the manual's shape.

Everything that comes from outside (Dockerfiles, file names, messages) is made printable here: it cannot steer a
terminal.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from chimage_core.text import duration, plural, printable, quoted, size

if TYPE_CHECKING:
    from chimage_core.cli.progress import ProgressLine
    from chimage_core.cli.stage_lines import StageLines
    from chimage_core.errors import ChimageError
    from chimage_core.events import Event, Notice, Warned
    from chimage_core.events.build import BuildFinished, BuildStarted, StageStarted, StepResolved
    from chimage_core.events.check import CheckProgress, Repaired
    from chimage_core.events.collect import CacheCollected, CollectionAdvanced
    from chimage_core.events.explain import HitExplained, MissExplained
    from chimage_core.events.force import CommandModified, FamilyFound, InitStepSkipped, InitStepStarted
    from chimage_core.events.images import ImageDeleted, ImageReady
    from chimage_core.events.locks import LockAwaited
    from chimage_core.events.steps import ImageCopied, StepFinished
    from chimage_core.events.transfer import DocumentRequested, LayerRequested, LayerUnpacking

_LEVELS = {"info": 0, "verbose": 1, "debug": 2}
_WARNING = "warning: "
_SCREEN = 20
"""Lines after which a warning may be out of sight."""
_MARKS = {"hit": "*", "miss": ".", "none": " "}


class Printer:
    """Prints the events that the verbosity lets through; it is a Sink.

    Verbosity 0 is the default; 1 and more tell more; -1 leaves only warnings and errors, -2 only errors, -3 nothing.
    """

    def __init__(self, stream: TextIO, verbosity: int, *, explains: bool = False) -> None:
        """`explains`: show all that is known of why instructions missed, whatever the verbosity."""
        self._stream = stream
        self._verbosity = verbosity
        self._explains = explains
        self._side_by_side: StageLines | None = None
        self._progress: ProgressLine | None = None
        self._lines = 0
        """That have gone by, as far as we know of them."""
        self._warnings: dict[str, int] = {}
        """Where each warning stands among them."""

    def __call__(self, event: "Event") -> None:
        """Print one event, if it has something to say at this verbosity."""
        name = type(event).__name__
        tell = _TEXTS.get(name)
        verbosity = self._verbosity
        if name in _EXPLAINING:  # It takes some work to say it.
            verbosity = 2 if self._explains and verbosity >= 0 else verbosity
            tell = tell if verbosity >= 1 else None
        if name == "StepResolved" and _prints(event):
            self._lines += _SCREEN
        if name == "TransferProgressed" and verbosity >= 0 and self._stream.isatty():
            self._show_progress(event)
        prefix = ""
        if name == "BuildStarted" and getattr(event, "jobs", 1) > 1:
            from chimage_core.cli.stage_lines import StageLines

            self._side_by_side = StageLines()
        elif self._side_by_side is not None:
            for line in self._side_by_side.said(event):  # Whatever the verbosity, as when the terminal shows it.
                self._print(line)
            prefix = self._side_by_side.prefix(event)
        for level, line in tell(event) if tell else ():
            if verbosity < level:
                break
            self._print(prefix + line)
            if name == "Warned":
                self._warnings.setdefault(line.removeprefix(_WARNING), self._lines)

    def end(self) -> None:
        """Repeat the warnings that may have scrolled away. To be called when the command has ended."""
        lost = [text for text, line in self._warnings.items() if self._lines - line >= _SCREEN]
        self._warnings.clear()
        if lost:
            self._print(f"warnings: {len(lost)}")
            for text in lost:
                self._print(f"  {text}")

    def error(self, error: "ChimageError") -> None:
        """Print why the command failed, and what to do about it."""
        for line in self._side_by_side.rest() if self._side_by_side else ():
            self._print(line)
        self.end()
        if self._verbosity >= -2:
            self._print(f"error: {error.message}")
            if error.hint:
                self._print(f"hint: {error.hint}")

    def _show_progress(self, event: Any) -> None:
        if self._progress is None:
            from chimage_core.cli.progress import ProgressLine

            self._progress = ProgressLine(self._stream)
        self._progress.show(event)

    def _print(self, text: str) -> None:
        if self._progress is not None:
            self._progress.clear()
        self._lines += 1
        self._stream.write(printable(text, keep="\n\t") + "\n")
        self._stream.flush()


def _prints(event: "Event") -> bool:
    """Say whether a step runs a command, whose output goes by without us."""
    return getattr(event, "outcome", "") == "miss" and getattr(event, "name", "").startswith(("RUN", "RSYNC"))


_Lines = Iterator[tuple[int, str]]
"""What to say of an event: lowest verbosity that shows it, text. What more verbosity shows comes later."""


def _notice(event: "Notice") -> _Lines:
    yield _LEVELS[event.level], event.text


def _warned(event: "Warned") -> _Lines:
    yield -1, f"{_WARNING}{event.text}"


def _build_started(event: "BuildStarted") -> _Lines:
    counts = f"{plural(event.instructions, 'instruction')}, {plural(event.stages, 'stage')}"
    yield 1, f"building {event.reference} from {event.dockerfile}: {counts}"


def _stage_started(event: "StageStarted") -> _Lines:
    alias = f" ({event.alias})" if event.alias else ""
    yield 1, f"stage {event.stage}{alias}: {event.reference}"


def _step_resolved(event: "StepResolved") -> _Lines:
    yield 0, f"{event.line:3d}{_MARKS[event.outcome]} {event.name} {event.text}"
    if event.state:
        yield 2, f"     state {event.state[:12]}"


def _miss_explained(event: "MissExplained") -> _Lines:
    from chimage_core.cli.render_why import cause_lines

    for number, line in enumerate(cause_lines(event.cause)):
        yield (2 if number else 1), f"     {line if number else f'why: {line}'}"


def _hit_explained(event: "HitExplained") -> _Lines:
    from chimage_core.cli.render_why import hit_line

    yield 0, f"     {hit_line(event.recorded)}"


def _step_finished(event: "StepFinished") -> _Lines:
    yield 1, f"     took {duration(event.seconds)}"


def _image_copied(event: "ImageCopied") -> _Lines:
    yield 0, "copying image ..."
    yield 1, f"     to {event.reference}"


def _family_found(event: "FamilyFound") -> _Lines:
    yield 0, f"--force=fakeroot: will use: {event.tag}: {event.title}"


def _init_step_started(event: "InitStepStarted") -> _Lines:
    yield 0, f"--force=fakeroot: init step {event.number}: {'checking: ' if event.is_check else ''}$ {event.command}"


def _init_step_skipped(event: "InitStepSkipped") -> _Lines:
    yield 0, f"--force=fakeroot: init step {event.number}: exit 0, step not needed"


def _command_modified(event: "CommandModified") -> _Lines:
    yield 0, f"--force={event.force}: RUN: new command: {quoted(event.command)}"


def _build_finished(event: "BuildFinished") -> _Lines:
    if event.modified_runs:
        yield 0, f"--force={event.force}: modified {event.modified_runs} RUN instructions"
    yield 0, f"grown in {event.instructions} instructions: {event.reference}"
    yield 1, f"     {event.hits} hits, {event.misses} misses, {duration(event.seconds)}"


def _lock_awaited(event: "LockAwaited") -> _Lines:
    yield 0, f"waiting for {event.lock}, in use by {event.holder} ..."


def _image_ready(event: "ImageReady") -> _Lines:
    yield 1, f"image {event.reference} is at {event.path}"


def _image_deleted(event: "ImageDeleted") -> _Lines:
    yield 0, f"deleting image: {event.reference}"


def _check_progress(event: "CheckProgress") -> _Lines:
    yield 1, f"verified {size(event.done)} of {size(event.total)}"


def _repaired(event: "Repaired") -> _Lines:
    yield (-1, f"warning: {event.text}") if event.is_loss else (0, event.text)


def _collection_advanced(event: "CollectionAdvanced") -> _Lines:
    yield 1, f"garbage collection: {event.phase} {plural(event.objects, 'object')}, {size(event.size)} ..."


def _cache_collected(event: "CacheCollected") -> _Lines:
    counts = f"{plural(event.states, 'state')}, {plural(event.deletions, 'deleted image')}"
    if event.large_files:
        counts += f", {plural(event.large_files, 'large file')} of {size(event.large_size)}"
    sizes = f"{size(event.size_before)} before, {size(event.size_after)} now"
    yield 0, f"garbage collection: dropped {counts}; {sizes}"
    yield 1, f"     dropped {plural(event.objects, 'object')}, took {duration(event.seconds)}"


def _document_requested(event: "DocumentRequested") -> _Lines:
    yield 0, f"{event.kind}: {_source(event.is_here)}"


def _layer_requested(event: "LayerRequested") -> _Lines:
    yield 0, f"layer {event.layer}/{event.layers}: {_short(event.digest)}: {_source(event.is_here)}"


def _layer_unpacking(event: "LayerUnpacking") -> _Lines:
    yield 0, f"layer {event.layer}/{event.layers}: {_short(event.digest)}: extracting"


def _source(is_here: bool) -> str:
    return "using existing file" if is_here else "downloading"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:7]


_TEXTS: Mapping[str, Callable[[Any], _Lines]] = {
    "Notice": _notice,
    "Warned": _warned,
    "BuildStarted": _build_started,
    "StageStarted": _stage_started,
    "StepResolved": _step_resolved,
    "MissExplained": _miss_explained,
    "HitExplained": _hit_explained,
    "StepFinished": _step_finished,
    "ImageCopied": _image_copied,
    "FamilyFound": _family_found,
    "InitStepStarted": _init_step_started,
    "InitStepSkipped": _init_step_skipped,
    "CommandModified": _command_modified,
    "BuildFinished": _build_finished,
    "LockAwaited": _lock_awaited,
    "ImageReady": _image_ready,
    "ImageDeleted": _image_deleted,
    "CollectionAdvanced": _collection_advanced,
    "CacheCollected": _cache_collected,
    "CheckProgress": _check_progress,
    "Repaired": _repaired,
    "DocumentRequested": _document_requested,
    "LayerRequested": _layer_requested,
    "LayerUnpacking": _layer_unpacking,
}
"""By name of the event's class, as in JSON: the classes themselves are imported only by who emits them. Events that are
not here say nothing."""

_EXPLAINING = ("MissExplained", "HitExplained")
