"""The history of all snapshots, read from commits, and the disk space it takes."""

import contextlib
import heapq
import os
from collections.abc import Iterable

from chimage_core.cache.git.objects import COMMIT, Commit
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.refs import IMAGES, References, deletions, unescape
from chimage_core.cache.protocol import CacheGraph, GraphNode
from chimage_core.errors import NotInCache


def read_graph(store: ObjectStore, references: References) -> CacheGraph:
    """Return all commits that a reference leads to: newest first, but children before parents. Raises CacheBroken."""
    heads = references.below("refs/")
    images: dict[bytes, list[str]] = {}
    deleted: dict[bytes, set[str]] = {}
    for reference, commit in heads.items():
        if reference.startswith(IMAGES):
            images.setdefault(commit, []).append(unescape(reference.removeprefix(IMAGES)))
    for image, _, commit in deletions(heads):
        deleted.setdefault(commit, set()).add(image)
    commits = read_commits(store, set(heads.values()))
    order = _ordered(commits)
    named, recoverable = _with_ancestors(order, commits, images), _with_ancestors(order, commits, deleted)
    return CacheGraph(
        tuple(
            GraphNode(
                token=name.hex(),
                state=commits[name].state,
                parents=tuple(parent.hex() for parent in commits[name].parents),
                text=commits[name].text,
                time=commits[name].time,
                images=tuple(sorted(images.get(name, ()))),
                deleted=tuple(sorted(deleted.get(name, ()))),
                kept_by="image" if name in named else "deleted" if name in recoverable else "nothing",
            )
            for name in order
        )
    )


def count_commits(store: ObjectStore, references: References) -> int:
    """Return how many commits the references lead to: the number of nodes of the graph, sooner."""
    pending = list(references.below("refs/").values())
    seen = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            with contextlib.suppress(NotInCache):
                head = store.read_kind(name, COMMIT).partition(b"\n\n")[0]
                seen.add(name)
                pending += [bytes.fromhex(line[7:].decode()) for line in head.split(b"\n") if line[:7] == b"parent "]
    return len(seen)


def disk_use(directory: str) -> tuple[int, int]:
    """Return the number of files below a directory, and the bytes they take on the disk."""
    files = size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(parent, name)).st_blocks * 512
                files += 1
    return files, size


def _with_ancestors(order: list[bytes], commits: dict[bytes, Commit], heads: Iterable[bytes]) -> set[bytes]:
    """Return the commits that some heads keep. `order` has children before parents."""
    kept = set(heads)
    for name in order:
        if name in kept:
            kept.update(commits[name].parents)
    return kept


def read_commits(store: ObjectStore, heads: Iterable[bytes]) -> dict[bytes, Commit]:
    """Return these commits and their ancestors, by name, as far as they are there. Raises CacheBroken."""
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
