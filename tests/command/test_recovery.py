"""What interrupted commands leave is put right by the next one, and keeps nobody from working."""

import os
import shutil
import time
from pathlib import Path

import pytest

from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout
from tests.support.builds import Builds, contents, marks

PATIENCE = 60
"""Seconds after which what should happen counts as not happening."""


def take_apart(builds: Builds, name: str) -> None:
    """Leave an image as a build does that is killed while it changes it."""
    assert Images(Layout(builds.chimage.storage)).take(name)
    Path(builds.chimage.storage, "work", name, "half-done").touch()
    Path(builds.chimage.storage, "img.d", name, "stamp").unlink()


def damage_cache(builds: Builds) -> None:
    Path(builds.chimage.storage, "cache/git/config").write_text("no configuration\n")


def test_a_command_without_cache_restores_what_one_with_cache_took_apart(builds: Builds) -> None:
    """Without the cache alone, the image would look like something nobody had been promised, and be removed."""
    builds.build("FROM base\nLABEL a=b")
    before = contents(builds.image())
    take_apart(builds, "image+latest")
    builds.chimage.run("--no-cache", "build", "-t", "other", "-", stdin="FROM base")
    assert "image:latest (amd64)" in [name.replace("arm64", "amd64") for name in builds.names()]
    assert contents(builds.image()) == before


@pytest.mark.parametrize("command", ["delete other", "--no-cache build -t new -", "build-cache --reset"])
def test_an_image_that_cannot_be_restored_keeps_no_other_command_from_working(builds: Builds, command: str) -> None:
    """Else a full disk could not be cleared, nor a damaged cache be reset."""
    builds.build("FROM base\nLABEL a=b")
    builds.chimage.run("--no-cache", "build", "-t", "other", "-", stdin="FROM base")
    take_apart(builds, "image+latest")
    packs = Path(builds.chimage.storage, "cache/git/objects/pack")
    shutil.rmtree(packs)
    packs.mkdir()
    result = builds.chimage.run(*command.split(), stdin="FROM other")
    assert "can’t restore an image left unfinished by an interrupted command: image" in result.stderr


def test_a_cache_that_cannot_be_read_can_be_reset(builds: Builds) -> None:
    """It is what the error message tells people to do."""
    damage_cache(builds)
    failed = builds.build("FROM base\nLABEL a=b", check=False).expect(1)
    assert "build-cache --reset" in failed.stderr
    builds.chimage.run("build-cache", "--reset")
    assert marks(builds.build("FROM base\nLABEL a=b")) == ".."


def test_a_cache_that_cannot_be_read_does_not_hide_the_images(builds: Builds) -> None:
    damage_cache(builds)
    assert len(builds.names()) == 1


def test_nothing_is_recovered_or_swept_without_locks(builds: Builds) -> None:
    """What looks left behind may be what another command without locks is working on at this moment."""
    script = "touch /mnt/0/here; until test -e /mnt/0/go; do sleep 0.05; done; echo done > /done"
    builds.write("Dockerfile.slow", f"FROM base\nRUN {script}\n")
    bind = f"{builds.context}:/mnt/0"
    arguments = ["--no-lock", "build", "-t", "slow", "-f", str(builds.context / "Dockerfile.slow"), "--bind", bind]
    Path(builds.chimage.storage, "sessions", "1-killed").touch()
    with builds.chimage.start(*arguments, builds.context) as slow:
        deadline = time.monotonic() + PATIENCE
        while not (builds.context / "here").exists():
            assert time.monotonic() < deadline
            assert slow.poll() is None
            time.sleep(0.01)
        assert os.listdir(Path(builds.chimage.storage, "work")) == ["slow+latest"]
        builds.chimage.run("--no-lock", "build", "-t", "quick", "-", stdin="FROM base\nLABEL a=b")
        (builds.context / "go").touch()
        assert slow.wait(PATIENCE) == 0, slow.communicate()
        slow.communicate()
    assert builds.read("done", "slow+latest") == "done\n"


def test_an_image_whose_name_was_lost_is_still_a_base(builds: Builds) -> None:
    """A command that was killed between the two leaves a directory without a name in the cache, or the other way."""
    builds.build("FROM base\nLABEL a=b")
    Path(builds.chimage.storage, "cache/git/refs/images/image+latest").unlink()
    builds.build("FROM image\nRUN echo child > /child", tag="child")
    assert builds.read("child", "child+latest") == "child\n"


def test_after_a_restart_of_the_machine_a_failed_build_leaves_the_image_known(builds: Builds) -> None:
    """Or all images built on it would be built again."""
    builds.build("FROM base\nRUN echo 1 > /one", tag="one")
    builds.build("FROM one\nRUN echo 2 > /two", tag="two")
    before = contents(builds.image("one+latest"))
    stamp = Path(builds.chimage.storage, "img.d/one+latest/stamp")
    lines = stamp.read_text().splitlines(keepends=True)
    stamp.write_text("".join("boot another\n" if line.startswith("boot ") else line for line in lines))
    builds.build("FROM base\nRUN echo 3 > /three; false", tag="one", check=False).expect(1)
    assert contents(builds.image("one+latest")) == before
    assert marks(builds.build("FROM one\nRUN echo 2 > /two", tag="two")) == "**"


def test_what_went_wrong_first_is_what_is_said(builds: Builds) -> None:
    """Here a RUN fails, and then the image cannot be put back, because the cache is damaged."""
    builds.build("FROM base\nRUN echo 1 > /one")
    bind = f"{builds.chimage.storage}/cache/git/objects:/mnt/0"
    script = "rm -rf /mnt/0/pack; mkdir /mnt/0/pack; echo 2 > /one; exit 3"
    result = builds.build(f"FROM base\nRUN {script}", "--bind", bind, check=False).expect(1)
    assert "RUN command exited with 3" in result.stderr


def test_the_directory_of_a_stage_is_what_its_name_promises(builds: Builds) -> None:
    """A stage whose instructions all hit needs no directory, but one of another build must not stay there."""
    dockerfile = "FROM base AS first\nRUN echo {0} > /number\nFROM base\nCOPY --from=first /number /copy"
    for number in (1, 2):
        builds.build(dockerfile.format(number))
    assert builds.read("number", "image_stage0+latest") == "2\n"
    builds.build(dockerfile.format(1))
    assert builds.read("copy") == "1\n"
    assert builds.read("number", "image_stage0+latest") == "1\n"
