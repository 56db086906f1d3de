"""Run a program of the host: clean environment, captured output, cancellation.

Our own environment may hold variables that change what a program does to us (`GIT_DIR` once deleted a base image in
another tool), so a child gets nothing of it but what the caller of `run` names.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chimage_core.cancel import CancelToken
from chimage_core.errors import ChimageError, DependencyMissing
from chimage_core.text import quoted


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """What a program said before it ended."""

    status: int
    """Exit status; negative: the number of the signal that ended it."""
    stdout: bytes
    stderr: bytes


class ProgramFailed(ChimageError):
    """A program of the host ended with an error."""

    code = "program"

    def __init__(self, argv: Sequence[str], output: ProgramOutput) -> None:
        said = output.stderr.decode("utf-8", "surrogateescape").strip()
        super().__init__(f"command failed with exit status {output.status}: {quoted(argv)}\n{said}".rstrip())
        self.output = output


def find_program(name: str, path: str | None = None) -> str | None:
    """Return the absolute path of a program, or None. `path` is the search path; by default the process's own."""
    return shutil.which(name, path=path)


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cancel: CancelToken,
    stdin: bytes = b"",
    cwd: str | None = None,
    check: bool = True,
) -> ProgramOutput:
    """Run a program to its end with exactly `environment`; ask it to terminate on cancel.

    Raises DependencyMissing if there is no such program, ProgramFailed for a status other than 0 (if `check`),
    Cancelled when asked to stop.
    """
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise DependencyMissing(f"program not found: {argv[0]}", hint=f"install {argv[0]}") from error
    with child, cancel.on_cancel(child.terminate):
        stdout, stderr = child.communicate(stdin)
    cancel.check()
    output = ProgramOutput(child.returncode, stdout, stderr)
    if check and output.status != 0:
        raise ProgramFailed(argv, output)
    return output


def run_shown(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cancel: CancelToken,
    cwd: str,
    output: Callable[[Literal["stdout", "stderr"], bytes], None] | None,
) -> int:
    """Run a program whose output is for the user, and return its exit status (negative: number of the signal).

    `output` receives what it says as it comes; None: all goes to our stderr. Raises DependencyMissing, Cancelled.
    """
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=2 if output is None else subprocess.PIPE,
            stderr=None if output is None else subprocess.PIPE,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise DependencyMissing(f"program not found: {argv[0]}", hint=f"install {argv[0]}") from error
    with child, cancel.on_cancel(child.terminate):
        if output is not None:
            _relay(child, output)
        status = child.wait()
    cancel.check()
    return status


def _relay(child: "subprocess.Popen[bytes]", output: Callable[[Literal["stdout", "stderr"], bytes], None]) -> None:
    """Pass on what a program says until it has closed both of its outputs."""
    import selectors

    with selectors.DefaultSelector() as selector:
        assert child.stdout is not None
        assert child.stderr is not None
        selector.register(child.stdout, selectors.EVENT_READ, "stdout")
        selector.register(child.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                if data:
                    output(key.data, data)
                else:
                    selector.unregister(key.fileobj)
