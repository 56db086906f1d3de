"""What of the host the user offers to RUN --mount (secrets, and sockets of agents, that get nowhere else), and what a
command then gets.
"""

from collections.abc import Mapping
from typing import NamedTuple

from chimage_core.runner.mount_kinds import Mount


class Secret(NamedTuple):
    """Something that may be in no image, build cache, key, log or process list."""

    content: bytes

    def __repr__(self) -> str:
        return "Secret(…)"


class Offers(NamedTuple):
    """All of it, by ID."""

    secrets: Mapping[str, Secret] = {}
    agents: Mapping[str, str] = {}
    """Paths of sockets."""


class Mounted(NamedTuple):
    """What a command gets by its mounts."""

    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = {}
    secret_env: Mapping[str, str] = {}
