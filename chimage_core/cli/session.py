"""What every command gets, and how it opens the storage directory."""

import argparse
import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

if TYPE_CHECKING:
    # Imported where they are used: `--help` and `list` must not pay for what `build` needs.
    from chimage_core.cancel import CancelToken
    from chimage_core.cli.jsonl import JsonLines
    from chimage_core.events import Sink
    from chimage_core.registry.credentials import Ask, Credentials
    from chimage_core.settings import Settings
    from chimage_core.workspace import Workspace


_NICENESS = 10


class Session(NamedTuple):
    """What every command gets."""

    argv: Sequence[str]
    """Our command line, for others who wait for us."""
    options: argparse.Namespace
    settings: "Settings"
    emit: "Sink"
    json: "JsonLines | None"
    """Where results go with `--json`."""
    stdout: TextIO
    cancel: "CancelToken"

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option's value; `default` if it was not given."""
        return getattr(self.options, name, default)

    def print(self, text: str) -> None:
        """Print one line of the result."""
        self.stdout.write(text + "\n")

    def result(self, **fields: Any) -> None:
        """Give the result of a command whose success is its result: only scripts want to see it."""
        if self.json:
            self.json.result(fields)


def yield_to_others() -> None:
    """Let whoever works at the same time, here or in another job, go first. What we start inherits this."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICENESS))


def open_working(session: Session, **options: Any) -> contextlib.AbstractContextManager["Workspace"]:
    """Open the storage directory for work; see `open_workspace`."""
    from chimage_core.workspace import open_workspace

    return open_workspace(
        session.settings, session.argv, emit=session.emit, cancel=session.cancel, ask=_asking(session), **options
    )


def open_reading(session: Session) -> contextlib.AbstractContextManager["Workspace"]:
    """Open the storage directory for looking at it; see `open_reader`."""
    from chimage_core.workspace import open_reader

    return open_reader(session.settings, session.argv, emit=session.emit, cancel=session.cancel, ask=_asking(session))


def _asking(session: Session) -> "Ask":
    """Return what asks for passwords, loaded when it does."""

    def ask(registry: str, username: str | None) -> "Credentials | None":
        from chimage_core.cli.prompt import ask_credentials

        return ask_credentials(registry, username, session.cancel)

    return ask
