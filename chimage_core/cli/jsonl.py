"""Events and results as JSON lines: one object per line on stdout, for scripts and the app.

An event is `{"type": "step_resolved", ...its fields}`; a result is `{"type": "result", ...}`; an error `{"type":
"error", "code": ..., "message": ..., "hint": ..., "exit_code": ...}`. Bytes are text in field `data`, or base64 in
field `data_b64` where they are not UTF-8.
"""

import base64
import dataclasses
import json
import re
from typing import Any, TextIO

from chimage_core.errors import ChimageError
from chimage_core.events import Event, plain


class JsonLines:
    """Writes events, results and errors; it is a Sink."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write one event."""
        fields = ((field.name, getattr(event, field.name)) for field in dataclasses.fields(event))
        self._write(
            {"type": _snake_case(type(event).__name__), **dict(_encoded(name, value) for name, value in fields)}
        )

    def document(self, document: dict[str, Any]) -> None:
        """Write an object of another, documented shape."""
        self._write(document)

    def result(self, document: dict[str, Any]) -> None:
        """Write the result of the command."""
        self._write({"type": "result", **document})

    def error(self, error: ChimageError) -> None:
        """Write why the command failed."""
        self._write(
            {
                "type": "error",
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
        )

    def _write(self, document: dict[str, Any]) -> None:
        self._stream.write(json.dumps(document) + "\n")
        self._stream.flush()


def _encoded(name: str, value: Any) -> tuple[str, Any]:
    if not isinstance(value, bytes):
        return name, plain(value)
    try:
        return name, value.decode()
    except UnicodeDecodeError:
        return f"{name}_b64", base64.b64encode(value).decode()


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
