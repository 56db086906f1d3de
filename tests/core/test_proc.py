"""Running programs of the host."""

import signal
import threading
import time

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
