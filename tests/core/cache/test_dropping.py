"""What nobody needs goes, what somebody needs stays, and as many bytes are freed as `--dry-run` promised."""

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from chimage_core.cache.git.dropping import drop, plan_drop, remove_pack
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.objects import BLOB
from chimage_core.cache.git.packedrefs import pack_references
from chimage_core.cache.git.packfile import Pack
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.refs import STATES
from chimage_core.cache.protocol import Snapshot
from chimage_core.errors import CacheBroken
from tests.core.cache.support import Site, commit, write_files
from tests.support.host import needs_program
from tests.support.image_trees import Described, describe


def _states(site: Site, number: int) -> list[Snapshot]:
    """Commit states of one image side by side: each has all files, some of them its own versions."""
    random, cache, base = Random(number), site.cache(), None
    place = site.place("image")
    text = {f"d{part % 7}/{part}": " ".join(random.choices(["a", "bb", "c\n", "dd"], k=400)) for part in range(250)}
    write_files(place.root, text)
    base = commit(cache, place)
    snapshots = [base]
    for state in range(1, number):
        write_files(place.root, {name: f"{text[name]}{state}" for name in random.sample(sorted(text), 20)})
        snapshots.append(commit(cache, place, base, key=b"%d" % state))
    return snapshots


def _bytes(site: Site) -> int:
    objects = Path(site.repository, "objects")
    return sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())


def _drop_all_but(site: Site, keep: list[Snapshot]) -> Engine:
    """Drop, and check that exactly what was announced is freed."""
    engine = site.cache().engine
    kept = {STATES + snapshot.state.hex for snapshot in keep}
    gone = {name: value for name, value in engine.references.below(STATES).items() if name not in kept}
    before = _bytes(site)
    plan = plan_drop(engine, [bytes.fromhex(snapshot.token) for snapshot in keep])
    assert _bytes(site) == before
    pack_references(site.repository, gone, sync=False)
    drop(engine, plan)
    assert before - _bytes(site) == plan.size
    assert plan_drop(site.cache().engine, [bytes.fromhex(snapshot.token) for snapshot in keep])[:2] == (0, 0)
    return engine


def _check(site: Site, snapshot: Snapshot, reference: dict[bytes, Described]) -> None:
    copy = site.place("copy")
    site.cache().restore(snapshot, copy)
    assert describe(copy.root) == reference


def test_what_a_kept_state_needs_stays(site: Site) -> None:
    states = _states(site, 5)
    site.cache().restore(states[2], site.place("image"))
    reference = describe(site.place("image").root)
    _drop_all_but(site, [states[2]])
    _check(site, states[2], reference)
    assert site.cache().find(states[1].state) is None


def test_without_anything_to_keep_nothing_is_left(site: Site) -> None:
    _states(site, 3)
    _drop_all_but(site, [])
    assert os.listdir(Path(site.repository, "objects", "pack")) == []


def test_a_pack_without_dead_objects_is_not_touched(site: Site) -> None:
    states = _states(site, 3)
    before = {path.name: path.stat().st_ino for path in Path(site.repository, "objects", "pack").iterdir()}
    _drop_all_but(site, states)
    assert {path.name: path.stat().st_ino for path in Path(site.repository, "objects", "pack").iterdir()} == before


@needs_program("git")
@pytest.mark.parametrize("options", [["--depth=3"], ["--depth=50", "--window=50"]])
def test_bases_of_deltas_stay(site: Site, options: list[str]) -> None:
    """git(1) makes deltas, against objects that may be dead; distances to bases change when something between goes."""
    states = _states(site, 12)
    reference = {}
    for state in (states[3], states[9]):
        site.cache().restore(state, site.place("image"))
        reference[state] = describe(site.place("image").root)
    site.git("repack", "-adfq", *options)
    _drop_all_but(site, [states[3], states[9]])
    assert site.git("fsck", "--strict", "--full", "--no-dangling") == ""
    for state, expected in reference.items():
        _check(site, state, expected)


@needs_program("git")
def test_deltas_that_name_their_base(site: Site) -> None:
    """Such come by a fetch; repack -a without offsets makes them as well."""
    states = _states(site, 8)
    site.git("-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq")
    site.cache().restore(states[4], site.place("image"))
    reference = describe(site.place("image").root)
    _drop_all_but(site, [states[4]])
    assert site.git("fsck", "--strict", "--full", "--no-dangling") == ""
    _check(site, states[4], reference)


@needs_program("git")
def test_objects_in_files_of_their_own_go_as_well(site: Site) -> None:
    (state,) = _states(site, 1)
    data = b"nobody needs this"
    subprocess.run(["git", "-C", site.repository, "hash-object", "-w", "--stdin"], input=data, check=True, env={})
    assert plan_drop(site.cache().engine, [bytes.fromhex(state.token)]).objects == 1
    _drop_all_but(site, [state])
    assert not [path for path in Path(site.repository, "objects").rglob("??/*") if path.is_file()]


def _copy_pack(site: Site, state: Snapshot) -> Pack:
    """Make a second pack with what is in the commit's, and a dead object; return the first."""
    engine = site.cache().engine
    (pack,) = [pack for pack in engine.store.packs() if pack.find(bytes.fromhex(state.token)) is not None]
    with PackWriter(engine.repository.packs, lambda _: False, deflated=False, sync=False) as writer:
        for _, name in pack.entries():
            writer.add(*engine.store.read(name))
        writer.add(BLOB, b"dead")
        writer.finish()
    return pack


def test_an_object_in_two_packs_is_kept_once(site: Site) -> None:
    (state,) = _states(site, 1)
    _copy_pack(site, state)
    _drop_all_but(site, [state])
    names = [name for each in site.cache().engine.store.packs() for _, name in each.entries()]
    assert len(names) == len(set(names))


def test_damage_is_not_copied(site: Site) -> None:
    """A copy gets a new checksum, which would make damage look sound."""
    (state,) = _states(site, 1)
    remove_pack(_copy_pack(site, state), keep=None)
    plan = plan_drop(site.cache().engine, [bytes.fromhex(state.token)])
    ((pack, kept),) = plan.packs
    os.chmod(pack.path, 0o644)
    with open(pack.path, "r+b") as file:
        file.seek(kept[5].end - 1)
        file.write(bytes([pack.data[kept[5].end - 1] ^ 1]))
    before = sorted(os.listdir(Path(site.repository, "objects", "pack")))
    with pytest.raises(CacheBroken, match="is damaged"):
        drop(site.cache().engine, plan)
    assert sorted(os.listdir(Path(site.repository, "objects", "pack"))) == before
