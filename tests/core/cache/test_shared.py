"""The cache of another storage directory, used read-only beside one's own.

`theirs` is made by the site and then made unwritable; `mine` is the user's.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.git.objects import BLOB, identify
from chimage_core.cache.git.shared import SharedCache
from chimage_core.cache.protocol import CacheMode, Snapshot
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError, NotInCache
from chimage_core.events import Notice, Warned
from chimage_core.rootfs.place import ImagePlace
from tests.core.cache.support import Site, commit, write_files
from tests.support.builds import traces
from tests.support.host import needs_program
from tests.support.image_trees import describe
from tests.support.recorder import Recorder
from tests.support.repository import fsck

BASE = {"bin/tool": "tool" * 1000, "etc/conf": "conf", "usr/lib/a": "a", "usr/lib/b": "b"}


class Pair:
    """A site's cache with an image `base` and a state on top of it, and a user's storage directory."""

    def __init__(self, root: Path) -> None:
        (root / "theirs").mkdir()
        (root / "mine").mkdir()
        self.theirs, self.mine = Site(root / "theirs"), Site(root / "mine")
        self.events = Recorder()
        place = self.theirs.place("base")
        write_files(place.root, BASE)
        cache = self.theirs.cache()
        self.base = commit(cache, place, key=b"base", text="IMPORT base")
        cache.publish("base", self.base)
        write_files(place.root, {"site": "step"})
        self.step = commit(cache, place, self.base, key=b"step")
        cache.publish("stepped", self.step)

    def open(self, *, shared: bool = True, mode: CacheMode = CacheMode.ENABLED) -> GitCache:
        """Open the user's cache as another process would."""
        return GitCache(
            self.mine.repository,
            mode=mode,
            emit=self.events,
            cancel=CancelToken(),
            sync=False,
            workers=2,
            shared=[SharedCache(self.theirs.repository)] if shared else [],
        )

    def place(self, name: str) -> ImagePlace:
        return self.mine.place(name)

    def build_on_top(self) -> Snapshot:
        """Add a step of the user's own to the site's, as image `own`."""
        cache, place = self.open(), self.place("own")
        found = cache.find(self.step.state)
        assert found is not None
        cache.restore(found, place)
        write_files(place.root, {"mine": "step"})
        snapshot = commit(cache, place, found, key=b"mine")
        cache.publish("own", snapshot)
        return snapshot

    def drop(self) -> None:
        """Let the site delete all its images and states, and collect its garbage."""
        for kind in ("images", "states"):
            shutil.rmtree(os.path.join(self.theirs.repository, "refs", kind))
            os.mkdir(os.path.join(self.theirs.repository, "refs", kind))
        self.theirs.git("repack", "-adq")
        self.theirs.git("prune-packed")
        for path in Path(self.theirs.repository, "objects/pack").iterdir():
            path.unlink()


def entries(cache: GitCache) -> set[bytes]:
    """Return the names of the objects in the packs of a repository itself."""
    return {name for pack in cache.engine.store.packs() for _, name in pack.entries()}


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def sealed(pair: Pair) -> Iterator[Pair]:
    """Return a pair whose shared side nobody can write, as if it were mounted read-only; check that nobody tried."""
    top = pair.theirs.root / "cache"
    modes = {path: stat.S_IMODE(os.lstat(path).st_mode) for path in (top, *top.rglob("*"))}
    for path, mode in modes.items():
        os.chmod(path, mode & ~0o222)
    before = traces(top)
    try:
        yield pair
        assert traces(top) == before
    finally:
        for path, mode in modes.items():
            os.chmod(path, mode)


def test_a_state_of_the_shared_cache_is_a_hit_and_can_be_restored(sealed: Pair) -> None:
    cache = sealed.open()
    assert cache.find(sealed.step.state) == sealed.step
    assert cache.config(sealed.step) == sealed.theirs.cache().config(sealed.step)
    place = sealed.place("image")
    cache.restore(sealed.step, place)
    assert describe(place.root) == describe(sealed.theirs.place("base").root)
    assert sealed.open().held(place) == sealed.step


def test_looking_writes_nothing_anywhere(sealed: Pair) -> None:
    cache = sealed.open()
    cache.find(sealed.step.state)
    cache.shared_head("base")
    cache.config(sealed.step)
    assert not os.path.exists(sealed.mine.repository)


