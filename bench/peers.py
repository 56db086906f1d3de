"""The programs that are measured. Both take the same commands, because chimage's command line is ch-image's."""

import getpass
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

OURS, THEIRS = "chimage", "ch-image"
"""Names of the peers."""

DISTRIBUTION_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
"""For both: Debian's ch-image starts `/usr/bin/env python3` and needs the distribution's Python packages."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to be measured."""

    name: str
    program: str

    def environment(self, directory: str) -> dict[str, str]:
        """Return its environment: everything it writes is below `directory`."""
        return {
            "PATH": DISTRIBUTION_PATH,
            "HOME": directory,
            "USER": getpass.getuser(),
            "LANG": "C.UTF-8",
            "TMPDIR": os.path.join(directory, "tmp"),
            "CH_IMAGE_STORAGE": storage(directory),
        }

    def version(self) -> str:
        """Return what `--version` says."""
        argv = [self.program, "--version"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self.environment("/nonexistent"))
        return (done.stdout or done.stderr).strip()


def storage(directory: str) -> str:
    """Return the storage directory of a peer whose files are below `directory`."""
    return os.path.join(directory, "storage")


def ours(program: str | None) -> Peer:
    """Return chimage: the given program, else the one beside this Python."""
    return Peer(OURS, program or os.path.join(os.path.dirname(sys.executable), "chimage"))


def theirs(program: str | None) -> Peer | None:
    """Return ch-image: the given program, $CH_IMAGE, or the distribution's; None if there is none."""
    wanted = program or os.environ.get("CH_IMAGE") or "ch-image"
    found = shutil.which(wanted, path=None if os.sep in wanted else DISTRIBUTION_PATH)
    if found is None and (program or os.environ.get("CH_IMAGE")):
        raise FileNotFoundError(f"no such program: {wanted}")
    return Peer(THEIRS, found) if found else None
