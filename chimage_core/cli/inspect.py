"""`inspect`: all that is known of an image, as text or JSON."""

import json
import time
from collections.abc import Iterator
from typing import Any

from chimage_core.cli.session import Session, open_reading
from chimage_core.errors import EXIT_OK
from chimage_core.image.config import DEFAULT_SHELL, ImageConfig
from chimage_core.image.reference import Reference, short_name
from chimage_core.ops import inspect as ops
from chimage_core.text import plural, printable, quoted, size

_DIGITS = 8
"""Of a state ID: enough to name it in a command."""
_WIDTH = 14


def inspect(session: Session) -> int:
    """`inspect`."""
    reference = Reference.parse(session.option("image_ref"))
    with open_reading(session) as workspace:
        found = ops.inspect(workspace, reference)
    if session.json:
        session.json.result(_document(found))
    else:
        for line in _lines(found):
            session.print(printable(line))
    return EXIT_OK


def _document(found: ops.Inspection) -> dict[str, Any]:
    origin = found.origin
    return {
        "image": {**found.image._asdict(), "reference": str(found.image.reference)},
        "config": json.loads(found.config.to_json()),
        "base": None if found.base is None else str(found.base),
        "digest": found.digest,
        "origin": None if origin is None else {"source": origin.source, "time": origin.time},
        "is_changed": found.is_changed,
        "size": None if found.size is None else found.size._asdict(),
        "states": [
            {
                "state": state.snapshot.state.hex,
                "text": state.text,
                "time": state.time,
                "images": list(map(short_name, state.images)),
            }
            for state in found.states
        ],
    }


def _lines(found: ops.Inspection) -> Iterator[str]:
    rows = [*_identity(found), *_settings(found.config)]
    for label, value in rows:
        yield f"{label:<{_WIDTH}} {value}".rstrip()
    if found.states:
        yield "states:"
        for state in found.states:
            names = ", ".join(map(short_name, state.images))
            yield f"  {state.snapshot.state.hex[:_DIGITS]}  {_moment(state.time)}  {state.text}" + (
                f"  ({names})" if names else ""
            )


def _identity(found: ops.Inspection) -> Iterator[tuple[str, str]]:
    image = found.image
    yield "image:", str(image.reference)
    yield "architecture:", found.config.architecture
    yield "directory:", image.path if image.is_unpacked else "not unpacked, until a build or undelete needs it"
    if found.size is not None:
        files = plural(found.size.files, "file")
        yield "size:", f"{size(found.size.bytes)} in {files}, {size(found.size.disk)} on disk"
    if found.states:
        changed = "; the directory may have been changed since" if found.is_changed else ""
        yield "state:", found.states[-1].snapshot.state.hex + changed
    else:
        yield "state:", "not in the build cache"
    if found.base is not None:
        yield "base:", str(found.base)
    if found.origin is not None:
        yield "from:", f"{found.origin.source}, {_moment(found.origin.time)}"
    if found.digest is not None:
        yield "digest:", found.digest


def _settings(config: ImageConfig) -> Iterator[tuple[str, str]]:
    """Give what is set, several values of one kind below each other."""
    yield "workdir:", config.workdir
    for label, values in (
        ("environment:", [f"{name}={value}" for name, value in sorted(config.env.items())]),
        ("arguments:", [f"{name}={value}" for name, value in sorted(config.args.items())]),
        ("labels:", [f"{name}={value}" for name, value in sorted(config.labels.items())]),
        ("entrypoint:", _command(config.entrypoint)),
        ("command:", _command(config.cmd)),
        ("shell:", [] if config.shell == DEFAULT_SHELL else _command(config.shell)),
        ("user:", _one(config.user)),
        ("author:", _one(config.author)),
        ("volumes:", list(config.volumes)),
        ("ports:", list(config.ports)),
        ("stop signal:", _one(config.stop_signal)),
        ("health check:", [] if config.healthcheck is None else [json.dumps(config.healthcheck)]),
        ("on build:", list(config.onbuild)),
    ):
        for number, value in enumerate(values):
            yield ("" if number else label), value


def _command(words: tuple[str, ...] | None) -> list[str]:
    return [] if words is None else [quoted(words)]


def _one(value: str) -> list[str]:
    return [value] if value else []


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
