"""What can be mounted for a command besides paths of the host (`Bind`), and only few commands need."""

from typing import NamedTuple

from chimage_core.runner.protocol import Bind, Overlay


class Draft(NamedTuple):
    """A directory of the host shown inside the container whose changes go elsewhere, to be thrown away."""

    source: str
    target: str
    """As for Bind."""
    overlay: Overlay
    """The upper directory may hold whiteouts: what they hide is not seen. Only where `can_overlay` is true."""
    is_read_only: bool = False


class Tmpfs(NamedTuple):
    """An empty directory in memory."""

    target: str
    """Absolute path inside; made if missing, as for Bind."""
    size: int | None = None
    """Bytes that fit in; None: the kernel's own limit."""
    mode: int = 0o1777
    is_read_only: bool = False


class MemoryFile(NamedTuple):
    """A read-only file that is nowhere but in memory: a secret."""

    target: str
    """Absolute path inside; made if missing, as for Bind."""
    content: bytes
    mode: int = 0o400

    def __repr__(self) -> str:
        return f"MemoryFile({self.target!r}, …)"


Mount = Bind | Draft | Tmpfs | MemoryFile
