"""What of the host every container sees, whatever the runner."""

import os
from collections.abc import Iterable

from chimage_core.errors import RunnerError
from chimage_core.runner.mount_kinds import MemoryFile, Mount
from chimage_core.runner.protocol import Bind

HOST_TREES = ("/proc", "/dev", "/sys")
HOST_FILES = ("/etc/hosts", "/etc/resolv.conf")
"""The container shares the host's network, so it needs the same names. Shown if the host has them."""

SHARED_MEMORY = "/dev/shm"
"""Part of /dev, but the host's is where its programs keep data, which a RUN that cleans up must not reach. So every
container has an empty one of its own."""


def hides_shared_memory() -> bool:
    """Return whether there is a directory of the host to be hidden. A link leads to a place of the image's own."""
    return os.path.isdir(SHARED_MEMORY) and not os.path.islink(SHARED_MEMORY)


def points(mounts: Iterable[Mount]) -> Iterable[tuple[str, bool]]:
    """Yield the paths that have to exist inside, and whether as directory. Raises RunnerError for a missing source."""
    for mount in mounts:
        yield mount.target, is_directory(mount)


def is_directory(bind: Mount) -> bool:
    """Return whether a directory is mounted. Raises RunnerError if it is missing."""
    if not isinstance(bind, Bind):
        return not isinstance(bind, MemoryFile)
    try:
        return os.path.isdir(bind.source) or not os.stat(bind.source)
    except OSError as error:
        raise RunnerError(f"can't bind {bind.source} to {bind.target}: {error.strerror}") from error
