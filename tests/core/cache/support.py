"""What the tests of the build cache share."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.protocol import CacheMode, Snapshot, StepRecord
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs.changes import AnythingChanged, Changes
from chimage_core.rootfs.place import ImagePlace
from tests.support.recorder import Recorder

CONFIG = ImageConfig(architecture="amd64")


class Site:
    """A small storage directory: a repository and places for images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = str(root / "cache" / "git")
        self.events = Recorder()
        self.cancel = CancelToken()
        (root / "img").mkdir(exist_ok=True)

    def cache(
        self, *, mode: CacheMode = CacheMode.ENABLED, xattrs: bool = True, clock: int = 1_700_000_000
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
        )

    def place(self, name: str) -> ImagePlace:
        """Return where the image of this name is."""
        return ImagePlace(name, str(self.root / "img" / name), str(self.root / "img.d" / name))

    def git(self, *arguments: str) -> str:
        """Run git on the repository, as far from the user's configuration as possible."""
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            ["git", "-C", self.repository, *arguments], check=True, capture_output=True, text=True, env=environment
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


def write_files(root: str, files: dict[str, str], directories: Iterable[str] = ()) -> None:
    """Write text files by relative path, and make directories."""
    for directory in directories:
        os.makedirs(os.path.join(root, directory), exist_ok=True)
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as file:
            file.write(text)
