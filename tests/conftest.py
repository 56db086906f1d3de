"""What every test gets: a clean environment, storage below its own temporary directory, and reasons to skip.

A test that cannot run on this host is skipped with its reason, so that the totals count it:

- `@pytest.mark.userns`: unprivileged user namespaces are not allowed here
- `@pytest.mark.rsync`: there is no rsync
- `@pytest.mark.root`: not started as root (`make test` runs these as root, all others as an unprivileged user)
- fixtures `debian_…`: `tests.support.prepare` could not make the Debian files
- fixture `busybox`: there is no static busybox
- `needs_program` of `tests.support.host`: for any other program
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import apt_repository, host
from tests.support.apt_repository import AptRepository
from tests.support.builds import BASE, Builds
from tests.support.busybox import make_busybox_rootfs, missing_busybox
from tests.support.cli import Chimage
from tests.support.debian import DebianAssets, find_assets
from tests.support.registry import PROGRAM, Registry, run_registry

FOREIGN_PREFIXES = ("CH_", "GIT_", "LC_")
"""Variables that change what we or our helpers do, and that a tester may have set."""


def pytest_configure(config: pytest.Config) -> None:
    """Leave out slow tests, unless `-m` says what to run; take signals as a terminal would send them.

    Who starts us in the background, or by nohup, has us ignore some, and so would every program that a test starts.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if not config.option.markexpr:
        config.option.markexpr = "not slow"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this host or this user cannot run."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    if item.get_closest_marker("userns") and not host.user_namespaces_work():
        pytest.skip("unprivileged user namespaces do not work here")
    if item.get_closest_marker("rsync") and not host.has_program("rsync"):
        pytest.skip("rsync is not installed")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the tester's settings: a stray CH_IMAGE_CACHE or GIT_DIR must not decide a test."""
    for name in [name for name in os.environ if name.startswith(FOREIGN_PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "C.UTF-8")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Return the path of a storage directory of this test's own; it does not exist yet."""
    return tmp_path / "storage"


@pytest.fixture
def chimage(storage: Path) -> Chimage:
    """Return the command line, bound to this test's storage directory."""
    return Chimage(storage)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a busybox root file system, shared by all tests: do not write there."""
    if (reason := missing_busybox()) is not None:
        pytest.skip(reason)
    return Path(make_busybox_rootfs(str(tmp_path_factory.mktemp("busybox") / "rootfs")))


@pytest.fixture
def builds(chimage: Chimage, busybox: Path, tmp_path: Path) -> Builds:
    """Return an empty build context, and a storage directory with the busybox image BASE."""
    chimage.run("import", busybox, BASE)
    context = tmp_path / "context"
    context.mkdir()
    return Builds(chimage, context)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Run a registry without TLS, shared by all tests: use repositories of your own."""
    if not host.has_program(PROGRAM):
        pytest.skip(f"{PROGRAM} is not installed")
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def debian() -> DebianAssets:
    """Return the prepared Debian files."""
    assets = find_assets()
    if assets is None:
        pytest.skip("no Debian root file system was prepared (make test, or python -m tests.support.prepare)")
    return assets


@pytest.fixture
def debian_tarball(debian: DebianAssets) -> str:
    """Return the path of a Debian root file system as a tarball."""
    return debian.tarball


@pytest.fixture
def debian_rootfs(debian: DebianAssets) -> str:
    """Return the path of a Debian root file system as a directory, shared by all tests: do not write there."""
    return debian.rootfs()


@pytest.fixture
def debian_repository(debian: DebianAssets) -> Iterator[AptRepository]:
    """Serve the repository of Debian packages for as long as the test runs."""
    with apt_repository.serve(debian.repository) as repository:
        yield repository
