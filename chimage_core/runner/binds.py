"""What of the host every container sees, whatever the runner."""

import os

from chimage_core.errors import RunnerError
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


def is_directory(bind: Bind) -> bool:
    """Return whether the source of a bind is a directory. Raises RunnerError if it is missing."""
    try:
        return os.path.isdir(bind.source) or not os.stat(bind.source)
    except OSError as error:
        raise RunnerError(f"can't bind {bind.source} to {bind.target}: {error.strerror}") from error