def test_what_is_on_top_is_our_own_and_only_what_is_new(sealed: Pair) -> None:
    snapshot = sealed.build_on_top()
    own = entries(sealed.open())
    assert bytes.fromhex(snapshot.token) in own
    assert bytes.fromhex(sealed.step.token) not in own
    assert not own & entries(sealed.theirs.cache())
    assert sealed.open().find(snapshot.state) == snapshot


@pytest.mark.parametrize("files", [3, 300])
def test_what_stands_on_a_shared_state_does_not_store_again_what_that_has(sealed: Pair, files: int) -> None:
    """Its files, touched and read again, also by several processes; but what other images have by chance is stored."""
    cache, place = sealed.open(), sealed.place("own")
    cache.restore(sealed.base, place)
    shutil.copytree(f"{place.root}/bin", f"{place.root}/bin2")
    write_files(place.root, {f"new/{number}": f"new {number}" for number in range(files)} | {"site": "step"})
    commit(cache, place, sealed.base, key=b"own")
    own = entries(sealed.open())
    assert identify(BLOB, (BASE["bin/tool"]).encode()) not in own
    assert identify(BLOB, b"new 0") in own
    assert identify(BLOB, b"step") in own
    assert identify(BLOB, b"step") in entries(sealed.theirs.cache())


@pytest.mark.parametrize("files", [0, 300])
def test_an_import_of_the_same_files_depends_on_nobody(pair: Pair, files: int) -> None:
    cache, place = pair.open(), pair.place("copy")
    write_files(place.root, {**BASE, "empty": "", **{f"more/{number}": str(number) for number in range(files)}})
    snapshot = commit(cache, place, key=b"copy")
    cache.publish("copy", snapshot)
    os.rename(pair.theirs.root, f"{pair.theirs.root}.away")
    fresh = pair.open(shared=False)
    assert fresh.head("copy") == snapshot
    fresh.restore(snapshot, pair.place("again"))
    assert describe(pair.place("again").root) == describe(place.root)


def test_later_the_repository_works_without_being_told_of_the_shared_one(sealed: Pair) -> None:
    snapshot = sealed.build_on_top()
    tree = describe(sealed.place("own").root)
    cache = sealed.open(shared=False)
    assert cache.head("own") == snapshot
    assert cache.find(snapshot.state) == snapshot
    assert cache.find(sealed.step.state) is None, "its references are used only on request"
    assert cache.shared_head("base") is None
    cache.restore(snapshot, sealed.place("again"))
    assert describe(sealed.place("again").root) == tree
    assert [node.text for node in cache.graph().nodes] == ["RUN.S true", "RUN.S true", "IMPORT base"]


@needs_program("git")
def test_git_agrees_before_and_after_its_own_clean_up(sealed: Pair) -> None:
    snapshot = sealed.build_on_top()
    tree = describe(sealed.place("own").root)
    assert fsck(sealed.mine.root) == ""
    for arguments in (("repack", "-adlq"), ("gc", "--prune=now", "-q"), ("repack", "-adFlq"), ("pack-refs", "--all")):
        sealed.mine.git(*arguments)
        assert fsck(sealed.mine.root) == ""
        cache = sealed.open()
        assert cache.find(snapshot.state) == snapshot
        shutil.rmtree(sealed.place("own").root)
        cache.restore(snapshot, sealed.place("own"))
        assert describe(sealed.place("own").root) == tree


def test_merging_our_packs_takes_nothing_from_the_shared_one(sealed: Pair) -> None:
    """A step makes a pack, and many small packs are merged."""
    cache, place, parent = sealed.open(), sealed.place("own"), sealed.step
    cache.restore(parent, place)
    for number in range(40):
        write_files(place.root, {"count": str(number)})
        parent = commit(cache, place, parent, key=b"%d" % number)
    fresh = sealed.open()
    assert len(fresh.engine.store.packs()) < 40
    assert bytes.fromhex(sealed.base.token) not in entries(fresh)
    fresh.restore(parent, sealed.place("copy"))
    assert describe(sealed.place("copy").root) == describe(place.root)


