"""A real Debian root file system and packages on top of it, made once and kept outside the repository.

`python -m tests.support.prepare` (part of `make test`) makes them; that needs the network and half a minute. Tests only
look them up: where they are not there, a test that wants them is skipped and says why.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass

RECIPE = 2
"""Raise it when what `prepare` makes changes: the next run then makes it anew."""

PACKAGES = ("openssh-client", "hello", "uuid-runtime", "fakeroot", "make", "tcc", "libc6-dev", "python3-minimal")
"""In the repository, with all they depend on. Between them, their maintainer scripts chown, set setgid bits and add
users and groups: what needs root in an ordinary container."""


@dataclass(frozen=True, slots=True)
class DebianAssets:
    """Where the prepared files are."""

    directory: str

    @property
    def tarball(self) -> str:
        """The root file system (Debian 12 on a Debian 12 host), as mmdebstrap's plain tarball with device files."""
        return os.path.join(self.directory, "rootfs.tar")

    @property
    def repository(self) -> str:
        """A flat apt repository with PACKAGES; `apt_repository.serve` offers it to builds."""
        return os.path.join(self.directory, "repository")

    def rootfs(self) -> str:
        """Return the root file system as a directory, unpacked at the first call. Nobody may change it.

        As `tar` without privilege makes it: owned by the user, without device files. Workers may race: who renames
        first wins.
        """
        final = os.path.join(self.directory, "rootfs")
        if not os.path.isdir(final):
            scratch = tempfile.mkdtemp(prefix="rootfs.", dir=self.directory)
            unpack = ["tar", "-C", scratch, "--exclude=./dev/*", "--no-same-owner", "-xf", self.tarball]
            subprocess.run(unpack, check=True)
            os.chmod(scratch, 0o755)
            try:
                os.rename(scratch, final)
            except OSError:
                subprocess.run(["rm", "-rf", scratch], check=True)
        return final


def cache_directory() -> str:
    """Return where prepared files are kept: $CHIMAGE_TEST_CACHE, else below the user's cache directory."""
    chosen = os.environ.get("CHIMAGE_TEST_CACHE")
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return chosen or os.path.join(user_cache, "chimage-test")


def find_assets() -> DebianAssets | None:
    """Return the prepared files, or None if they have not been made. They are there whole or not at all."""
    directory = os.path.join(cache_directory(), f"debian-{RECIPE}")
    return DebianAssets(directory) if os.path.isdir(directory) else None
