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
            assert time.monotonic() < deadline and slow.poll() is None
            time.sleep(0.01)
        assert os.listdir(Path(builds.chimage.storage, "work")) == ["slow+latest"]
        builds.chimage.run("--no-lock", "build", "-t", "quick", "-", stdin="FROM base\nLABEL a=b")
        (builds.context / "go").touch()
        assert slow.wait(PATIENCE) == 0, slow.communicate()
        slow.communicate()
    assert builds.read("done", "slow+latest") == "done\n"
