"""`modify`: what to do comes from `-c`, from a script, from standard input, or from whoever sits at the terminal."""

import os
import sys

from chimage_core.cli.build import build_request, open_for, print_build
from chimage_core.cli.session import Session
from chimage_core.errors import EXIT_OK, UsageError, file_errors
from chimage_core.image.reference import Reference
from chimage_core.ops import modify as ops
from chimage_core.ops.build import STDIN


def modify(session: Session) -> int:
    """`modify`."""
    request = _request(session)
    with open_for(session, request.build) as workspace:
        result = ops.modify(workspace, request)
    print_build(session, result)
    return EXIT_OK


def _request(session: Session) -> ops.ModifyRequest:
    commands, path = tuple(session.option("commands", ())), session.option("script")
    is_interactive = session.option("interactive", False)
    if [bool(commands), path is not None, is_interactive].count(True) > 1:
        raise UsageError("only one of -c, -i and SCRIPT can be given", hint="-c can be repeated")
    source, destination = (Reference.parse(session.option(name)) for name in ("source", "dest"))
    ops.require_different(source, destination)
    shell = session.option("shell")
    if shell is not None and not shell.startswith("/"):
        raise UsageError(f"--shell: not an absolute path in the image: {shell!r}")
    is_interactive = is_interactive or (not commands and path is None and sys.stdin.isatty())
    script = None if commands or is_interactive else _script(session, STDIN if path is None else path)
    how = build_request(session)
    if is_interactive and "TERM" in session.settings.environment:
        how = how._replace(passed_in={**how.passed_in, "TERM": session.settings.environment["TERM"]})
    return ops.ModifyRequest(
        source=source, destination=destination, commands=commands, script=script, shell=shell, build=how
    )


def _script(session: Session, path: str) -> ops.Script:
    """Read a script, from standard input if `path` is `-`. Raises UsageError for what is no text, or nothing."""
    if path == STDIN:
        name, shown = "stdin", "standard input"
        with session.cancel.on_cancel(session.cancel.check):  # It may come from a pipe, and reading may wait for ever.
            data = sys.stdin.buffer.read()
    else:
        name = shown = os.path.basename(path)
        with file_errors("read script", path), open(path, "rb") as file:
            data = file.read()
    if not data.strip():
        raise UsageError(f"the script is empty: {shown}", hint="give commands with -c, or -i for a shell")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"the script is no text in UTF-8: {shown}")
    return ops.Script(name, text)
