"""Who holds a lock: enough to tell it to people, and to know when a process is surely gone.

A process number alone says little: it may belong to another host, another boot, another PID namespace (a container), or
by now to another process.
"""

import json
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from chimage_core.text import printable, quoted

_LONGEST_COMMAND = 200
"""Characters of a command line that are kept: lock files are read by people."""


class Holder(NamedTuple):
    """A process that holds a lock, or wants to."""

    host: str
    boot: str
    """Boot ID of the kernel; "" if unknown."""
    namespace: str
    """PID namespace; "" if unknown."""
    pid: int
    started: int
    """When the process started, in clock ticks since boot; 0 if unknown."""
    since: int
    """When it took the lock: seconds since the epoch."""
    command: str
    """Its command line, perhaps cut."""

    @classmethod
    def this_process(cls, argv: Sequence[str]) -> "Holder":
        """Describe the calling process as it is now; `argv` is its command line."""
        pid = os.getpid()
        command = quoted(argv)
        if len(command) > _LONGEST_COMMAND:
            command = command[: _LONGEST_COMMAND - 1] + "…"
        namespace = _pid_namespace()
        return cls(os.uname().nodename, _boot_id(), namespace, pid, _start_time(pid), int(time.time()), command)

    @classmethod
    def from_line(cls, line: bytes) -> "Holder | None":
        """Read what `to_line` wrote; None for anything else, such as a half-written line."""
        try:
            document = json.loads(line)
            values = [document[field] for field in cls._fields]
        except (ValueError, TypeError, KeyError):
            return None
        expected = (str, str, str, int, int, int, str)
        return cls(*values) if all(map(isinstance, values, expected)) else None

    def to_line(self) -> bytes:
        """Return one line of JSON, with its newline."""
        return json.dumps(self._asdict()).encode("ascii") + b"\n"

    def __str__(self) -> str:
        """Say who it is on one printable line."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return printable(f"pid {self.pid} on {self.host} since {since}: {self.command}")

    def is_gone(self) -> bool:
        """Tell whether the process has surely ended. False if we cannot know (another host or PID namespace)."""
        if self.host != os.uname().nodename or not self.boot:
            return False
        if self.boot != _boot_id():
            return True
        return self.namespace == _pid_namespace() and self.started != _start_time(self.pid)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_time(pid: int) -> int:
    """Return field 22 of proc(5)'s `stat`; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name in parentheses and may itself contain anything.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0
