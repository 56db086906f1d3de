"""The command line: arguments in, exit status out. The only place that ends the process and that catches everything."""

import argparse
import contextlib
import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from chimage_core.cli.options import parser
from chimage_core.cli.printer import Printer
from chimage_core.errors import EXIT_BUG, EXIT_FAILED, ChimageError, FileError, UsageError
from chimage_core.settings import Settings, process_environment

if TYPE_CHECKING:
    # Imported where they are used: `--help` and `--version` end before.
    from chimage_core.cancel import CancelToken
    from chimage_core.cli.jsonl import JsonLines

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TROUBLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
"""Errors that come from the machine, whatever we were doing: no bugs of ours, also where nobody wrapped them."""


def main_ch_image() -> NoReturn:
    """Run as the console script `ch-image`: never opens the app."""
    sys.exit(run("ch-image", sys.argv[1:], process_environment()))


def run(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Carry out one command line and return its exit status (see `errors`), with which the process is to end."""
    _open_standard_streams()
    _print_anything()
    _use_own_files()
    try:
        status = _run(program, arguments, environment)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        _discard_output()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:  # So early that nothing had begun.
        return 128 + signal.SIGINT
    except OSError as error:
        if not _is_output_stuck():
            return _tell_bug(program)
        with contextlib.suppress(OSError):
            _tell(FileError("write", "output", error), Printer(sys.stderr, 0), None)
        _discard_output()
        return EXIT_FAILED
    except Exception:
        return _tell_bug(program)
    finally:
        gc.freeze()  # At its end Python would look once more for cycles among all that there is.


def _run(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    grammar = parser(program, arguments)
    printer = Printer(sys.stderr, 0)
    json = _json_lines() if "--json" in arguments else None
    show_trace = False
    try:
        options = grammar.parse_args(arguments)
        if getattr(options, "command", None) is None and not getattr(options, "dependencies", False):
            grammar.print_help(sys.stderr)
            return UsageError.exit_code
        settings = Settings.resolve(vars(options), environment)
        show_trace = settings.debug
        printer = Printer(sys.stderr, settings.verbosity, explains=getattr(options, "explain", False))
        status = _carry_out(options, settings, (program, *arguments), json, printer)
        printer.end()
        return status
    except SystemExit as end:  # argparse has printed help or the version.
        return int(end.code or 0)
    except ChimageError as error:
        if show_trace:
            _print_trace()
        return _tell(error, printer, json)
    except OSError as error:
        if error.errno not in _TROUBLE or _is_output_stuck():
            raise
        if show_trace:
            _print_trace()
        return _tell(FileError("go on", str(error.filename or "the machine"), error), printer, json)


def _json_lines() -> "JsonLines":
    from chimage_core.cli.jsonl import JsonLines

    return JsonLines(sys.stdout)


def _print_trace() -> None:
    import traceback

    traceback.print_exc()


def _tell(error: ChimageError, printer: Printer, json: "JsonLines | None") -> int:
    printer.error(error)
    if json:
        json.error(error)
    return error.exit_code


def _tell_bug(program: str) -> int:
    _print_trace()
    sys.stderr.write(f"error: this is a bug in {program}; please report it with the lines above\n")
    return EXIT_BUG


def _carry_out(
    options: argparse.Namespace, settings: Settings, argv: Sequence[str], json: "JsonLines | None", printer: Printer
) -> int:
    from chimage_core.cancel import CancelToken
    from chimage_core.cli.commands import COMMANDS, dependencies
    from chimage_core.cli.session import Session

    if getattr(options, "verbose", 0) and getattr(options, "quiet", 0):
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
        return command(session)


@contextlib.contextmanager
def _signals(token: "CancelToken") -> Iterator[None]:
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


def _open_standard_streams() -> None:
    """Open /dev/null for standard streams that were closed when we started, as some daemons start programs.

    Else the next file that we open would take their place, and get what commands print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number, hence this one.
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)


def _print_anything() -> None:
    """Let standard streams take every text: paths that are no UTF-8 as they are, and where a locale lacks a character,
    something else instead of an error in the midst of the work."""
    sys.stdout, sys.stderr = _buffered(sys.stdout), _buffered(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "replace")


def _buffered(stream: TextIO) -> TextIO:
    """Return a stream that keeps what it could not write, so that it can be told later that output is stuck.

    With $PYTHONUNBUFFERED, which many containers and build services set, there are others.
    """
    if not isinstance(getattr(stream, "buffer", None), io.RawIOBase):
        return stream
    return open(stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)


def _use_own_files() -> None:
    """Drop from the umask what would keep us from using files that we have just made."""
    os.umask(os.umask(0o077) & 0o077)


def _is_output_stuck() -> bool:
    """Return whether output waits that cannot be written: the disk is full, or the terminal is gone."""
    try:
        sys.stderr.flush()
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _discard_output() -> None:
    """Send what cannot be written to /dev/null, or else Python complains when it flushes at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