def test_an_image_of_the_site_is_a_base_but_none_of_ours(sealed: Pair) -> None:
    cache = sealed.open()
    assert cache.head("base") is None
    assert cache.shared_head("base") == sealed.base
    assert cache.names() == ()
    assert cache.shared_head("other") is None
    notice = sealed.events.one(Notice)
    assert notice.level == "verbose"
    assert sealed.theirs.repository in notice.text


def test_rebuild_mode_takes_images_of_the_site_but_no_steps(sealed: Pair) -> None:
    cache = sealed.open(mode=CacheMode.REBUILD)
    assert cache.find(sealed.step.state) is None
    assert cache.shared_head("base") == sealed.base


def test_our_own_state_comes_first(sealed: Pair) -> None:
    """Two builds of one state may differ; what we made is what our images are built on."""
    cache, place = sealed.open(mode=CacheMode.REBUILD), sealed.place("own")
    cache.restore(sealed.base, place)
    write_files(place.root, {"site": "step, but ours"})
    ours = commit(cache, place, sealed.base, key=b"step")
    assert ours.state == sealed.step.state
    assert ours != sealed.step
    assert sealed.open().find(ours.state) == ours


def test_a_shared_state_can_be_our_image_be_deleted_and_come_back(sealed: Pair) -> None:
    cache = sealed.open()
    cache.publish("mine", sealed.step)
    assert sealed.open(shared=False).head("mine") == sealed.step
    cache.forget("mine")
    assert cache.head("mine") is None
    (deletion,) = sealed.open().deleted("mine")
    sealed.open().recover(deletion)
    assert sealed.open().head("mine") == sealed.step


def test_a_storage_directory_without_a_cache_shares_nothing(pair: Pair, tmp_path: Path) -> None:
    cache = GitCache(
        pair.mine.repository,
        emit=pair.events,
        cancel=CancelToken(),
        sync=False,
        shared=[SharedCache(str(tmp_path / "empty/cache/git"))],
    )
    write_files(pair.place("x").root, {"file": "x"})
    commit(cache, pair.place("x"))
    assert not os.path.exists(os.path.join(pair.mine.repository, "objects/info/alternates"))


def test_another_format_is_refused(pair: Pair) -> None:
    config = Path(pair.theirs.repository, "config")
    config.write_text(config.read_text().replace("format = 1", "format = 2"))
    with pytest.raises(CacheError, match="format 2"):
        pair.open()


def test_a_path_that_cannot_be_named_in_a_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="line feed"):
        SharedCache(str(tmp_path / "a\nb"))


def test_when_the_shared_cache_is_gone_what_stood_on_it_is_a_miss(pair: Pair) -> None:
    snapshot = pair.build_on_top()
    os.rename(pair.theirs.root, f"{pair.theirs.root}.away")
    cache = pair.open(shared=False)
    assert cache.find(snapshot.state) is None
    assert cache.find(pair.step.state) is None
    assert cache.head("own") is None
    assert cache.names() == ("own",)
    warning = pair.events.one(Warned)
    assert pair.theirs.repository in warning.text
    with pytest.raises(NotInCache, match=pair.theirs.repository):
        cache.config(pair.step)
    # When it is back, so is everything.
    os.rename(f"{pair.theirs.root}.away", pair.theirs.root)
    assert pair.open(shared=False).find(snapshot.state) == snapshot


def test_what_does_not_need_the_shared_cache_works_when_it_is_gone(pair: Pair) -> None:
    pair.build_on_top()
    cache, place = pair.open(shared=False), pair.place("other")
    write_files(place.root, {"file": "all my own"})
    other = commit(cache, place, key=b"other")
    os.rename(pair.theirs.root, f"{pair.theirs.root}.away")
    fresh = pair.open(shared=False)
    assert fresh.find(other.state) == other
    fresh.restore(other, pair.place("copy"))
    assert describe(pair.place("copy").root) == describe(place.root)


