"""How far a transfer is, on one line of a terminal that is written anew each time."""

import shutil
from typing import TextIO

from chimage_core.events.transfer import TransferProgressed
from chimage_core.text import duration, size

_CLEAR = "\r\x1b[K"
_WARM_UP = 1.0
"""Seconds before which rates say nothing."""


class ProgressLine:
    """The last line of a terminal, while something moves."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_shown = False

    def show(self, event: TransferProgressed) -> None:
        """Write the line anew; remove it when all is there."""
        if event.total is not None and event.done >= event.total:
            self.clear()
            return
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(_CLEAR + progress_text(event)[:width])
        self._stream.flush()
        self._is_shown = True

    def clear(self) -> None:
        """Remove the line, so that others can be written."""
        if self._is_shown:
            self._stream.write(_CLEAR)
            self._is_shown = False


def progress_text(event: TransferProgressed) -> str:
    """Return `downloaded 1.2 MiB of 30.0 MiB, 600.0 KiB/s, 49 s left`."""
    of = "" if event.total is None else f" of {size(event.total)}"
    text = f"downloaded {size(event.done)}{of}"
    if event.seconds < _WARM_UP or event.done <= 0:
        return text
    rate = event.done / event.seconds
    text += f", {size(int(rate))}/s"
    return text if event.total is None else f"{text}, {duration((event.total - event.done) / rate)} left"
