"""The history of all snapshots, read from commits, and the disk space it takes."""

import contextlib
import heapq
import os

from chimage_core.cache.git.objects import COMMIT, Commit
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.refs import IMAGES, References, unescape
from chimage_core.cache.protocol import CacheGraph, GraphNode
from chimage_core.errors import NotInCache


def read_graph(store: ObjectStore, references: References) -> CacheGraph:
    """Return all commits that a reference leads to: newest first, but children before parents. Raises CacheBroken."""
    heads = references.below("refs/")
    images: dict[bytes, list[str]] = {}
    for name, commit in heads.items():
        if name.startswith(IMAGES):
            images.setdefault(commit, []).append(unescape(name.removeprefix(IMAGES)))
    commits = _read_commits(store, set(heads.values()))
    return CacheGraph(
        tuple(
            GraphNode(
                token=name.hex(),
                state=commits[name].state,
                parents=tuple(parent.hex() for parent in commits[name].parents),
                text=commits[name].text,
                time=commits[name].time,
                images=tuple(sorted(images.get(name, ()))),
            )
            for name in _ordered(commits)
        )
    )


def disk_use(directory: str) -> tuple[int, int]:
    """Return the number of files below a directory, and the bytes they take on the disk."""
    files = size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(parent, name)).st_blocks * 512
                files += 1
    return files, size


def _read_commits(store: ObjectStore, heads: set[bytes]) -> dict[bytes, Commit]:
    commits: dict[bytes, Commit] = {}
    pending = list(heads)
    while pending:
        name = pending.pop()
        if name in commits:
            continue
        try:
            commits[name] = Commit.decode(store.read_kind(name, COMMIT))
        except NotInCache:  # A history that was cut off (a shallow fetch), or a reference that just went away.
            continue
        pending += commits[name].parents
    return commits


def _ordered(commits: dict[bytes, Commit]) -> list[bytes]:
    """Return names newest first, each before its parents, whatever the clocks said."""
    children = dict.fromkeys(commits, 0)
    for commit in commits.values():
        for parent in commit.parents:
            if parent in children:
                children[parent] += 1
    ready = [(-commit.time, name) for name, commit in commits.items() if not children[name]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(name)
        for parent in commits[name].parents:
            if parent in children:
                children[parent] -= 1
                if not children[parent]:
                    heapq.heappush(ready, (-commits[parent].time, parent))
    return order
