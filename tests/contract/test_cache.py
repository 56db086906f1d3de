"""What every build cache promises to the builder and to the verbs."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.nocache import NoCache
from chimage_core.cache.protocol import Cache, CacheMode, CacheSummary, Snapshot, StepRecord
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.errors import NotInCache
from chimage_core.fs.copy import copy_tree
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs import metadata
from chimage_core.rootfs.changes import AnythingChanged, Changes, PathsChanged
from chimage_core.rootfs.place import ImagePlace
from tests.support.image_trees import describe
from tests.support.recorder import Recorder

CONFIG = ImageConfig(architecture="arm64", env={"A": "1"}, labels={"x": "y"})
ROOT = StateID.root(b"start")


@dataclass(frozen=True, slots=True)
class Kit:
    """A kind of cache and where it works."""

    root: Path
    make: Callable[["Kit"], Cache]

    def open(self) -> Cache:
        """Open the cache as a new process would."""
        return self.make(self)

    def place(self, name: str) -> ImagePlace:
        return ImagePlace(name, str(self.root / "img" / name), str(self.root / "img.d" / name))

    def names(self) -> tuple[str, ...]:
        return tuple(os.listdir(self.root / "img"))


def _git(mode: CacheMode) -> Callable[[Kit], Cache]:
    return lambda kit: GitCache(
        str(kit.root / "cache" / "git"), mode=mode, emit=Recorder(), cancel=CancelToken(), sync=False, workers=1
    )


def _none(kit: Kit) -> Cache:
    return NoCache(kit.place, kit.names, emit=Recorder(), cancel=CancelToken())


GIT = [pytest.param(_git(CacheMode.ENABLED), id="git"), pytest.param(_git(CacheMode.REBUILD), id="rebuild")]
ALL = [*GIT, pytest.param(_none, id="none")]
every_cache = pytest.mark.parametrize("make", ALL)
git_caches = pytest.mark.parametrize("make", GIT)


@pytest.fixture
def kit(tmp_path: Path, make: Callable[[Kit], Cache]) -> Kit:
    (tmp_path / "img").mkdir()
    return Kit(tmp_path, make)


def fill(place: ImagePlace, **files: str) -> None:
    """Write files into the root directory of a place."""
    os.makedirs(place.root, exist_ok=True)
    for name, text in files.items():
        Path(place.root, name).write_text(text)


def commit(
    cache: Cache,
    place: ImagePlace,
    parent: Snapshot | None,
    *,
    state: StateID | None = ROOT,
    changes: Changes = AnythingChanged(),  # noqa: B008  # a constant
    config: ImageConfig = CONFIG,
) -> Snapshot:
    return cache.commit(place, StepRecord(parent=parent, state=state, text="RUN.S x", config=config, changes=changes))


@every_cache
def test_a_committed_snapshot_is_held_and_can_be_restored_elsewhere(kit: Kit) -> None:
    cache, place, copy = kit.open(), kit.place("image"), kit.place("copy")
    fill(place, file="1")
    snapshot = commit(cache, place, None)
    assert cache.held(place) == snapshot
    assert snapshot.state == ROOT
    cache.restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)
    assert cache.held(copy) == snapshot


@every_cache
def test_what_a_copier_has_copied_is_committed(kit: Kit, tmp_path: Path) -> None:
    cache, place, copy = kit.open(), kit.place("image"), kit.place("copy")
    fill(place, file="1")
    before = commit(cache, place, None)
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / "source" / str(number)).write_text(str(number))
    cache.opening(place)
    copier = cache.copier(place)
    target = f"{place.root}/data"
    copy_tree(str(tmp_path / "source"), target, xattrs=True, cancel=CancelToken(), delegate=copier)
    snapshot = commit(cache, place, before, state=ROOT.child(b"2"), changes=PathsChanged(("data",), copier))
    assert describe(target) == describe(str(tmp_path / "source"))
    cache.restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)


@every_cache
def test_the_configuration_is_in_the_image_and_in_the_snapshot(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    snapshot = commit(cache, place, None)
    assert cache.config(snapshot) == CONFIG
    assert metadata.read(place.root, "unknown") == CONFIG
    cache.opening(place)
    changed = CONFIG._replace(workdir="/work")
    after = commit(cache, place, snapshot, state=ROOT.child(b"2"), changes=PathsChanged(()), config=changed)
    assert cache.config(after) == changed
    assert metadata.read(place.root, "unknown") == changed


@every_cache
def test_a_place_that_is_about_to_be_changed_holds_nothing_known(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    commit(cache, place, None)
    cache.opening(place)
    assert cache.held(place) is None
    assert kit.open().held(place) is None


@every_cache
def test_nothing_is_held_where_there_is_nothing(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    assert cache.held(place) is None
    fill(place, file="1")
    assert cache.held(place) is None


@every_cache
def test_another_directory_in_the_same_place_is_not_what_was_there(kit: Kit) -> None:
    """The notes about a directory must not outlive it, even if it gets the same inode number."""
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    commit(cache, place, None)
    os.rename(place.root, f"{place.root}.away")
    fill(place, file="1")
    assert kit.open().held(place) is None


@every_cache
def test_an_unknown_state_or_image_is_not_found(kit: Kit) -> None:
    cache = kit.open()
    assert cache.find(ROOT) is None
    assert cache.head("nothing+here") is None
    assert cache.deleted() == cache.deleted("nothing+here") == ()
    cache.forget("nothing+here")
    assert cache.names() == ()


@every_cache
def test_the_head_of_a_published_image_can_be_restored(kit: Kit) -> None:
    cache, place, copy = kit.open(), kit.place("image+1"), kit.place("copy")
    fill(place, file="1")
    cache.publish("image+1", commit(cache, place, None))
    fresh = kit.open()
    assert fresh.names() == ("image+1",)
    head = fresh.head("image+1")
    assert head is not None
    fresh.restore(head, copy)
    assert describe(copy.root) == describe(place.root)


@every_cache
def test_restoring_what_is_not_there_is_one_clear_error(kit: Kit) -> None:
    with pytest.raises(NotInCache):
        kit.open().restore(Snapshot(ROOT, "f" * 40), kit.place("copy"))
    assert not os.path.lexists(kit.place("copy").root)


@every_cache
def test_a_place_can_be_made_to_hold_something_else(kit: Kit) -> None:
    cache, one, other = kit.open(), kit.place("one"), kit.place("other")
    fill(one, file="1", only_one="x")
    fill(other, file="2")
    first = commit(cache, one, None)
    second = commit(cache, other, None, state=StateID.root(b"other"))
    cache.restore(second, one)
    assert describe(one.root) == describe(other.root)
    assert cache.held(one) == second
    assert first != second


@every_cache
def test_looking_at_an_empty_cache_makes_nothing(kit: Kit) -> None:
    """Verbs that only look must work where nothing can be written."""
    cache = kit.open()
    cache.find(ROOT)
    cache.head("image")
    cache.held(kit.place("image"))
    assert cache.graph().nodes == ()
    assert cache.summary() == CacheSummary(
        named_images=0, state_ids=0, commits=0, files=0, disk_bytes=0, large_files=0, large_bytes=0
    )
    assert sorted(os.listdir(kit.root)) == ["img"]


@every_cache
def test_after_a_reset_nothing_is_left(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    commit(cache, place, None)
    cache.reset()
    assert cache.find(ROOT) is None
    assert cache.held(place) is None
    assert cache.graph().nodes == ()
    assert cache.head("image") is None or not cache.keeps_snapshots


@pytest.mark.parametrize("make", GIT[:1])
def test_a_recorded_state_hits(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    snapshot = commit(cache, place, None)
    assert cache.find(ROOT) == kit.open().find(ROOT) == snapshot


@pytest.mark.parametrize("make", [GIT[1], ALL[2]])
def test_without_or_when_rebuilding_the_cache_no_state_hits(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    commit(cache, place, None)
    assert cache.find(ROOT) is None


@git_caches
def test_a_deleted_image_can_be_recovered_until_it_is(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    name = "a%b+1.2..x.lock"
    fill(place, file="1")
    first = commit(cache, place, None)
    cache.publish(name, first)
    cache.forget(name)
    assert cache.head(name) is None
    assert cache.names() == ()
    fill(place, file="2")
    second = commit(cache, place, first, state=ROOT.child(b"2"))
    cache.publish(name, second)
    cache.forget(name)
    deletions = kit.open().deleted(name)
    assert [deletion.snapshot for deletion in deletions] == [second, first]
    assert deletions[0].time_ns > deletions[1].time_ns
    assert cache.deleted() == deletions
    assert cache.deleted("other+latest") == ()
    cache.recover(deletions[1])
    assert cache.head(name) == first
    assert kit.open().deleted(name) == deletions[:1]
    cache.recover(deletions[0])
    assert cache.head(name) == second
    assert cache.deleted(name) == ()
    assert cache.names() == (name,)


@git_caches
def test_content_without_a_state_is_its_own_identity(kit: Kit) -> None:
    """Importing the same again hits what was built on it, importing something else never does."""
    cache, states = kit.open(), []
    for name, text in (("one", "1"), ("same", "1"), ("other", "2")):
        fill(kit.place(name), file=text)
        os.mkdir(f"{kit.place(name).root}/made-by-us")
        states.append(commit(cache, kit.place(name), None, state=None).state)
    assert states[0] == states[1] != states[2]
    fill(kit.place("arch"), file="1")
    os.mkdir(f"{kit.place('arch').root}/made-by-us")
    other = CONFIG._replace(architecture="riscv64")
    assert commit(cache, kit.place("arch"), None, state=None, config=other).state not in states


@git_caches
def test_the_graph_has_children_before_parents_and_names(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    first = commit(cache, place, None)
    fill(place, file="22")
    second = commit(cache, place, first, state=ROOT.child(b"2"))
    cache.publish("image", second)
    nodes = kit.open().graph().nodes
    assert [(node.token, node.parents, node.images) for node in nodes] == [
        (second.token, (first.token,), ("image",)),
        (first.token, (), ()),
    ]
    assert [node.text for node in nodes] == ["RUN.S x", "RUN.S x"]
    assert [node.state for node in nodes] == [second.state, ROOT]
    summary = cache.summary()
    assert (summary.named_images, summary.state_ids, summary.commits) == (1, 2, 2)
    assert summary.files > 5
    assert summary.disk_bytes > 0


@git_caches
def test_the_graph_tells_what_each_snapshot_is_kept_for(kit: Kit) -> None:
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    base = commit(cache, place, None)
    kept = []
    for number in range(3):
        fill(place, file="2" * number)
        kept.append(commit(cache, place, base, state=ROOT.child(b"%d" % number)))
    cache.publish("named+1", kept[0])
    cache.publish("gone+1", kept[1])
    cache.forget("gone+1")
    nodes = {node.token: node for node in kit.open().graph().nodes}
    found = [(nodes[snapshot.token].kept_by, nodes[snapshot.token].deleted) for snapshot in (base, *kept)]
    assert found == [("image", ()), ("image", ()), ("deleted", ("gone+1",)), ("nothing", ())]


@git_caches
def test_what_is_as_expected_is_not_remembered_again(kit: Kit) -> None:
    """A directory that lost its notes is still what it was."""
    cache, place = kit.open(), kit.place("image")
    fill(place, file="1")
    first = commit(cache, place, None)
    fill(place, file="2")
    second = commit(cache, place, first, state=ROOT.child(b"2"))
    record = StepRecord(None, None, "IMPORT image", CONFIG, AnythingChanged(), expected=second)
    shutil.rmtree(place.side)
    assert kit.open().commit(place, record) == second
    assert kit.open().held(place) == second
    assert len(cache.graph().nodes) == 2
    shutil.rmtree(place.side)
    other = kit.open().commit(place, record._replace(config=CONFIG._replace(workdir="/x")))
    assert other.state not in (first.state, second.state)
    fill(place, file="3")
    assert kit.open().commit(place, record) not in (second, other)


def test_rebuilding_replaces_what_was_recorded(tmp_path: Path) -> None:
    kit = Kit(tmp_path, _git(CacheMode.ENABLED))
    (tmp_path / "img").mkdir()
    place = kit.place("image")
    fill(place, file="1")
    first = commit(kit.open(), place, None)
    fill(place, file="22")
    second = commit(_git(CacheMode.REBUILD)(kit), place, None)
    assert kit.open().find(ROOT) == second != first


def test_an_image_made_without_cache_is_not_what_the_cache_remembers(tmp_path: Path) -> None:
    """Both keep notes about the same directory."""
    git, none = Kit(tmp_path, _git(CacheMode.ENABLED)), Kit(tmp_path, _none)
    (tmp_path / "img").mkdir()
    place = git.place("image")
    fill(place, file="1")
    commit(git.open(), place, None)
    commit(none.open(), place, None, config=CONFIG._replace(workdir="/x"))
    assert git.open().held(place) is None
