"""Git's own opinion of the build cache."""

import os
import subprocess

from tests.support.cli import PATH


def fsck(storage: str | os.PathLike[str]) -> str:
    """Return what `git fsck --strict` complains of in the cache of a storage directory; "" if all is well."""
    return complaints(os.path.join(storage, "cache/git"))


def complaints(repository: str | os.PathLike[str]) -> str:
    """Return what `git fsck --strict` complains of in a repository; "" if all is well."""
    done = subprocess.run(
        ["git", "--git-dir", os.fspath(repository), "fsck", "--strict", "--full", "--no-dangling", "--no-progress"],
        capture_output=True,
        text=True,
        errors="replace",
        env={"PATH": PATH, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
        check=False,
    )
    # That HEAD names no branch is said, but is nothing wrong.
    lines = (done.stdout + done.stderr).splitlines()
    text = "\n".join(line for line in lines if not line.startswith("notice: HEAD points to an unborn branch"))
    return text or ("" if done.returncode == 0 else f"exit status {done.returncode}")
