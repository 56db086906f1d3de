"""Lines of stages that are built side by side: each tells whose it is, and no command’s line is torn apart."""

import re

from chimage_core.events import Event
from chimage_core.events.build import StageStarted
from chimage_core.events.steps import OutputChunk, StepFinished

_LONGEST = 1 << 16
"""Bytes that are held back for the end of their line."""


class StageLines:
    """What is known of the stages of one build."""

    def __init__(self) -> None:
        self._labels: dict[int, str] = {}
        self._stages: dict[int, int] = {}
        """By number of the step."""
        self._begun: dict[tuple[int, str], bytes] = {}
        """Lines without an end, by stage and stream."""

    def prefix(self, event: Event) -> str:
        """Return what goes before each line of an event."""
        step = getattr(event, "step", None)
        stage = getattr(event, "stage", self._stages.get(step) if step is not None else None)
        if stage is None:
            return ""
        if step is not None:
            self._stages[step] = stage
        if isinstance(event, StageStarted):
            self._labels[stage] = event.alias or str(stage)
        return self._prefix(stage)

    def said(self, event: Event) -> list[str]:
        """Return the lines of commands that are complete by an event."""
        if isinstance(event, StepFinished):
            return self.rest(event.stage)
        if not isinstance(event, OutputChunk):
            return []
        key = event.stage, event.stream
        *lines, rest = re.split(rb"\r*\n|\r+(?=[^\r\n])", self._begun.pop(key, b"") + event.data)
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        if rest:
            self._begun[key] = rest
        return [self._line(event.stage, line) for line in lines]

    def rest(self, stage: int | None = None) -> list[str]:
        """Return the lines that commands of a stage, or of all, have left without an end."""
        keys = [key for key in self._begun if stage in (None, key[0])]
        return [self._line(key[0], self._begun.pop(key)) for key in keys]

    def _line(self, stage: int, line: bytes) -> str:
        return self._prefix(stage) + line.rstrip(b"\r").decode("utf-8", "replace")

    def _prefix(self, stage: int) -> str:
        return f"[{self._labels.get(stage, stage)}] "
