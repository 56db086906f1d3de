"""Progress on a terminal, and not elsewhere."""

import io

from chimage_core.cli.printer import Printer
from chimage_core.cli.progress import progress_text
from chimage_core.events import Notice
from chimage_core.events.transfer import TransferProgressed

MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progressed(done: int, total: int | None, seconds: float) -> TransferProgressed:
    return TransferProgressed(done=done, total=total, seconds=seconds)


def test_rate_and_time_left() -> None:
    assert progress_text(progressed(MIB, 3 * MIB, 0.5)) == "downloaded 1.0 MiB of 3.0 MiB"
    assert progress_text(progressed(MIB, 3 * MIB, 2)) == "downloaded 1.0 MiB of 3.0 MiB, 512.0 KiB/s, 4.0 s left"
    assert progress_text(progressed(MIB, None, 2)) == "downloaded 1.0 MiB, 512.0 KiB/s"
    assert progress_text(progressed(0, 3 * MIB, 2)) == "downloaded 0 Bytes of 3.0 MiB"


def test_a_terminal_gets_one_line_that_goes_when_others_come() -> None:
    terminal = Terminal()
    printer = Printer(terminal, 0)
    printer(progressed(MIB, 3 * MIB, 0.5))
    printer(Notice(level="info", text="hello"))
    assert terminal.getvalue() == "\r\x1b[Kdownloaded 1.0 MiB of 3.0 MiB\r\x1b[Khello\n"
    printer(progressed(3 * MIB, 3 * MIB, 0.5))
    assert terminal.getvalue().endswith("hello\n")


def test_nothing_is_written_elsewhere_or_if_quiet() -> None:
    for stream, verbosity in ((io.StringIO(), 0), (Terminal(), -1)):
        Printer(stream, verbosity)(progressed(MIB, 3 * MIB, 0.5))
        assert stream.getvalue() == ""
