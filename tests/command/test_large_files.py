"""Large files in builds: nothing that RUN does to an image changes what the build cache remembers."""

import os
from pathlib import Path

import pytest

from tests.support.builds import BASE, Builds
from tests.support.host import has_program
from tests.support.repository import fsck

MAKE = "RUN head -c 2000000 /dev/urandom > /big && cp -p /big /twin && sha256sum /big > /sum"
CHECK = "RUN sha256sum -c /sum"


def large_files(builds: Builds) -> list[Path]:
    return [path for path in Path(builds.chimage.storage, "cache/large").rglob("*") if path.is_file()]


def build(builds: Builds, tag: str, *lines: str, runner: str = "auto") -> None:
    dockerfile = builds.context / "Dockerfile"
    dockerfile.write_text("\n".join([f"FROM {BASE}", *lines]) + "\n")
    builds.chimage.run("build", "--runner", runner, "-t", tag, builds.context)


def sound(builds: Builds, tag: str) -> bool:
    """Return whether an image has the content it was made with."""
    import hashlib

    root = builds.image(f"{tag}+latest")
    expected = (root / "sum").read_text().split()[0]
    return hashlib.sha256((root / "big").read_bytes()).hexdigest() == expected


@pytest.mark.userns
@pytest.mark.parametrize("second", ["python", "ch-run", "bwrap"])
def test_a_run_in_place_cannot_reach_the_cache(builds: Builds, second: str) -> None:
    """The first RUN is on an overlay, so the image is linked to the cache; others write where the files are."""
    if second != "python" and not has_program(second):
        pytest.skip(f"not installed: {second}")
    build(builds, "first", MAKE)
    spoil = "RUN printf spoiled | dd of=/big conv=notrunc && chmod 600 /twin"
    build(builds, "first", MAKE, spoil, runner=second)
    assert (builds.image("first+latest") / "big").read_bytes().startswith(b"spoiled")
    build(builds, "again", MAKE, CHECK)
    assert sound(builds, "again")
    build(builds, "first", MAKE, CHECK)
    assert sound(builds, "first")
    builds.chimage.run("build-cache", "--check")


@pytest.mark.userns
def test_deleted_and_collected_images_come_back(builds: Builds) -> None:
    build(builds, "image", MAKE)
    builds.chimage.run("delete", "image")
    builds.chimage.run("build-cache", "--gc")
    builds.chimage.run("undelete", "image")
    assert sound(builds, "image")
    assert fsck(builds.chimage.storage) == ""
    builds.chimage.run("build-cache", "--check")


@pytest.mark.userns
@pytest.mark.parametrize("how", ["option", "variable"])
def test_declared_large_files(builds: Builds, how: str) -> None:
    arguments = ["--cache-large", "1"] if how == "option" else []
    environment = {"CH_IMAGE_CACHE_LARGE": "1"} if how == "variable" else {}
    (builds.context / "Dockerfile").write_text(f"FROM {BASE}\n{MAKE}\n")
    builds.chimage.run(*arguments, "build", "-t", "image", builds.context, env=environment)
    assert len([path for path in large_files(builds) if path.name.startswith("?")]) == 2
    (line,) = [
        line for line in builds.chimage.run("build-cache").stdout.splitlines() if line.startswith("large files:")
    ]
    assert line.split()[-1] == str(len(large_files(builds)))
    builds.chimage.run("delete", "image")
    builds.chimage.run("undelete", "image")
    assert sound(builds, "image")
    root = builds.image("image+latest")
    assert os.lstat(root / "big").st_ino != os.lstat(root / "twin").st_ino


@pytest.mark.parametrize("size", ["-1", "x", "1.5", ""])
def test_a_size_that_is_none(builds: Builds, size: str) -> None:
    result = builds.chimage.run("build-cache", f"--cache-large={size}", check=False)
    assert result.status == 2
    assert "expected a number of MiB" in result.stderr