@needs_program("git")
def test_what_the_site_dropped_is_a_miss_and_is_made_again(pair: Pair) -> None:
    lost = pair.build_on_top()
    pair.drop()
    cache, place = pair.open(), pair.place("own")
    assert cache.find(pair.step.state) is None
    assert cache.find(lost.state) is None
    assert pair.events.of(Warned) == []
    # The next build finds nothing to start from, and makes everything again.
    shutil.rmtree(place.root)
    write_files(place.root, BASE)
    base = commit(cache, place, key=b"base")
    write_files(place.root, {"site": "step"})
    step = commit(cache, place, base, key=b"step")
    write_files(place.root, {"mine": "step"})
    made = commit(cache, place, step, key=b"mine")
    assert made.state == lost.state
    assert made != lost
    fresh = pair.open(shared=False)
    assert fresh.find(made.state) == made, "the reference to the lost state was in the way"
    fresh.restore(made, pair.place("copy"))
    assert describe(pair.place("copy").root) == describe(place.root)


@needs_program("git")
def test_the_site_may_repack_while_we_read(pair: Pair) -> None:
    cache = pair.open()
    assert cache.find(pair.base.state) == pair.base
    pair.theirs.git("repack", "-adFq", "--window=10")
    pair.theirs.git("pack-refs", "--all", "--prune")
    assert cache.find(pair.step.state) == pair.step
    cache.restore(pair.step, pair.place("image"))
    assert describe(pair.place("image").root) == describe(pair.theirs.place("base").root)
    assert pair.events.of(Warned) == []


def test_references_that_we_may_not_read_are_said_once(pair: Pair) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    states = os.path.join(pair.theirs.repository, "refs/states")
    os.chmod(states, 0)
    try:
        cache = pair.open()
        assert cache.find(pair.step.state) is None
        assert cache.find(pair.base.state) is None
        assert cache.shared_head("base") == pair.base
    finally:
        os.chmod(states, 0o755)
    assert "Permission denied" in pair.events.one(Warned).text


def test_objects_that_we_may_not_read_are_no_hits(pair: Pair) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    packs = os.path.join(pair.theirs.repository, "objects/pack")
    os.chmod(packs, 0)
    try:
        assert pair.open().find(pair.step.state) is None
    finally:
        os.chmod(packs, 0o755)
    assert "Permission denied" in pair.events.one(Warned).text


def test_a_reference_of_the_site_that_is_damaged_is_said_once(pair: Pair) -> None:
    Path(pair.theirs.repository, "refs/states", pair.step.state.hex).write_text("no object\n")
    cache = pair.open()
    assert cache.find(pair.step.state) is None
    assert cache.find(pair.step.state) is None
    assert len(pair.events.of(Warned)) == 1


def test_chains_of_shared_caches_end(pair: Pair, tmp_path: Path) -> None:
    """A group's cache on top of the site's, and a user's on top of that; even in a circle."""
    pair.build_on_top()
    (tmp_path / "third").mkdir()
    third = Site(tmp_path / "third")
    Path(pair.theirs.repository, "objects/info/alternates").write_text(f"{pair.mine.repository}/objects\n")
    cache = GitCache(
        third.repository,
        emit=pair.events,
        cancel=CancelToken(),
        sync=False,
        shared=[SharedCache(pair.mine.repository)],
    )
    head = cache.shared_head("own")
    assert head is not None
    cache.restore(head, third.place("copy"))
    assert describe(third.place("copy").root) == describe(pair.place("own").root)
    assert cache.find(StateID.root(b"nothing")) is None


def test_large_files_are_looked_for_in_the_other_storage_directory(pair: Pair) -> None:
    assert pair.open().engine.large.borrowed == (str(pair.theirs.root / "cache/large"),)
    pair.build_on_top()
    assert pair.open(shared=False).engine.large.borrowed == (str(pair.theirs.root / "cache/large"),)


def test_a_reset_forgets_the_shared_cache_too(sealed: Pair) -> None:
    sealed.build_on_top()
    cache = sealed.open(shared=False)
    cache.reset()
    assert not os.path.exists(sealed.mine.repository)
    assert cache.find(sealed.step.state) is None


@needs_program("git")
def test_plain_git_reads_the_whole_history(sealed: Pair) -> None:
    snapshot = sealed.build_on_top()
    assert sealed.mine.git("rev-list", "--count", snapshot.token) == "3\n"
    with pytest.raises(subprocess.CalledProcessError):
        sealed.mine.git("rev-parse", "--verify", "-q", f"refs/states/{sealed.step.state.hex}")
