"""`--force=none`: system calls that need privilege fail, as they do for any unprivileged process."""

from collections.abc import Mapping

from chimage_core.build.force import Argv, Execution
from chimage_core.runner.protocol import Emulation, RunResult


class NoForcer:
    """Leaves every command as it is."""

    mode = "none"
    suffix = "N"
    emulation = Emulation.NONE
    files: Mapping[str, str] = {}
    variables: Mapping[str, str] = {}

    def wrap(self, argv: Argv) -> Argv:
        """Return `argv` itself."""
        return argv

    def carry_out(self, argv: Argv, execution: Execution) -> RunResult:
        """Execute `argv`."""
        return execution.run(argv)
