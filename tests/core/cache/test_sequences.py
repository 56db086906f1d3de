"""Whatever happens to images, and in whatever order: each state comes back as it was when it was committed.

Hypothesis makes up sequences of commits (of all kinds), restores, deletions and upkeep, by several processes, and finds
the shortest one that goes wrong. `-m slow` runs many more, and longer ones.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chimage_core.cache.git import gc
from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.git.condense import Means
from chimage_core.cache.protocol import CacheMode, Snapshot
from chimage_core.rootfs.changes import PathsChanged
from chimage_core.rootfs.place import ImagePlace
from tests.core.cache.support import Site, change_in_overlay, commit, open_up
from tests.support import host
from tests.support.image_trees import Described, change_tree, describe, disk_blocks, make_tree, unlocked
from tests.support.repository import complaints

pytestmark = pytest.mark.skipif(not host.has_program("git"), reason="git is not installed")

_SLACK = 256
"""Blocks that a restored file may take more: holes below 64 KiB are not kept, and extents cost some."""
_seeds = st.integers(0, 2**32)
_steps = st.sampled_from((1, 3, 12))
_images = st.sampled_from(("one", "two"))


class Remembered(NamedTuple):
    """What the cache has promised to give back."""

    snapshot: Snapshot
    tree: dict[bytes, Described]


class Sequences(RuleBasedStateMachine):
    """Images `one` and `two` in a repository, and what they must be."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._stack.callback(self._forget, directory)
        self.site = Site(Path(directory))
        self.may_link = False
        self.cache = self._process()
        self.known: list[Remembered] = []
        self.heads: dict[str, Remembered] = {}
        self.deleted: dict[str, list[Remembered]] = {}
        self.forgotten: set[str] = set()
        """Images of which nobody knows what their files looked like."""
        self.copies = self.keys = 0

    def teardown(self) -> None:
        """Ask Git, and restore the last states once more, in a new process."""
        with self._stack:
            self.cache = self._process()
            assert complaints(self.site.repository) == ""
            assert len(self.site.git("log", "--all", "--format=%s").splitlines()) >= len(self.known) > 0
            for remembered in self.known[-3:]:
                self._restore_beside(remembered)

    def _forget(self, directory: str) -> None:
        """Let everything be removed; Hypothesis keeps this object, and the cache has open files."""
        del self.cache
        with unlocked(directory):
            pass

    @initialize(seed=_seeds, may_link=st.booleans())
    def start(self, seed: int, may_link: bool) -> None:
        self.may_link = may_link
        self.start_new_process()
        for name in ("one", "two"):
            place = self.site.place(name)
            make_tree(place.root, Random(f"{seed} {name}"), 20)
            self._committed(name, commit(self.cache, place, key=name.encode()))

    @rule(name=_images, seed=_seeds, steps=_steps)
    def commit_by_walk(self, name: str, seed: int, steps: int) -> None:
        place, parent = self._opened(name)
        change_tree(place.root, Random(seed), steps)
        self._committed(name, commit(self.cache, place, parent, key=self._key()))

    @rule(name=_images, seed=_seeds, steps=_steps)
    def commit_by_paths(self, name: str, seed: int, steps: int) -> None:
        """As COPY: all that changes is below one directory."""
        place, parent = self._opened(name)
        random, top = Random(seed), os.fsencode(place.root)
        with unlocked(place.root, {}):
            directories = [directory for directory, _, _ in os.walk(top)]
            directory = random.choice(directories)
            if directory != top:
                change_tree(os.fsdecode(directory), random, steps)
        paths = (os.fsdecode(os.path.relpath(directory, top)),)
        self._committed(name, commit(self.cache, place, parent, key=self._key(), changes=PathsChanged(paths)))

    @precondition(lambda _: host.user_namespaces_work())
    @rule(name=_images, seed=_seeds, steps=_steps)
    def commit_by_overlay(self, name: str, seed: int, steps: int) -> None:
        """As RUN. Then a walk must find nothing that the merge has not told."""
        place, parent = self.site.place(name), self.heads[name]
        self.cache.restore(parent.snapshot, place)
        changes = change_in_overlay(place, seed, steps)
        snapshot = commit(self.cache, place, parent.snapshot, key=self._key(), changes=changes)
        self._committed(name, snapshot)

    @rule(name=_images)
    def commit_nothing(self, name: str) -> None:
        """A walk finds nothing new, whatever way the place was brought to where it is."""
        place, parent = self._opened(name)
        snapshot = commit(self.cache, place, parent, key=self._key())
        # Else hard links have got new numbers, or large files that cannot be read are kept elsewhere.
        if name not in self.forgotten and not self.may_link:
            trees = self.site.git("rev-parse", f"{parent.token}:root", f"{snapshot.token}:root").split()
            assert trees[0] == trees[1], self.site.git("diff", *trees)
        self.forgotten.discard(name)
        self._committed(name, snapshot)

    @rule(name=_images, number=st.integers(0, 100), seed=_seeds, is_dirty=st.booleans())
    def restore_in_place(self, name: str, number: int, seed: int, is_dirty: bool) -> None:
        """Over another state, that of the other image too, and over what a failed step left."""
        place, remembered = self.site.place(name), self.known[number % len(self.known)]
        if is_dirty:
            open_up(self.cache, place)
            change_tree(place.root, Random(seed), 3)
        self.cache.restore(remembered.snapshot, place)
        assert describe(place.root) == remembered.tree
        self.heads[name] = remembered
        self.cache.publish(name, remembered.snapshot)

    @rule(number=st.integers(0, 100))
    def restore_in_new_place(self, number: int) -> None:
        self._restore_beside(self.known[number % len(self.known)])

    @rule(name=_images)
    def delete(self, name: str) -> None:
        self.cache.forget(name)
        assert self.cache.head(name) is None
        self.deleted.setdefault(name, []).append(self.heads[name])
        self.cache.publish(name, self.heads[name].snapshot)

    @precondition(lambda self: any(self.deleted.values()))
    @rule(name=_images)
    def undelete(self, name: str) -> None:
        if self.deleted.get(name):
            remembered = self.deleted[name].pop()
            deletion = self.cache.deleted(name)[0]
            assert deletion.snapshot == remembered.snapshot
            self.cache.recover(deletion)
            place = self.site.place(name)
            self.cache.restore(remembered.snapshot, place)
            assert describe(place.root) == remembered.tree
            self.heads[name] = remembered

    @rule()
    def start_new_process(self) -> None:
        self.cache = self._process()

    @rule(name=_images, is_damaged=st.booleans())
    def lose_stat_cache(self, name: str, is_damaged: bool) -> None:
        path = Path(self.site.place(name).side, "stat")
        if is_damaged and path.exists():
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.unlink(missing_ok=True)
        self.forgotten.add(name)
        self.cache = self._process()

    @rule()
    def pack_by_git(self) -> None:
        """What anybody may do to an ordinary repository."""
        self.site.git("repack", "-adfq", "--window=5")
        self.site.git("pack-refs", "--all", "--prune")
        self.site.git("prune", "--expire=now")

    @rule(with_git=st.booleans())
    def collect(self, with_git: bool) -> None:
        """What no image needs, nor a deletion that can be undone, is gone; everything else is as before."""
        needed = set(self.site.git("rev-list", "--glob=refs/images", "--glob=refs/deleted").split())
        git = shutil.which("git") if with_git else None
        engine = self._process().engine
        gc.collect(engine, gc.Request(0, Means(git, 1), engine.large.directory, str(self.site.root / "lru")))
        self.cache = self._process()
        self.known = [remembered for remembered in self.known if remembered.snapshot.token in needed]
        assert set(self.site.git("rev-list", "--all").split()) == needed
        for remembered in (*self.heads.values(), *self.known):
            assert self.cache.find(remembered.snapshot.state) is not None

    @rule()
    def sweep(self) -> None:
        self.cache.sweep()

    @rule(name=_images, seed=_seeds)
    def rebuild(self, name: str, seed: int) -> None:
        """The state of an image is recorded anew; who has the old commit keeps it."""
        place, before = self.site.place(name), self.heads[name]
        cache = self._process(CacheMode.REBUILD)
        open_up(self.cache, place)
        change_tree(place.root, Random(seed), 2)
        cache.restore(before.snapshot, place)
        open_up(cache, place)
        change_tree(place.root, Random(seed), 2)
        key = self._key()
        first = commit(cache, place, before.snapshot, key=key)
        change_tree(place.root, Random(seed + 1), 2)
        second = commit(cache, place, before.snapshot, key=key)
        self.cache = self._process()
        assert first.state == second.state
        assert self.cache.find(first.state) == second
        self._committed(name, second)

    def _process(self, mode: CacheMode = CacheMode.ENABLED) -> GitCache:
        """Open the cache as another process would."""
        return self.site.cache(mode=mode, may_link=self.may_link)

    def _opened(self, name: str) -> tuple[ImagePlace, Snapshot]:
        """Bring an image to its head, and say that it will be changed."""
        place, parent = self.site.place(name), self.heads[name].snapshot
        self.cache.restore(parent, place)
        open_up(self.cache, place)
        assert describe(place.root) == self.heads[name].tree
        return place, parent

    def _committed(self, name: str, snapshot: Snapshot) -> None:
        remembered = Remembered(snapshot, describe(self.site.place(name).root))
        assert self.cache.held(self.site.place(name)) == snapshot
        assert self.cache.find(snapshot.state) == snapshot
        self.cache.publish(name, snapshot)
        self.known.append(remembered)
        self.heads[name] = remembered

    def _restore_beside(self, remembered: Remembered) -> None:
        self.copies += 1
        place = self.site.place(f"copy{self.copies}")
        self.cache.restore(remembered.snapshot, place)
        assert describe(place.root) == remembered.tree
        for name, head in self.heads.items():
            if head == remembered and self.cache.held(self.site.place(name)) == head.snapshot:
                before = disk_blocks(self.site.place(name).root)
                grown = {path for path, blocks in disk_blocks(place.root).items() if blocks > before[path] + _SLACK}
                assert grown == set()

    def _key(self) -> bytes:
        self.keys += 1
        return b"%d" % self.keys


_COMMON = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


class TestSequences(Sequences.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(_COMMON, max_examples=12, stateful_step_count=12)


@pytest.mark.slow
class TestManySequences(Sequences.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(_COMMON, max_examples=300, stateful_step_count=40)
