"""`kill -9` at random moments: no image is half there, nothing is left running or mounted, the next command works.

The moments are spread over the whole duration of a command by a seeded generator, so that a failure can be had again
(as far as the scheduler allows). Half of the kills hit only the main process, so that its helpers have to notice by
themselves; the other half the whole process group, helpers that clean up included.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from chimage_core.fs.atomic import TEMPORARY_PREFIX
from tests.support.builds import Builds, contents, marks
from tests.support.host import has_program
from tests.support.processes import mounts_below, wait_until_gone
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

KILLS = 25
_STRIDE = 7
"""Coprime to KILLS."""
FILES = 150

Content = dict[str, tuple[str, int, str]]


@dataclass
class Victim:
    """A command that is killed again and again."""

    builds: Builds
    random: Random
    duration: float = 0.0
    """Seconds that the undisturbed command takes, as far as we know: on a busy host this changes."""
    killed: int = 0
    """How often it was still at work when it was killed."""
    moments: list[float] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        return Path(self.builds.chimage.storage)

    def measure(self, arguments: Sequence[str]) -> None:
        """Run the command undisturbed, and remember how long that took."""
        began = time.monotonic()
        self.builds.chimage.run(*arguments)
        self.duration = time.monotonic() - began

    def kill(self, number: int, arguments: Sequence[str]) -> None:
        """Start the command, kill it some time later, and check that it left nothing alive."""
        marker = f"victim-{os.getpid()}-{number}-{time.monotonic_ns()}"
        # Each kill has its own part of the duration, so that all of it is covered, in an order without meaning.
        moment = (number * _STRIDE % KILLS + self.random.random()) / KILLS * self.duration
        self.moments.append(moment)
        with self.builds.chimage.start(*arguments, env={"USER": marker, "CH_IMAGE_MARKER": marker}) as process:
            time.sleep(moment)
            if process.poll() is None:
                self.killed += 1
            else:
                self.duration *= 0.8
            with contextlib.suppress(ProcessLookupError):  # It may have ended, with all its helpers.
                if number % 2:
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert wait_until_gone(marker) == []
        assert mounts_below(self.storage) == []

    def assert_tidy(self) -> None:
        """After a command that succeeded, nothing is left of the one that was killed."""
        for name in ("work", "trash", "sessions"):
            assert os.listdir(self.storage / name) == [], name
        for parent, folders, files in os.walk(self.storage):
            if parent == str(self.storage / "img"):
                folders.clear()
            left = [name for name in (*folders, *files) if name.startswith(TEMPORARY_PREFIX)]
            assert left == [], parent
            if os.path.dirname(parent) == str(self.storage / "img.d"):
                assert not {"upper", "work"} & set(folders), parent

    def assert_whole(self, is_whole: Callable[[str, Content], bool]) -> None:
        """Every image that `list` shows is one that some command has made."""
        for image in self.builds.chimage.run("list", "--json").json()["images"]:
            found = contents(image["path"])
            metadata = json.loads(Path(image["path"], "ch/metadata.json").read_text())
            assert isinstance(metadata["history"], list)
            del found["ch/metadata.json"]
            assert is_whole(image["reference"], found), (image, self.moments[-1])


def tree(busybox: Path, path: Path, text: str) -> Path:
    """Make a root file system of some hundred files that all say the same."""
    shutil.copytree(busybox, path, symlinks=True)
    for number in range(FILES):
        file = path / f"data/{number % 10}/{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def values(found: Content, below: str) -> set[str]:
    """Return the different contents of the files below a directory of an image."""
    return {value for path, (kind, _, value) in found.items() if path.startswith(f"{below}/") and kind == "-"}


def test_killed_imports(builds: Builds, busybox: Path, tmp_path: Path) -> None:
    """Into a new name, and over an image that is there already."""
    victim = Victim(builds, Random(4))
    trees = [tree(busybox, tmp_path / name, name) for name in ("old", "new")]
    expected = []
    for path in trees:
        victim.measure(["import", str(path), "reference"])
        reference = contents(builds.image("reference+latest"))
        del reference["ch/metadata.json"]
        expected.append(reference)
    builds.chimage.run("delete", "reference")
    small = contents(builds.image("base+latest"))
    del small["ch/metadata.json"]

    def is_whole(reference: str, found: Content) -> bool:
        return found == small if reference == "base:latest" else found in expected

    for number in range(KILLS):
        victim.kill(number, ["import", str(trees[number % 2]), "image" if number % 5 else f"fresh{number}"])
        victim.assert_whole(is_whole)
        if number % 3:
            assert marks(builds.build("FROM base\nRUN true", tag="other")) in ("*.", "**")
            builds.chimage.run("delete", "other")
        else:
            victim.measure(["import", str(trees[number % 2]), "image"])
            assert values(contents(builds.image()), "data") == values(expected[number % 2], "data")
        victim.assert_tidy()
        victim.assert_whole(is_whole)
    assert victim.killed > KILLS // 2
    if has_program("git"):
        assert fsck(victim.storage) == ""


DOCKERFILE = """\
FROM big
RUN for f in /data/*/*; do echo {n} > $f; done; echo {n} > /data/0/more
RUN rm -r /data/9; mkdir -p /new/{n}; echo {n} > /new/{n}/file; sleep 0.1
COPY files /copied
WORKDIR /work/dir
RUN for f in /data/*/*; do echo {n} >> $f; done; echo {n} > /done
"""


def is_whole_build(found: Content) -> bool:
    """All files of the built image come from the same build."""
    numbers = [path.split("/")[1] for path in found if path.startswith("new/") and path.count("/") == 1]
    if len(numbers) != 1 or "data/9" in found or "work/dir" not in found:
        return False
    once, twice = (hashlib.sha256(f"{numbers[0]}\n".encode() * times).hexdigest() for times in (1, 2))
    return (
        values(found, "data") == {twice}
        and values(found, "copied") == {once}
        and found["done"][2] == found[f"new/{numbers[0]}/file"][2] == once
    )


def test_killed_builds(builds: Builds, busybox: Path, tmp_path: Path) -> None:
    """Of an image that is there already, which a build takes apart; with cache, and sometimes without."""
    victim = Victim(builds, Random(5))
    builds.chimage.run("import", tree(busybox, tmp_path / "tree", "big"), "big")
    bases = {}
    for name in ("base", "big"):
        bases[f"{name}:latest"] = contents(builds.image(f"{name}+latest"))
        del bases[f"{name}:latest"]["ch/metadata.json"]

    def arguments(number: int) -> list[str]:
        builds.write("Dockerfile", DOCKERFILE.format(n=number))
        for file in range(50):
            builds.write(f"files/{file}", f"{number}\n")
        options = ["--no-cache"] if number % 6 == 5 else []
        return ["build", "-t", "image", *options, str(builds.context)]

    def is_whole(reference: str, found: Content) -> bool:
        return found == bases[reference] if reference in bases else is_whole_build(found)

    for number in (1000, 1001):
        victim.measure(arguments(number))
    for number in range(KILLS):
        before = builds.read("done")
        victim.kill(number, arguments(number))
        builds.chimage.run("list")
        if number % 3:
            assert marks(builds.chimage.run("build", "-t", "other", "-", stdin="FROM base\nRUN true")) in ("*.", "**")
            builds.chimage.run("delete", "other")
            assert builds.read("done") in (before, f"{number}\n")
        else:
            builds.chimage.run(*arguments(number))
            assert builds.read("done") == f"{number}\n"
            victim.measure(arguments(2000 + number))
        victim.assert_tidy()
        victim.assert_whole(is_whole)
    assert victim.killed > KILLS // 2
    last = arguments(KILLS)
    builds.chimage.run(*last)
    before_delete = contents(builds.image())
    builds.chimage.run("delete", "image")
    assert marks(builds.chimage.run(*last)) == "******"
    assert contents(builds.image()) == before_delete
    if has_program("git"):
        assert fsck(victim.storage) == ""
