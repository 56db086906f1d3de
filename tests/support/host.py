"""What this host allows and has: for tests that need more than Python."""

import functools
import shutil
import subprocess

import pytest

from tests.support.cli import PATH


def has_program(name: str) -> bool:
    """Say whether a program is installed."""
    return shutil.which(name, path=PATH) is not None


def needs_program(*names: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test unless all these programs are installed."""
    missing = [name for name in names if not has_program(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@functools.cache
def user_namespaces_work() -> bool:
    """Say whether this user may make user and mount namespaces. Asked once: it starts a process."""
    if not has_program("unshare"):
        return False
    return subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode == 0
