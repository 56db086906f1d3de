"""What is on the disk after a step, and what it is compared with."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass

GIT_BEST = ("repack", "-adF", "-q", "--window=250", "--depth=50")
"""The smallest that Git can do with some patience; with its own compression level, not the one of our configuration."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Sizes in bytes."""

    used: int
    of: int | None
    """What `used` is compared with; None: nothing."""


def used(path: str) -> int:
    """Return the bytes that a directory takes on the disk, as du(1) counts: whole blocks, and a hard link once."""
    total, seen = 0, set()
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def files_in(path: str) -> int:
    """Return the number of entries but directories below a directory; 0 if it is not there."""
    return sum(len(files) for _, _, files in os.walk(path))


def storage_of_image(directory: str) -> Disk:
    """Return the whole storage directory of a peer, compared with the unpacked image `base` in it."""
    storage = os.path.join(directory, "storage")
    return Disk(used(storage), used(os.path.join(storage, "img", "base")))


def objects(directory: str) -> Disk:
    """Return the Git objects of a peer's cache; ours compared with what `remember_best` found."""
    best = os.path.join(directory, "best.json")
    of = None
    if os.path.exists(best):
        with open(best, encoding="ascii") as file:
            of = json.load(file)
    return Disk(_objects(_repository(directory)), of)


def remember_best(directory: str) -> None:
    """Find out how small Git can make our cache, in a copy, and write it down for `objects`.

    Only ours: the goal compares us with Git, not with another repository.
    """
    repository = _repository(directory)
    if os.path.basename(repository) != "git":
        return
    copy = os.path.join(directory, "best.git")
    shutil.copytree(repository, copy)
    environment = {"PATH": os.defpath, "HOME": directory, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", copy, "-c", "pack.compression=-1", *GIT_BEST], check=True, env=environment)
    with open(os.path.join(directory, "best.json"), "w", encoding="ascii") as file:
        json.dump(_objects(copy), file)
    shutil.rmtree(copy)


def remove(path: str) -> None:
    """Remove a directory with all that is in it, also what nobody may enter."""
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False)
    shutil.rmtree(path)


def _repository(directory: str) -> str:
    """Return the cache's repository, ours or ch-image's."""
    ours = os.path.join(directory, "storage", "cache", "git")
    return ours if os.path.isdir(ours) else os.path.join(directory, "storage", "bucache")


def _objects(repository: str) -> int:
    return used(os.path.join(repository, "objects"))
