"""The command line: arguments in, exit status out. The only place that ends the process and that catches everything."""

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, TextIO

from chimage_core import settings as settings_module
from chimage_core.cancel import CancelToken
from chimage_core.cli.commands import COMMANDS, Session, dependencies
from chimage_core.cli.jsonl import JsonLines
from chimage_core.cli.options import parser
from chimage_core.cli.printer import Printer
from chimage_core.errors import EXIT_BUG, ChimageError, UsageError
from chimage_core.settings import Settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main_ch_image() -> NoReturn:
    """Run as the console script `ch-image`: never opens the app."""
    sys.exit(run("ch-image", sys.argv[1:], settings_module.process_environment()))


def run(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Carry out one command line and return its exit status (see `errors`)."""
    grammar = parser(program)
    try:
        options = grammar.parse_args(arguments)
    except SystemExit as end:  # argparse has printed help, the version, or what was wrong.
        return int(end.code or 0)
    if getattr(options, "command", None) is None and not getattr(options, "dependencies", False):
        grammar.print_usage(sys.stderr)
        return UsageError.exit_code
    printer = Printer(sys.stderr, 0)
    json = JsonLines(sys.stdout) if getattr(options, "json", False) else None
    show_trace = False
    try:
        settings = Settings.resolve(vars(options), environment)
        show_trace = settings.debug
        printer = Printer(sys.stderr, settings.verbosity)
        return _carry_out(options, settings, (program, *arguments), json, printer)
    except ChimageError as error:
        if show_trace:
            traceback.print_exc()
        printer.error(error)
        if json:
            json.error(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python must not complain when it flushes at exit.
        _close_quietly(sys.stdout)
        return 128 + signal.SIGPIPE
    except Exception:
        traceback.print_exc()
        sys.stderr.write(f"error: this is a bug in {program}; please report it with the lines above\n")
        return EXIT_BUG


def _carry_out(
    options: argparse.Namespace, settings: Settings, argv: Sequence[str], json: JsonLines | None, printer: Printer
) -> int:
    if settings.verbosity > 0 and getattr(options, "quiet", False):
        raise UsageError("-q and -v don’t go together")
    token = CancelToken()
    session = Session(
        argv=argv,
        options=options,
        settings=settings,
        emit=json or printer,
        json=json,
        stdout=sys.stdout,
        cancel=token,
    )
    with _signals(token):
        command = dependencies if getattr(options, "dependencies", False) else COMMANDS[options.command]
        status = command(session)
        sys.stdout.flush()
    return status


@contextlib.contextmanager
def _signals(token: CancelToken) -> Iterator[None]:
    """Turn signals into a request to stop. The second one ends the process the hard way."""

    def stop(number: int, frame: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        token.cancel(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _close_quietly(stream: TextIO) -> None:
    # What is buffered goes to /dev/null when Python flushes it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
