"""Running programs of the host."""

import signal
import threading
import time
from pathlib import Path

import pytest

from chimage_core import proc
from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, DependencyMissing

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def test_output_and_status_come_back_and_input_goes_in() -> None:
    output = proc.run(
        ["sh", "-c", "cat; echo oops >&2; exit 3"],
        environment=ENVIRONMENT,
        cancel=CancelToken(),
        stdin=b"hello",
        check=False,
    )
    assert (output.status, output.stdout, output.stderr) == (3, b"hello", b"oops\n")


def test_the_environment_is_exactly_the_given_one() -> None:
    """GIT_DIR of the caller must not reach a git that we start."""
    output = proc.run(["env"], environment={**ENVIRONMENT, "A": "1"}, cancel=CancelToken())
    assert sorted(output.stdout.split()) == [b"A=1", b"PATH=/usr/bin:/bin"]


def test_failure_says_what_failed_and_what_it_said() -> None:
    with pytest.raises(proc.ProgramFailed, match=r"(?s)exit status 2: sh -c .*broken pump"):
        proc.run(["sh", "-c", "echo broken pump >&2; exit 2"], environment=ENVIRONMENT, cancel=CancelToken())


def test_a_missing_program_is_named() -> None:
    with pytest.raises(DependencyMissing, match="no-such-program"):
        proc.run(["no-such-program"], environment=ENVIRONMENT, cancel=CancelToken())


def test_cancel_ends_the_program() -> None:
    token = CancelToken()
    timer = threading.Timer(0.2, token.cancel, [signal.SIGTERM])
    timer.start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        proc.run(["sleep", "60"], environment=ENVIRONMENT, cancel=token)
    timer.join()
    assert time.monotonic() - began < 30


def test_what_is_shown_is_passed_on_as_it_comes(tmp_path: Path) -> None:
    chunks: list[tuple[str, bytes]] = []
    status = proc.run_shown(
        ["sh", "-c", "pwd; echo oops >&2; read line || exit 3"],
        environment=ENVIRONMENT,
        cancel=CancelToken(),
        cwd=str(tmp_path),
        output=lambda stream, data: chunks.append((stream, data)),
    )
    assert status == 3
    assert sorted(chunks) == [("stderr", b"oops\n"), ("stdout", f"{tmp_path}\n".encode())]


def test_what_is_shown_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output is for results."""
    argv = ["sh", "-c", "echo out; kill -TERM $$"]
    status = proc.run_shown(argv, environment=ENVIRONMENT, cancel=CancelToken(), cwd=str(tmp_path), output=None)
    assert (status, capfd.readouterr()) == (-signal.SIGTERM, ("", "out\n"))


def test_cancel_ends_a_program_that_is_shown(tmp_path: Path) -> None:
    token = CancelToken()
    timer = threading.Timer(0.2, token.cancel, [signal.SIGTERM])
    timer.start()
    with pytest.raises(Cancelled):
        proc.run_shown(
            ["sleep", "60"],
            environment=ENVIRONMENT,
            cancel=token,
            cwd=str(tmp_path),
            output=lambda _stream, _data: None,
        )
    timer.join()
    with pytest.raises(DependencyMissing, match="no-such-program"):
        proc.run_shown(["no-such-program"], environment={}, cancel=CancelToken(), cwd=str(tmp_path), output=None)
