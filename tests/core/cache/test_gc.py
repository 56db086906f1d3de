"""Garbage collection drops what nobody needs, keeps the rest exactly, makes it small, and may be killed at any time."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from chimage_core.cache.git import gc
from chimage_core.cache.git.condense import Means
from chimage_core.cache.protocol import Snapshot
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError, Cancelled, NotInCache
from chimage_core.events.collect import CollectionAdvanced
from tests.core.cache.support import Site, commit, write_files
from tests.support.host import needs_program
from tests.support.image_trees import Described, describe

NOW = 1_700_000_000
GIT = shutil.which("git")
_PROJECT = str(Path(__file__).parents[3])

with_and_without_git = pytest.mark.parametrize(
    "git", [pytest.param(GIT, marks=needs_program("git"), id="git"), pytest.param(None, id="without-git")]
)


def request(site: Site, git: str | None, *, deleted_before: int = 0, processes: int = 2) -> gc.Request:
    """Return what to collect at a site: with Git, or without."""
    return gc.Request(deleted_before, Means(git, processes), str(site.root / "large"), str(site.root / "lru"))


def collect(site: Site, git: str | None, *, deleted_before: int = 0) -> gc.Collection:
    """Collect as another process would."""
    return gc.collect(site.cache().engine, request(site, git, deleted_before=deleted_before))


def make_states(site: Site, number: int, *, seed: int = 0) -> list[Snapshot]:
    """Commit a chain of states; each changes some files, and makes some. The last one is the image `image`."""
    random, cache, parent, snapshots = Random(seed), site.cache(), None, []
    place = site.place("image")
    words = [random.randbytes(random.randint(1, 6)).hex() for _ in range(500)]
    names = ["".join(letters) for letters in itertools.product("abcdef", repeat=3)]
    files = {f"d{name[0]}/{name}": " ".join(random.choices(words, k=400)) for name in names}
    write_files(place.root, files)
    Path(place.root, "noise").write_bytes(random.randbytes(50_000))
    for state in range(number):
        if parent is not None:
            cache.opening(place)
            changed = {name: f"{files[name]}\n{state}" for name in random.sample(sorted(files), 12)}
            write_files(place.root, {**changed, f"new{state}/file": " ".join(random.choices(words, k=100))})
        parent = commit(cache, place, parent, key=b"%d %d" % (seed, state))
        snapshots.append(parent)
    assert parent is not None
    cache.publish("image", parent)
    return snapshots


def contents(site: Site, snapshots: list[Snapshot]) -> list[dict[bytes, Described]]:
    """Return what the states hold, each unpacked anew."""
    found = []
    for snapshot in snapshots:
        place = site.place("copy")
        shutil.rmtree(place.root, ignore_errors=True)
        shutil.rmtree(place.side, ignore_errors=True)
        site.cache().restore(snapshot, place)
        found.append(describe(place.root))
    return found


def packs(site: Site) -> list[str]:
    return sorted(path.name for path in Path(site.repository, "objects", "pack").iterdir())


def size(site: Site) -> int:
    return sum(path.stat().st_size for path in Path(site.repository, "objects").rglob("*") if path.is_file())


def assert_sound(site: Site) -> None:
    if GIT:
        assert site.git("fsck", "--strict", "--full", "--no-dangling") == ""
        assert "State-ID: " in site.git("log", "--all")


@with_and_without_git
def test_what_images_need_stays_and_is_smaller(site: Site, git: str | None) -> None:
    states = make_states(site, 6)
    before, bytes_before = contents(site, states), size(site)
    done = collect(site, git)
    assert (done.states, done.event.deletions, done.event.objects) == ((), 0, 0)
    assert contents(site, states) == before
    assert len(packs(site)) == 2
    assert size(site) < (0.5 if git else 0.85) * bytes_before
    assert [site.cache().find(state.state) for state in states] == states
    assert site.cache().head("image") == states[-1]
    assert_sound(site)


@with_and_without_git
def test_states_that_no_image_was_made_from_go(site: Site, git: str | None) -> None:
    states = make_states(site, 5)
    site.cache().publish("image", states[2])
    before = contents(site, states[:3])
    done = collect(site, git)
    assert {state.hex for state in done.states} == {state.state.hex for state in states[3:]}
    assert done.event.objects > 0
    assert [site.cache().find(state.state) for state in states] == [*states[:3], None, None]
    assert contents(site, states[:3]) == before
    with pytest.raises(NotInCache):
        site.cache().engine.snapshot(bytes.fromhex(states[3].token))
    assert_sound(site)


@with_and_without_git
def test_what_depended_on_an_object_that_goes_is_kept_whole(site: Site, git: str | None) -> None:
    """A difference to something that no image needs would keep that for ever."""
    states = make_states(site, 6)
    before = contents(site, states[:2])
    collect(site, GIT)
    site.cache().publish("image", states[1])
    done = collect(site, git)
    assert done.event.objects > 0
    assert contents(site, states[:2]) == before
    (pack,) = site.cache().engine.store.packs()
    needed = set(site.git("rev-list", "--objects", "--all", "--no-object-names").split()) if GIT else set()
    assert {name.hex() for _, name in pack.entries()} >= needed
    assert pack.count == len(needed) or not GIT
    assert_sound(site)


@with_and_without_git
def test_without_any_image_nothing_is_left(site: Site, git: str | None) -> None:
    make_states(site, 2)
    site.cache().forget("image")
    collect(site, git, deleted_before=sys.maxsize)
    assert packs(site) == []
    assert site.cache().summary()[:3] == (0, 0, 0)
    make_states(site, 2)
    assert site.cache().summary()[:3] == (1, 2, 2)


def test_deleted_images_stay_until_they_are_old(site: Site) -> None:
    make_states(site, 3)
    site.cache().forget("image")
    (deletion,) = site.cache().deleted()
    assert collect(site, None, deleted_before=deletion.time_ns).event.deletions == 0
    assert len(site.cache().deleted()) == 1
    site.cache().recover(deletion)
    site.cache().forget("image")
    done = collect(site, None, deleted_before=time.time_ns())
    assert (done.event.deletions, done.event.states) == (1, 3)
    assert site.cache().deleted() == ()


def test_an_empty_cache(site: Site) -> None:
    assert collect(site, GIT).event.objects == 0
    assert not os.path.exists(site.repository)
    site.cache().engine.repository.create()
    assert collect(site, GIT).event.objects == 0
    assert packs(site) == []


@with_and_without_git
def test_a_second_collection_does_nothing(site: Site, git: str | None) -> None:
    make_states(site, 3)
    collect(site, git)
    before = {path: path.stat().st_ino for path in Path(site.repository).rglob("*")}
    site.events.clear()
    collect(site, git)
    assert {path: path.stat().st_ino for path in Path(site.repository).rglob("*")} == before
    assert site.events.of(CollectionAdvanced) == []


@needs_program("git")
def test_what_was_compressed_is_not_compressed_again(site: Site) -> None:
    first = make_states(site, 4)
    collect(site, GIT)
    cache, place = site.cache(), site.place("image")
    cache.opening(place)
    write_files(place.root, {"da/aab": "other", "db/bcd": "more"})
    last = commit(cache, place, first[-1], key=b"more")
    cache.publish("image", last)
    before = contents(site, [*first, last])
    site.events.clear()
    collect(site, GIT)
    work = {event.phase: event.objects for event in site.events.of(CollectionAdvanced)}
    assert work["compressing"] < 20
    assert work["comparing"] < 60
    assert contents(site, [*first, last]) == before
    assert_sound(site)


@needs_program("git")
def test_the_user_s_git_configuration_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    make_states(site, 2)
    config = site.root / "config"
    config.write_text("[core]\n\tbare = nonsense\n[pack]\n\tthreads = lots\n")
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, str(config))
    monkeypatch.setenv("GIT_DIR", str(site.root))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(site.root))
    collect(site, GIT)
    assert len(packs(site)) == 2


@needs_program("git")
@with_and_without_git
def test_what_git_left_is_taken_in_or_removed(site: Site, git: str | None) -> None:
    """Who works in the repository with git(1) leaves loose objects, indexes over packs, and deltas of its own."""
    states = make_states(site, 3)
    before = contents(site, states)
    site.git("repack", "-adq", "--write-bitmap-index")
    site.git("multi-pack-index", "write")
    site.git("commit-graph", "write", "--reachable")
    site.git("update-ref", "refs/heads/mine", states[0].token)
    blob = site.root / "blob"
    blob.write_bytes(b"of no use")
    site.git("hash-object", "-w", str(blob))
    collect(site, git)
    assert len(packs(site)) == 2
    objects = Path(site.repository, "objects")
    assert [path.parent.name for path in objects.rglob("*") if path.is_file()] == ["pack", "pack"]
    assert contents(site, states) == before
    assert site.git("rev-parse", "refs/heads/mine").strip() == states[0].token
    assert_sound(site)


@needs_program("git")
def test_loose_objects_that_are_needed_get_into_the_pack(site: Site) -> None:
    states = make_states(site, 2)
    before = contents(site, states)
    for pack in Path(site.repository, "objects", "pack").glob("*.pack"):
        moved = site.root / pack.name
        os.rename(pack, moved)
        os.unlink(pack.with_suffix(".idx"))
        with moved.open("rb") as file:
            subprocess.run(["git", "-C", site.repository, "unpack-objects", "-q"], stdin=file, check=True)
    assert packs(site) == []
    collect(site, GIT)
    assert len(packs(site)) == 2
    assert contents(site, states) == before
    assert_sound(site)


@pytest.mark.parametrize(
    ("script", "message"),
    [("kill -9 $$", "ended by signal 9"), ("echo x >&2; echo fatal: is corrupt >&2; exit 128", ": fatal: is corrupt$")],
)
def test_when_git_fails_nothing_is_dropped(site: Site, script: str, message: str) -> None:
    states = make_states(site, 3)
    before, files = contents(site, states), packs(site)
    program = site.root / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(CacheError, match=message):
        collect(site, str(program))
    assert packs(site) == files
    assert contents(site, states) == before
    collect(site, None)
    assert not [path for path in Path(site.repository).rglob("*") if "tmp" in path.name]


def test_references_are_packed(site: Site) -> None:
    states = make_states(site, 3)
    collect(site, None)
    lines = Path(site.repository, "packed-refs").read_text().splitlines()
    assert lines[0] == "# pack-refs with: peeled fully-peeled sorted "
    assert lines[1:] == sorted(lines[1:], key=lambda line: line[41:])
    assert len(lines) == 5
    assert not [path for path in Path(site.repository, "refs").rglob("*") if path.is_file()]
    site.cache().forget("image")
    assert site.cache().head("image") is None
    assert site.cache().find(states[1].state) == states[1]


def test_large_files_that_no_state_names_go(site: Site) -> None:
    make_states(site, 1)
    large = site.root / "large"
    for name in ("aa/aa11-x", "bb/bb22-y", "bb/.tmp-1"):
        (large / name).parent.mkdir(parents=True, exist_ok=True)
        (large / name).write_bytes(b"x" * 8192)
    done = collect(site, None)
    assert (done.event.large_files, done.event.large_size) == (3, 3 * 8192)
    assert [path for path in large.rglob("*") if path.is_file()] == []


def test_the_log_of_uses_is_kept_short(site: Site) -> None:
    states = make_states(site, 2)
    site.cache().publish("image", states[0])
    log = site.root / "lru"
    lines = "".join(f"{state.state.hex[:40]} {NOW + number:011d}\n" for number in range(5) for state in states)
    log.write_text(lines)
    collect(site, None)
    assert log.read_text() == f"{states[0].state.hex[:40]} {NOW + 4:011d}\n"


def test_something_missing_is_said_and_nothing_is_dropped(site: Site) -> None:
    states = make_states(site, 3)
    engine = site.cache().engine
    (pack,) = [pack for pack in engine.store.packs() if pack.find(bytes.fromhex(states[0].token)) is not None]
    for path in (pack.path, pack.index_path):
        os.unlink(path)
    before = packs(site)
    with pytest.raises(NotInCache):
        collect(site, GIT)
    assert packs(site) == before


@with_and_without_git
def test_damage_is_found_and_nothing_is_dropped(site: Site, git: str | None) -> None:
    make_states(site, 1)
    engine = site.cache().engine
    pack = max(engine.store.packs(), key=lambda pack: pack.size)
    offset, _ = pack.entries()[pack.count // 2]
    os.chmod(pack.path, 0o644)
    with open(pack.path, "r+b") as file:
        file.seek(offset + 20)
        file.write(bytes([pack.data[offset + 20] ^ 0x55]))
    before = packs(site)
    with pytest.raises(CacheError, match=r"damaged|corrupt"):
        collect(site, git)
    assert packs(site) == before


def test_cancelling_leaves_everything(site: Site) -> None:
    states = make_states(site, 3)
    before, files = contents(site, states), packs(site)
    engine = site.cache().engine
    engine.options = engine.options._replace(emit=lambda event: site.cancel.cancel(signal.SIGTERM))
    with pytest.raises(Cancelled):
        gc.collect(engine, request(site, GIT))
    assert packs(site) == files
    site.cancel = CancelToken()
    assert contents(site, states) == before


def test_who_reads_meanwhile_finds_everything(site: Site) -> None:
    """Readers take no lock: packs vanish while they list them, open them, and read them."""
    states = make_states(site, 3)
    names = [name for pack in site.cache().engine.store.packs() for _, name in pack.entries()]
    opened, listed, late = (site.cache().engine.store for _ in range(3))
    expected = [opened.read(name) for name in names]
    listed.packs()
    collect(site, None)
    assert [opened.read(name) for name in names] == expected
    assert [listed.read(name) for name in names] == expected
    assert [late.read(name) for name in names] == expected
    assert site.cache().find(states[0].state) == states[0]


_WORK = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from tests.core.cache.support import Site
from tests.core.cache.test_gc import request
from chimage_core.cache.git import gc
site = Site(Path(sys.argv[2]))
engine = site.cache().engine
print("ready", flush=True)
gc.collect(engine, request(site, sys.argv[3] or None))
"""


