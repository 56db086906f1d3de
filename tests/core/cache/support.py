"""What the tests of the build cache share."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.protocol import CacheMode, Snapshot, StepRecord
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.fs import xattr
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs import overlay
from chimage_core.rootfs.changes import AnythingChanged, Changes, UpperChanged
from chimage_core.rootfs.place import ImagePlace
from tests.support.recorder import Recorder

CONFIG = ImageConfig(architecture="amd64")

_PROJECT = str(Path(__file__).parents[3])
_IN_OVERLAY = """
import ctypes, os, sys
sys.path[:0] = [sys.argv[1]]
root, upper, work, mount = sys.argv[2:6]
options = f"lowerdir={root},upperdir={upper},workdir={work},userxattr".encode()
library = ctypes.CDLL(None, use_errno=True)
if library.mount(b"overlay", mount.encode(), b"overlay", 0, options):
    print(os.strerror(ctypes.get_errno()), file=sys.stderr)
    sys.exit(77)
os.chdir(mount)
"""
_CHANGE_RANDOMLY = """
from random import Random
from tests.support.image_trees import change_tree
change_tree(mount, Random(int(sys.argv[6])), int(sys.argv[7]))
"""


class Site:
    """A small storage directory: a repository and places for images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = str(root / "cache" / "git")
        self.events = Recorder()
        self.cancel = CancelToken()
        (root / "img").mkdir(exist_ok=True)

    def cache(
        self,
        *,
        mode: CacheMode = CacheMode.ENABLED,
        xattrs: bool = True,
        clock: int = 1_700_000_000,
        declared: int = 0,
        may_link: bool = False,
    ) -> GitCache:
        """Open the cache as another process would."""
        return GitCache(
            self.repository,
            mode=mode,
            emit=self.events,
            cancel=self.cancel,
            sync=False,
            xattrs=xattrs,
            workers=2,
            clock=lambda: clock,
            declared=declared,
            may_link=lambda: may_link,
        )

    def place(self, name: str) -> ImagePlace:
        """Return where the image of this name is."""
        return ImagePlace(name, str(self.root / "img" / name), str(self.root / "img.d" / name))

    def git(self, *arguments: str) -> str:
        """Run git on the repository, as far from the user's configuration as possible."""
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            ["git", "-C", self.repository, *arguments],
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
        ).stdout


def commit(
    cache: GitCache,
    place: ImagePlace,
    parent: Snapshot | None = None,
    *,
    key: bytes | None = b"key",
    text: str = "RUN.S true",
    changes: Changes | None = None,
    config: ImageConfig = CONFIG,
) -> Snapshot:
    """Commit a place. Without a key, the content is the identity."""
    state = None if key is None else StateID.root(key) if parent is None else parent.state.child(key)
    record = StepRecord(parent=parent, state=state, text=text, config=config, changes=changes or AnythingChanged())
    return cache.commit(place, record)


def open_up(cache: GitCache, place: ImagePlace) -> None:
    """Prepare a place for changes to its files where they are, as a RUN without overlay does."""
    cache.opening(place)
    cache.unshare(place)


def write_files(root: str, files: dict[str, str], directories: Iterable[str] = ()) -> None:
    """Write text files by relative path, and make directories."""
    for directory in directories:
        os.makedirs(os.path.join(root, directory), exist_ok=True)
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as file:
            file.write(text)


def run_in_overlay(place: ImagePlace, program: str, *arguments: str) -> UpperChanged:
    """Run a Python program as root in a new overlay on the place."""
    upper, work, mount = (f"{place.side}/{name}" for name in ("upper", "work", "mount"))
    overlay.prepare(upper, work)
    _copy_metadata(place.root, upper)  # As runners do: this directory is the root inside.
    os.makedirs(mount, exist_ok=True)
    argv = ["unshare", "-Urm", sys.executable, "-c", _IN_OVERLAY + program]
    result = subprocess.run(
        [*argv, _PROJECT, place.root, upper, work, mount, *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode == 77:
        pytest.skip(f"no overlay without privilege here: {result.stderr}")
    assert result.returncode == 0, result.stderr
    return UpperChanged(upper, work)


def _copy_metadata(source: str, target: str) -> None:
    status = os.lstat(source)
    os.chmod(source, 0o700)  # An ordinary user may not read the attributes of what is closed.
    attributes = xattr.read(source)
    os.chmod(source, status.st_mode)
    xattr.write(target, attributes)
    os.chmod(target, status.st_mode)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_in_overlay(place: ImagePlace, seed: int, steps: int) -> UpperChanged:
    """Change a place at random in a new overlay."""
    return run_in_overlay(place, _CHANGE_RANDOMLY, str(seed), str(steps))
