"""`--force=none`: system calls that need privilege fail, as they do for any unprivileged process."""

from collections.abc import Mapping

from chimage_core.build.force import ForcedCommand
from chimage_core.runner.protocol import Emulation


class NoForcer:
    """Leaves every command as it is."""

    mode = "none"
    suffix = "N"
    emulation = Emulation.NONE
    files: Mapping[str, str] = {}
    variables: Mapping[str, str] = {}

    def wrap(self, argv: tuple[str, ...], rootfs: str) -> ForcedCommand:
        """Return `argv` itself."""
        return ForcedCommand(argv, False)