def _collect_and_kill(site: Site, git: str | None, seconds: float) -> bool:
    """Collect in a process that is killed after a time; return whether it was too slow. Git itself may live on."""
    argv = [sys.executable, "-c", _WORK, _PROJECT, str(site.root), git or ""]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    with child, child.stdout:
        assert child.stdout.readline() == b"ready\n"
        try:
            assert child.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return True
    return False


@with_and_without_git
def test_killed_at_random_moments_nothing_is_lost(site: Site, git: str | None) -> None:
    random, killed = Random(5), 0
    states = make_states(site, 6)
    site.cache().publish("kept", states[-1])
    before, longest = contents(site, states), 1.0
    for turn in range(16):
        if turn % 4 == 3:  # Something new, and something that nobody needs.
            make_states(site, 3, seed=turn)
            site.cache().publish("image", states[3])
        was_killed = _collect_and_kill(site, git, random.random() * longest)
        killed += was_killed
        longest *= 1.3 if was_killed else 0.7
        assert [site.cache().find(state.state) for state in states] == states
        assert site.cache().head("kept") == states[-1]
        assert contents(site, states[-1:]) == before[-1:]
    assert killed > 2
    collect(site, git)
    assert contents(site, states) == before
    assert len(packs(site)) == 2
    assert not [path for path in Path(site.repository).rglob("*") if "tmp" in path.name]
    assert_sound(site)


_WORK_OFTEN = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from tests.core.cache.support import Site, commit, write_files
from tests.core.cache.test_gc import collect
site = Site(Path(sys.argv[2]))
place = site.place("image")
parent = site.cache().head("image")
for number in range(25):
    site.cache().opening(place)
    write_files(place.root, {"changing": str(number)})
    parent = commit(site.cache(), place, parent, key=b"often %d" % number)
    site.cache().publish("image", parent)
    collect(site, None)
"""


def test_packs_may_be_replaced_again_and_again_while_others_read(site: Site) -> None:
    """Between listing the packs and opening one, another may have taken its place."""
    (state,) = make_states(site, 1)
    names = [name for pack in site.cache().engine.store.packs() for _, name in pack.entries()]
    reads = 0
    with subprocess.Popen([sys.executable, "-c", _WORK_OFTEN, _PROJECT, str(site.root)]) as child:
        while child.poll() is None:
            assert site.cache().find(state.state) == state
            store = site.cache().engine.store
            assert all(store.exists(name) for name in names[:: len(names) // 20])
            reads += 1
    assert child.returncode == 0
    assert reads > 10
