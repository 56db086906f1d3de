"""Drive chimage as users do: as a process, with a clean environment."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
TIMEOUT = 300
"""Seconds after which a command counts as hung."""


@dataclass(frozen=True, slots=True)
class CliResult:
    """What a finished command left behind."""

    argv: tuple[str, ...]
    status: int
    """Exit status; negative: the number of the signal that ended it."""
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return standard output, parsed as one JSON value."""
        return json.loads(self.stdout)

    def json_lines(self) -> list[dict[str, Any]]:
        """Return standard output, parsed as one JSON object a line (events)."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def expect(self, status: int) -> Self:
        """Return self; AssertionError with all output if the exit status is another one."""
        assert self.status == status, f"{self.argv}: exit status {self.status}, not {status}\n{self.text()}"
        return self

    def text(self) -> str:
        """Return both outputs, for messages."""
        return f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Chimage:
    """The command line, bound to a storage directory.

    The storage directory comes from the environment, so that an argument vector may be a whole command including
    `--storage` of its own. Nothing else of the tester's environment reaches the command but TMPDIR.
    """

    def __init__(self, storage: str | os.PathLike[str], *, env: Mapping[str, str] | None = None) -> None:
        """`env` is added to the environment of every command."""
        self.storage = os.fspath(storage)
        self._env = dict(env or {})

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command: the clean one, this object's additions, then `env`."""
        user = pwd.getpwuid(os.getuid())
        return {
            "PATH": PATH,
            "HOME": user.pw_dir,
            "USER": user.pw_name,
            "LANG": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CH_IMAGE_STORAGE": self.storage,
            "CH_IMAGE_PULL": "never",  # No test may ask a registry that is not its own.
            **self._env,
            **(env or {}),
        }

    @staticmethod
    def argv(*argv: str | os.PathLike[str]) -> list[str]:
        """Return the whole argument vector of a command."""
        return [sys.executable, "-m", "chimage_core", *(os.fspath(word) for word in argv)]

    def run(
        self,
        *argv: str | os.PathLike[str],
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        cwd: str | os.PathLike[str] | None = None,
    ) -> CliResult:
        """Run a command to its end. With `check`, AssertionError with all output unless it exits 0."""
        done = subprocess.run(
            self.argv(*argv),
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env=self.environment(env),
            cwd=cwd,
            timeout=TIMEOUT,
            check=False,
        )
        stdout, stderr = (output.decode("utf-8", "surrogateescape") for output in (done.stdout, done.stderr))
        result = CliResult(tuple(os.fspath(word) for word in argv), done.returncode, stdout, stderr)
        return result.expect(0) if check else result

    def start(
        self,
        *argv: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command in a session of its own and return at once; both outputs are pipes, standard input is empty.

        Use it as a context manager, or wait for it: an unreaped child fails the test by its warning.
        """
        return subprocess.Popen(
            self.argv(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            env=self.environment(env),
            cwd=cwd,
            start_new_session=True,
        )
