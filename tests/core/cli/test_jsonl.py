"""Events and results as JSON lines."""

import io
import json

from chimage_core.cli.jsonl import JsonLines
from chimage_core.errors import UsageError
from chimage_core.events import Warned
from chimage_core.events.steps import OutputChunk


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_one_line_with_its_type_and_fields() -> None:
    stream = io.StringIO()
    JsonLines(stream)(Warned(text="a\nb"))
    assert written(stream) == [{"type": "warned", "text": "a\nb"}]


def test_output_that_is_no_text_is_base64() -> None:
    """A log viewer must get every byte that a command printed."""
    stream = io.StringIO()
    lines = JsonLines(stream)
    lines(OutputChunk(step=1, stage=0, stream="stdout", data=b"text"))
    lines(OutputChunk(step=1, stage=0, stream="stderr", data=b"\xff"))
    assert [document.get("data") for document in written(stream)] == ["text", None]
    assert written(stream)[1]["data_b64"] == "/w=="


def test_error_says_what_a_script_needs() -> None:
    stream = io.StringIO()
    JsonLines(stream).error(UsageError("wrong", hint="right"))
    assert written(stream) == [{"type": "error", "code": "usage", "message": "wrong", "hint": "right", "exit_code": 2}]


def test_names_with_any_bytes_can_be_written() -> None:
    stream = io.StringIO()
    JsonLines(stream)(Warned(text="bad\udcff"))
    assert stream.getvalue().isascii()
