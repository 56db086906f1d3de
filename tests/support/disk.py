"""The room that files take, added up another way than chimage does it."""

import os
import subprocess
from pathlib import Path

OURS = (".", "blobs", "cache", "cache-mounts", "img", "img.d", "jobs", "locks", "sessions", "trash", "work")
"""Directories of a storage directory that are always there, and whose own size says nothing."""


def du(path: str | os.PathLike[str]) -> int:
    """Return what du(1) says of a file or directory, in bytes."""
    done = subprocess.run(["du", "-s", "--block-size=1", path], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0])


def room(storage: str | os.PathLike[str]) -> int:
    """Return the room that a storage directory takes, without locks and the directories that are always there."""
    top = Path(storage)
    kept = [top / name for name in OURS if (top / name).is_dir()]
    kept += [path for path in (top / "cache").rglob("*") if path.is_dir()]
    kept += [path for path in (top / "blobs").rglob("*") if path.is_dir()]
    kept += [path for path in (top / "lock", *top.glob("locks/*"), *top.glob("sessions/*")) if path.exists()]
    return du(top) - sum(os.lstat(path).st_blocks * 512 for path in kept)
