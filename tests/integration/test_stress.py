"""Eight commands at a time in one storage directory, for a while, many of them killed: nothing promised is lost.

Each of eight users does whatever one can do, with images of his own names and on bases and states that all share. What
a finished command promised must hold until the same user's next command; a killed one leaves the image as it was or as
it was to be. The choices come from seeded generators; how they interleave is up to the kernel.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from chimage_core.fs.atomic import TEMPORARY_PREFIX
from tests.support.builds import Builds, contents, marks
from tests.support.cli import Chimage, CliResult
from tests.support.host import has_program
from tests.support.processes import mounts_below, wait_until_gone
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

USERS = 8
FILES = 40
PREFIXES = 3
"""Different first steps; with so few, the users come upon each other's states all the time."""
DOCKERFILE = """\
FROM base AS first
RUN echo {prefix} > /prefix; mkdir /data; for i in $(seq {files}); do echo {prefix} > /data/$i; done
FROM base
COPY --from=first /data /data
RUN cp /data/1 /prefix
RUN for f in /data/*; do echo {value} > $f; done; ln /data/1 /link; rm /etc/group
RUN echo {value} > /value
"""

Version = tuple[int, int]
"""What an image was built from: prefix and value. An imported image has the prefix -1."""


@dataclass
class Image:
    """An image name, and what may be under it."""

    name: str
    allowed: set[Version | None] = field(default_factory=lambda: {None})
    """None: no image. More than one after a command was killed."""
    deleted: list[Version] = field(default_factory=list)
    """What can be undeleted for certain, the newest last."""

    @property
    def sure(self) -> Version | None:
        """What it is, if that is certain and it is there."""
        return next(iter(self.allowed)) if len(self.allowed) == 1 else None


@dataclass
class User:
    """Somebody who goes on and on, and is sometimes killed."""

    number: int
    chimage: Chimage
    directory: Path
    tree: Path
    """Something to import."""
    random: Random
    images: list[Image] = field(default_factory=list)
    finished: int = 0
    killed: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = [Image(f"u{self.number}{letter}") for letter in "ab"]
        self.directory.mkdir()

    def work(self, until: float) -> None:
        """Do one thing after the other."""
        actions: list[Callable[[Image], None]] = [
            *[self.build] * 8, *[self.delete] * 3, *[self.undelete] * 2, self.bring_in, self.look, self.upkeep
        ]  # fmt: skip
        while time.monotonic() < until:
            self.random.choice(actions)(self.random.choice(self.images))

    def build(self, image: Image) -> None:
        version = (self.random.randrange(PREFIXES), self.random.randrange(4))
        result = self.do("build", "-t", image.name, "-f", self.dockerfile(version), self.directory)
        self.note(image, result, version)

    def bring_in(self, image: Image) -> None:
        version = (-1, self.random.randrange(100))
        (self.tree / "value").write_text(f"{version[1]}\n")
        self.note(image, self.do("import", self.tree, image.name), version)

    def delete(self, image: Image) -> None:
        result = self.do("delete", image.name, may_fail="no image matches" if None in image.allowed else "")
        if result is not None and result.status == 0 and image.sure:
            image.deleted.append(image.sure)
        elif result is None or image.sure is None:
            image.deleted.clear()  # Whatever there may be: we do not know whether it is the newest.
        if result is None:
            image.allowed.add(None)
        else:
            image.allowed = {None}

    def undelete(self, image: Image) -> None:
        if image.allowed != {None} or not image.deleted:
            return
        result = self.do("undelete", image.name)
        self.note(image, result, image.deleted.pop() if result else image.deleted[-1])
        if result is None:
            image.deleted.clear()

    def look(self, image: Image) -> None:
        for command in (["list"], ["list", "-u"], ["build-cache"], ["build-cache", "--tree"], ["build-cache", "--du"]):
            self.do(*command)
        if image.sure is not None:
            shown = self.do("list", image.name)
            assert shown is None or image.name in shown.stdout

    def upkeep(self, _: Image) -> None:
        """Waits for the others, for a short time."""
        option = self.random.choice(("--gc", "--gc", "--prune=packs", "--check"))
        self.do("--lock-timeout=0.5", "build-cache", option, may_fail="in use by")

    def note(self, image: Image, result: CliResult | None, version: Version) -> None:
        """Remember what a command was to make of an image."""
        image.allowed = {version} if result is not None else image.allowed | {version}

    def do(self, *command: str | Path, may_fail: str = "") -> CliResult | None:
        """Carry out a command, or return None, since it was killed. It may fail if it says this text."""
        kill_after = self.random.random() * 1.5 if self.random.random() < 0.3 else None
        marker = f"user-{self.number}-{time.monotonic_ns()}"
        with self.chimage.start(*command, env={"CH_IMAGE_MARKER": marker, "USER": marker}) as process:
            try:
                stdout, stderr = process.communicate(timeout=kill_after)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    process.kill() if self.random.random() < 0.5 else os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                assert wait_until_gone(marker, 30) == []
                self.killed += 1
                self.log.append(f"killed: {command}")
                return None
        result = CliResult(tuple(map(str, command)), process.returncode, stdout, stderr)
        self.log.append(f"{process.returncode}: {command}")
        self.finished += 1
        if process.returncode == 0:
            return result
        if not may_fail or may_fail not in stderr:
            raise AssertionError(f"{result.argv}: {result.status}\n{result.text()}\n{self.log[-5:]}")
        return result.expect(1)

    def dockerfile(self, version: Version) -> Path:
        """Write the Dockerfile of a version."""
        path = self.directory / "Dockerfile"
        path.write_text(DOCKERFILE.format(prefix=version[0], value=version[1], files=FILES))
        return path


