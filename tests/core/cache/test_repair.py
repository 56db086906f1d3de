"""Random damage of every kind: a check finds it, a repair mends it, and nothing that is intact is lost.

What is intact is found out by comparing bytes and asking git(1), not by the code that is tested.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from chimage_core.cache.git.refs import DELETED, IMAGES, STATES
from chimage_core.cancel import CancelToken
from chimage_core.ops.check import CheckReport, check
from chimage_core.ops.repair import repair_cache
from chimage_core.settings import Settings
from chimage_core.workspace import Workspace, open_reader, open_workspace
from tests.core.cache.support import commit
from tests.support.host import needs_program
from tests.support.image_trees import Described, describe
from tests.support.recorder import Recorder
from tests.support.repository import fsck

pytestmark = needs_program("git")

IMAGE_NAMES = ("one+latest", "two+latest")


class Storage:
    """A storage directory whose cache is damaged again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events = Recorder()
        self.settings = Settings.resolve({"storage": str(root)}, {"USER": "alice"})
        self.git_directory = root / "cache/git"

    def work(self, work: Callable[[Workspace], object], *, exclusive: bool = False) -> None:
        with open_workspace(
            self.settings, ["test"], emit=self.events, cancel=CancelToken(), exclusive=exclusive
        ) as workspace:
            work(workspace)

    def check(self) -> CheckReport:
        with open_reader(self.settings, ["test"], emit=self.events, cancel=CancelToken()) as workspace:
            return check(workspace)

    def repair(self) -> CheckReport:
        reports: list[CheckReport] = []
        self.work(lambda workspace: reports.append(repair_cache(workspace)), exclusive=True)
        return reports[0]

    def git(self, *arguments: str) -> str:
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "--git-dir", str(self.git_directory), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    def references(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(objectname) %(refname)").splitlines()
        return {name: commit for commit, name in (line.split() for line in lines)}

    def tree(self, commit: str) -> str:
        return self.git("rev-parse", f"{commit}:root").strip()

    def describe(self) -> dict[str, dict[bytes, Described]]:
        return {name: describe(str(self.root / "img" / name)) for name in IMAGE_NAMES}


def make_storage(root: Path, random: Random) -> Storage:
    """Make images of several states that share much, and a deleted one."""
    storage = Storage(root)

    def fill(workspace: Workspace) -> None:
        cache, images = workspace.lasting_cache, workspace.images
        for name, steps in (("one+latest", 4), ("two+latest", 3), ("gone+latest", 2)):
            place = images.workplace(name)
            os.makedirs(place.root)
            write(Path(place.root), Random(1), "base", 30)
            snapshot = commit(cache, place, key=name.encode())
            for step in range(steps):
                write(Path(place.root), random, f"{name}-{step}", 6)
                snapshot = commit(cache, place, snapshot, key=f"{name} {step}".encode())
            cache.publish(name, snapshot)
            images.publish(name)
        images.delete("gone+latest")
        cache.forget("gone+latest")

    storage.work(fill)
    return storage


def write(root: Path, random: Random, prefix: str, files: int) -> None:
    for number in range(files):
        path = root / f"d{random.randrange(5)}" / f"{prefix}{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random.choice((b"text\n" * 500, random.randbytes(2000), b"x", b"")) + str(number).encode())
    (root / "same").write_text(f"{prefix}")


@pytest.fixture(scope="module", params=["as written", "packed by git"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Return a storage directory that every test gets back as it was."""
    storage = make_storage(tmp_path_factory.mktemp("repair") / "storage", Random(5))
    if request.param == "packed by git":
        storage.git("repack", "-adFq", "--window=10")
        storage.git("pack-refs", "--all")
    return storage


@pytest.fixture
def damaged(pristine: Storage, tmp_path: Path) -> Iterator[Storage]:
    """Keep a copy of what a test is going to damage, and put it back."""
    for name in ("cache", "img.d"):
        shutil.copytree(pristine.root / name, tmp_path / name, symlinks=True)
    pristine.events.clear()
    yield pristine
    if (pristine.root / "img.away").exists():
        shutil.rmtree(pristine.root / "img")
        os.rename(pristine.root / "img.away", pristine.root / "img")
    for name in ("cache", "img.d"):
        shutil.rmtree(pristine.root / name)
        shutil.copytree(tmp_path / name, pristine.root / name, symlinks=True)


class Truth:
    """What is in a repository before it is damaged, object by object."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.references = storage.references()
        self.trees = {commit: storage.tree(commit) for commit in set(self.references.values())}
        self.needs = {commit: self._needs(commit) for commit in self.trees}
        self.where: dict[str, list[tuple[Path, int, int, str | None]]] = {}
        packs = sorted((storage.git_directory / "objects/pack").glob("*.pack"))
        self.bytes = {path: path.read_bytes() for pack in packs for path in (pack, pack.with_suffix(".idx"))}
        for pack in packs:
            for line in storage.git("verify-pack", "-v", str(pack.with_suffix(".idx"))).splitlines():
                fields = line.split()
                if re.fullmatch("[0-9a-f]{40}", fields[0]):
                    name, size, offset = fields[0], int(fields[3]), int(fields[4])
                    base = fields[6] if len(fields) > 6 else None
                    self.where.setdefault(name, []).append((pack, offset, offset + size, base))

    def _needs(self, commit: str) -> set[str]:
        listing = self.storage.git("ls-tree", "-rt", commit).splitlines()
        tree = self.storage.git("rev-parse", f"{commit}^{{tree}}").strip()
        return {commit, tree, *(line.split()[2] for line in listing)}

    def intact(self) -> set[str]:
        """Return the commits whose snapshot can be put together from bytes that are still what they were."""
        state = {path: path.read_bytes() if path.exists() else b"" for path in self.bytes}
        lost = {path for path in state if path.suffix == ".pack" and state[path] != self.bytes[path]}
        hopeless = {pack for pack in lost if state[pack.with_suffix(".idx")] != self.bytes[pack.with_suffix(".idx")]}

        def is_intact(name: str) -> bool:
            return any(
                pack not in hopeless
                and state[pack][start:end] == self.bytes[pack][start:end]
                and (base is None or is_intact(base))
                for pack, start, end, base in self.where[name]
            )

        good = {name for name in self.where if is_intact(name)}
        return {commit for commit, needed in self.needs.items() if needed <= good}


def damage(path: Path, random: Random) -> str:
    """Damage a file in one of the ways of disks and people; return how."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    kind = random.choice(("flip", "flip", "flip", "zero", "cut", "delete", "append", "empty"))
    position = random.randrange(len(data)) if data else 0
    if kind == "flip" and data:
        for _ in range(random.choice((1, 1, 4))):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == "zero":
        length = min(random.choice((1, 64, 4096)), len(data) - position)
        data[position : position + length] = bytes(length)
    elif kind == "cut":
        del data[position:]
    elif kind == "append":
        data += random.randbytes(30)
    elif kind == "empty":
        data.clear()
    if kind == "delete":
        path.unlink()
    else:
        path.write_bytes(data)
    return f"{kind} {path.name}"


def complaints(storage: Storage) -> str:
    """Return what git(1) complains of; that all is lost is none."""
    return fsck(storage.root).removeprefix("notice: No default references")


def objects_of(storage: Storage) -> list[Path]:
    return sorted(path for path in (storage.git_directory / "objects").rglob("*") if path.is_file())


@pytest.mark.parametrize("seed", range(10))
def test_damaged_objects_without_image_directories(damaged: Storage, seed: int) -> None:
    """All snapshots are kept of which all bytes are there, whatever became of their ancestors."""
    random = Random(seed)
    truth = Truth(damaged)
    os.rename(damaged.root / "img", damaged.root / "img.away")
    (damaged.root / "img").mkdir()
    done = [damage(path, random) for path in random.sample(objects_of(damaged), random.choice((1, 1, 2)))]
    intact = truth.intact()
    changed = any(not path.exists() or path.read_bytes() != data for path, data in truth.bytes.items())
    report = damaged.check()
    assert bool(report.problems) == changed, done
    assert damaged.repair().problems == 0, done
    assert damaged.check().findings == ()
    assert complaints(damaged) == ""
    after = damaged.references()
    trees = {name: damaged.tree(commit) for name, commit in after.items()}
    for name, commit_name in truth.references.items():
        if commit_name in intact:
            assert trees.get(name) == truth.trees[commit_name], (name, done)
        else:
            assert trees.get(name) in (None, truth.trees[commit_name]), (name, done)
    for name, commit_name in after.items():
        if name.startswith(STATES):
            assert f"State-ID: {name.removeprefix(STATES)}" in damaged.git("cat-file", "commit", commit_name)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_objects_with_image_directories(damaged: Storage, seed: int) -> None:
    """What the image directories hold is never lost, and they are left alone."""
    random = Random(100 + seed)
    before, truth = damaged.describe(), Truth(damaged)
    files = objects_of(damaged)
    done = [damage(path, random) for path in random.sample(files, min(len(files), random.choice((1, 2, 4))))]
    assert damaged.repair().problems == 0, done
    assert complaints(damaged) == ""
    assert damaged.describe() == before
    after = damaged.references()
    for name in IMAGE_NAMES:
        head = f"{IMAGES}{name}"
        assert damaged.tree(after[head]) == truth.trees[truth.references[head]], (name, done)
    damaged.events.clear()
    assert damaged.repair().problems == 0
    assert damaged.references() == after


@pytest.mark.parametrize("seed", range(8))
def test_damaged_references(damaged: Storage, seed: int) -> None:
    """Images are found again by what their directories hold, states by their commits; nothing leads elsewhere."""
    random = Random(200 + seed)
    before, truth = damaged.describe(), Truth(damaged)
    files = [path for path in (damaged.git_directory / "refs").rglob("*") if path.is_file()]
    files += [path for path in damaged.git_directory.iterdir() if path.name in ("packed-refs", "HEAD", "config")]
    done = [damage(path, random) for path in random.sample(sorted(files), min(3, len(files)))]
    assert damaged.repair().problems == 0, done
    assert damaged.check().findings == ()
    assert complaints(damaged) == ""
    assert damaged.describe() == before
    for name, commit_name in damaged.references().items():
        if name in truth.references:
            assert damaged.tree(commit_name) == truth.trees[truth.references[name]], (name, done)
        else:  # A changed name of a deletion or of an image may be one, too, and nobody can tell.
            assert name.startswith((STATES, DELETED, IMAGES))
