"""The end of what a command prints, where it is captured: a command that fails mostly says there why."""

from chimage_core.runner.protocol import OutputChunks, Stream

_KEPT = 4096
"""Bytes."""


class Tail:
    """Passes output on and keeps the end of it."""

    def __init__(self, output: OutputChunks) -> None:
        self._output = output
        self._end = b""

    def __call__(self, stream: Stream, data: bytes) -> None:
        """Take a piece of output."""
        self._end = (self._end + data)[-_KEPT:]
        self._output(stream, data)

    @property
    def text(self) -> str:
        """The end of all output."""
        return self._end.decode("utf-8", "replace")
