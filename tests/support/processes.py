"""Processes on this host, found by a marker in their command line or environment."""

import os
import time


def marked(marker: str) -> list[int]:
    """Return the numbers of the processes that have `marker` in their command line or environment, but for our own.

    Zombies have neither, and those of other users show only their command line.
    """
    needle = os.fsencode(marker)
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            texts = (_read(f"/proc/{name}/cmdline"), _read(f"/proc/{name}/environ"))
            if any(needle in text for text in texts):
                found.append(int(name))
    return found


def wait_until_gone(marker: str, seconds: float = 5) -> list[int]:
    """Wait until no process has the marker; return those that still have it when the time is up."""
    deadline = time.monotonic() + seconds
    while (left := marked(marker)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def mounts_below(directory: str | os.PathLike[str]) -> list[str]:
    """Return the mount points of our mount namespace below a directory."""
    prefix = os.fspath(directory).rstrip("/") + "/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[4] for line in file]
    return [point for point in points if point.startswith(prefix)]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
