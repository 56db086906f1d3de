"""Output of stages that are built side by side."""

import io

from chimage_core.cli.printer import Printer
from chimage_core.errors import RunFailed
from chimage_core.events.build import BuildStarted, StageStarted, StepResolved
from chimage_core.events.steps import OutputChunk, StepFinished


def printer(verbosity: int = 0) -> tuple[Printer, io.StringIO]:
    stream = io.StringIO()
    shown = Printer(stream, verbosity)
    shown(BuildStarted(reference="i", dockerfile="f", instructions=3, stages=2, jobs=2))
    shown(StageStarted(stage=0, alias="compile", reference="i_stage0"))
    shown(StageStarted(stage=1, alias=None, reference="i"))
    return shown, stream


def chunk(data: bytes, stage: int = 0) -> OutputChunk:
    return OutputChunk(step=stage + 1, stage=stage, stream="stdout", data=data)


def test_instructions_tell_their_stage() -> None:
    shown, stream = printer()
    shown(StepResolved(step=1, line=1, stage=0, name="FROM", text="base", outcome="hit", state="0"))
    shown(StepResolved(step=2, line=7, stage=1, name="FROM", text="base", outcome="miss", state="0"))
    assert stream.getvalue() == "[compile]   1* FROM base\n[1]   7. FROM base\n"


def test_lines_come_whole() -> None:
    shown, stream = printer(verbosity=-3)
    for event in (chunk(b"one "), chunk(b"other\n", 1), chunk(b"line\r\nnext"), chunk(b"\r50%\r100%"), chunk(b"\n")):
        shown(event)
    lines = ["[1] other", "[compile] one line", "[compile] next", "[compile] 50%", "[compile] 100%"]
    assert stream.getvalue().splitlines() == lines


def test_a_line_without_end_comes_with_the_end_of_the_command() -> None:
    shown, stream = printer()
    shown(chunk(b"a\xff\x1b[31m"))
    assert stream.getvalue() == ""
    shown(StepFinished(step=1, stage=0, seconds=1))
    assert stream.getvalue().startswith("[compile] a")
    assert "\x1b" not in stream.getvalue()
    shown(chunk(b"last words", 1))
    shown.error(RunFailed("failed"))
    assert stream.getvalue().endswith("[1] last words\nerror: failed\n")


def test_a_line_without_any_end_is_not_kept_for_ever() -> None:
    shown, stream = printer()
    for _ in range(20):
        shown(chunk(b"x" * 10_000))
    assert stream.getvalue().count("\n") > 1
