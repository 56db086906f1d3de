"""The cache is an ordinary Git repository: other programs can read it, and we can read what they make of it."""

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from chimage_core.cache.state import StateID
from tests.core.cache.support import Site, commit, write_files
from tests.support import host
from tests.support.image_trees import NAMES, describe, make_tree

pytestmark = pytest.mark.skipif(not host.has_program("git"), reason="git is not installed")


def test_git_finds_nothing_to_complain_about(site: Site) -> None:
    """Names that Git refuses are escaped; `--strict` also checks what HFS+ and NTFS would make of them."""
    place = site.place("image")
    write_files(place.root, {}, [".git", "sub"])
    for directory in (b"", b".git", b"sub"):
        top = os.fsencode(place.root) + b"/" + directory
        for name in NAMES:
            with open(top + b"/f" + name, "wb") as file:
                file.write(name)
            if not os.path.lexists(top + b"/" + name):
                os.symlink(b"target", top + b"/" + name)
    commit(site.cache(), place)
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    result = subprocess.run(
        ["git", "-C", site.repository, "fsck", "--strict", "--full"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    said = [line for line in (result.stdout + result.stderr).splitlines() if not line.startswith("notice: HEAD")]
    assert said == []


def test_a_log_is_readable(site: Site) -> None:
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    snapshot = commit(site.cache(), place, text="RUN.S echo hello")
    log = site.git("log", "--all", "--format=%an|%at|%s|%(trailers:only)")
    assert log.strip() == f"chimage|1700000000|RUN.S echo hello|State-ID: {snapshot.state.hex}\nFormat: 1"
    names = site.git("ls-tree", "--name-only", snapshot.token).split()
    assert names == ["config.json", "root"]


def test_pygit2_reads_it(site: Site) -> None:
    pygit2 = pytest.importorskip("pygit2")
    place = site.place("image")
    write_files(place.root, {"file": "content"})
    snapshot = commit(site.cache(), place)
    repository = pygit2.Repository(site.repository)
    entry = repository[snapshot.token].tree / "root" / "file"
    assert entry.data == b"content"
    reference = repository.references[f"refs/states/{snapshot.state.hex}"]
    assert str(reference.target) == snapshot.token


def test_what_git_packed_with_deltas_is_read_without_git(site: Site) -> None:
    """`git gc` may be run by anybody: it makes deltas, packs references and removes our packs."""
    random, place, copy = Random(7), site.place("image"), site.place("copy")
    make_tree(place.root, random, 60)
    text = random.randbytes(20_000).hex()
    snapshots, trees = [], []
    cache, parent = site.cache(), None
    for number in range(4):
        write_files(place.root, {"long": text + str(number), f"other{number}": text[number:]})
        parent = commit(cache, place, parent, key=b"%d" % number)
        snapshots.append(parent)
        trees.append(describe(place.root))
    cache.publish("image+1", snapshots[0])
    site.git("repack", "-adfq", "--depth=10", "--window=10")
    site.git("pack-refs", "--all", "--prune")
    bases = site.git("cat-file", "--batch-all-objects", "--batch-check=%(deltabase)").split()
    assert set(bases) != {"0" * 40}, "git made no deltas, so this tested nothing"
    fresh = site.cache()
    assert fresh.head("image+1") == snapshots[0]
    for snapshot, tree in zip(snapshots, trees, strict=True):
        assert fresh.find(snapshot.state) == snapshot
        fresh.restore(snapshot, copy)
        assert describe(copy.root) == tree


def test_loose_objects_are_read(site: Site) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"file": "1"})
    snapshot = commit(site.cache(), place)
    packs = Path(site.repository, "objects", "pack")
    contents = [path.read_bytes() for path in packs.glob("*.pack")]
    for path in packs.iterdir():
        path.unlink()
    for content in contents:
        subprocess.run(["git", "-C", site.repository, "unpack-objects", "-q"], input=content, check=True)
    site.cache().restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)


def test_a_state_pushed_to_another_repository_can_be_used_there(site: Site, tmp_path: Path) -> None:
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {".git/config": "1", "file": "2"})
    snapshot = commit(site.cache(), place)
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    write_files(other.place("x").root, {"f": "1"})
    commit(other.cache(), other.place("x"), key=b"other")
    site.git("push", "-q", other.repository, "refs/states/*:refs/states/*")
    assert other.cache().find(snapshot.state) == snapshot
    other.cache().restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)


def test_references_are_found_in_packed_refs_of_any_size(site: Site) -> None:
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    cache = site.cache()
    snapshot = commit(cache, place)
    states = sorted(StateID.root(b"%d" % number).hex for number in range(500))
    lines = ["# pack-refs with: peeled fully-peeled sorted"]
    for number, state in enumerate(states):
        lines.append(f"{snapshot.token} refs/states/{state}")
        if number % 7 == 0:
            lines.append(f"^{snapshot.token}")
    Path(site.repository, "packed-refs").write_text("\n".join(lines) + "\n")
    for state in states:
        assert cache.find(StateID.from_hex(state)) is not None, state
    for number in range(500, 600):
        assert cache.find(StateID.root(b"%d" % number)) is None
