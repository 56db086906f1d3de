"""Make what tests need from the network: `python -m tests.support.prepare`. Run by `make test`, before the tests.

A Debian root file system comes from mmdebstrap, which works without privilege (with subordinate user IDs by user
namespaces, else by fakechroot); packages on top of it from apt-get, which downloads as any user when told to keep its
files elsewhere. Both use the Debian archive that this host is configured to use.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

from tests.support.apt_repository import write_index
from tests.support.debian import PACKAGES, RECIPE, DebianAssets, cache_directory, find_assets

COMMANDS = ("mmdebstrap", "apt-get", "dpkg-deb", "tar")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class PreparationError(Exception):
    """Something is missing on this host; the message says what."""


def prepare() -> str:
    """Make the Debian files, if they are not there, and return their directory. Raises PreparationError.

    Two processes may call this at the same time: the second waits and finds everything made.
    """
    cache = cache_directory()
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (assets := find_assets()) is not None:
            return assets.directory
        return _make(cache)


def _make(cache: str) -> str:
    missing = [name for name in COMMANDS if shutil.which(name, path=PATH) is None]
    if missing:
        raise PreparationError(f"not installed: {', '.join(missing)}")
    sources = _debian_sources()
    with tempfile.TemporaryDirectory(dir=cache, prefix="making.", ignore_cleanup_errors=True) as scratch:
        assets = DebianAssets(os.path.join(scratch, "debian"))
        os.makedirs(assets.repository)
        _bootstrap(assets.tarball, sources)
        _download_packages(assets, sources, scratch)
        write_index(assets.repository)
        return shutil.move(assets.directory, os.path.join(cache, f"debian-{RECIPE}"))


def _bootstrap(tarball: str, sources: str) -> None:
    """Make the root file system. What mmdebstrap thinks best may yet fail: so try again with fakechroot.

    It works in the system's temporary directory, since subordinate users cannot enter a private one.
    """
    argv = ["mmdebstrap", "--quiet", "--variant=minbase"]
    try:
        _run([*argv, "--mode=auto", "", tarball, "-"], stdin=sources)
    except PreparationError as error:
        if shutil.which("fakechroot", path=PATH) is None:
            raise
        print(f"trying again with fakechroot: {error}", file=sys.stderr)
        _run([*argv, "--mode=fakechroot", "", tarball, "-"], stdin=sources)


def _debian_sources() -> str:
    """Return lines for sources.list: the suites of the Debian archive that this host's apt knows."""
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    select = ["Created-By: Packages", "Origin: Debian"]
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", form, *select], capture_output=True, text=True, check=False
    )
    lines = sorted(set(found.stdout.splitlines()))
    if not lines:
        raise PreparationError("apt has no package lists of Debian (run apt-get update as root)")
    return "".join(f"{line}\n" for line in lines)


def _download_packages(assets: DebianAssets, sources: str, scratch: str) -> None:
    """Download PACKAGES with everything they need on top of the root file system."""
    state = os.path.join(scratch, "apt")
    os.makedirs(os.path.join(state, "lists/partial"))
    os.makedirs(os.path.join(state, "archives/partial"))
    with open(os.path.join(state, "sources.list"), "w", encoding="utf-8") as file:
        file.write(sources)
    with tarfile.open(assets.tarball) as tarball, open(os.path.join(state, "status"), "wb") as status:
        installed = tarball.extractfile("./var/lib/dpkg/status")
        assert installed is not None
        shutil.copyfileobj(installed, status)
    options = {
        "Dir::State": state,
        "Dir::State::status": f"{state}/status",
        "Dir::Cache": state,
        "Dir::Etc::SourceList": f"{state}/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "--quiet=2", *(f"--option={key}={value}" for key, value in options.items())]
    _run([*apt, "update"])
    _run([*apt, "--yes", "--download-only", "install", *PACKAGES])
    for name in os.listdir(f"{state}/archives"):
        if name.endswith(".deb"):
            # apt writes the colon of a version as %3a, which would need quoting again in a URL.
            shutil.copy(f"{state}/archives/{name}", os.path.join(assets.repository, name.replace("%3a", "_")))


def _run(argv: list[str], *, stdin: str = "") -> None:
    """Run a program. Raises PreparationError with what it said, if it fails."""
    environment = {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise PreparationError(f"{argv[0]} failed with exit status {done.returncode}\n{said}")


def main() -> int:
    """Prepare, say what was made or why not, and return the exit status."""
    try:
        print(prepare())
    except PreparationError as error:
        print(f"cannot prepare a Debian root file system: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