def digest(value: object) -> str:
    return hashlib.sha256(f"{value}\n".encode()).hexdigest()


def version_of(root: Path, busybox: dict[str, tuple[str, int, str]]) -> Version | None:
    """Return what an image directory was built from, after a look at all of its files."""
    if not root.exists():
        return None
    found = contents(root)
    value = int((root / "value").read_text())
    expected = {path: entry for path, entry in busybox.items() if not path.startswith("ch")}
    expected["value"] = ("-", 0o644, digest(value))
    prefix = -1
    if "prefix" in found:
        prefix = int((root / "prefix").read_text())
        del expected["etc/group"]
        expected["prefix"] = ("-", 0o644, digest(prefix))
        expected["data"] = ("d", 0o755, "")
        expected |= {f"data/{number + 1}": ("-", 0o644, digest(value)) for number in range(FILES)}
        expected["link"] = expected["data/1"]
        assert (root / "link").stat().st_nlink == 2
    assert {path: entry for path, entry in found.items() if not path.startswith("ch")} == expected
    return prefix, value


def assert_tidy(storage: Path) -> None:
    """Nothing is left of the commands that were killed."""
    for name in ("work", "trash", "sessions"):
        assert os.listdir(storage / name) == [], name
    for parent, folders, files in os.walk(storage):
        if parent == str(storage / "img"):
            folders.clear()
        assert [name for name in (*folders, *files) if name.startswith((TEMPORARY_PREFIX, "tmp_"))] == [], parent
        if os.path.dirname(parent) == str(storage / "img.d"):
            assert not {"upper", "work"} & set(folders), parent


@pytest.mark.parametrize("seconds", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_what_was_promised_is_there_whoever_was_killed(
    builds: Builds, busybox: Path, tmp_path: Path, seconds: int
) -> None:
    chimage, storage = builds.chimage, Path(builds.chimage.storage)
    users = []
    for number in range(USERS):
        tree = tmp_path / f"tree{number}"
        subprocess.run(["cp", "-a", busybox, tree], check=True)
        users.append(User(number, chimage, tmp_path / f"user{number}", tree, Random(number)))
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(USERS) as pool:
        for future in [pool.submit(user.work, until) for user in users]:
            future.result()
    assert sum(user.killed for user in users) > 0
    assert sum(user.finished for user in users) > USERS
    assert mounts_below(storage) == []

    assert marks(chimage.run("build", "-t", "last", "-", stdin="FROM base\nRUN true"))
    assert_tidy(storage)
    base = contents(builds.image("base+latest"))
    for user in users:
        for image in user.images:
            version = version_of(builds.image(f"{image.name}+latest"), base)
            assert version in image.allowed, (image, user.log)
            if version is not None and version[0] >= 0 and image.sure:
                again = chimage.run("build", "-t", image.name, "-f", user.dockerfile(version), user.directory)
                assert set(marks(again)) == {"*"}, (image, again.text(), user.log)
            if image.allowed == {None} and image.deleted:
                chimage.run("undelete", image.name)
                assert version_of(builds.image(f"{image.name}+latest"), base) == image.deleted[-1], (image, user.log)
    checked = chimage.run("build-cache", "--check", check=False)
    assert checked.status == 0, checked.text()
    if has_program("git"):
        assert fsck(storage) == ""
