"""Extended attributes and ACLs: kept by default, left out on request, and told once where a disk has none."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.builds import BASE, Builds
from tests.support.cli import Chimage, CliResult
from tests.support.image_trees import default_acl

pytestmark = pytest.mark.userns

NAMES = ("user.test", "system.posix_acl_access")
VALUES = {"user.test": b"\0\xff", "system.posix_acl_access": default_acl()}


def give_attributes(path: Path) -> None:
    for name in NAMES:
        try:
            os.setxattr(path, name, VALUES[name])
        except OSError as error:
            pytest.skip(f"no extended attributes here: {error}")


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def on_a_disk_without_attributes(
    chimage: Chimage, commands: Sequence[Sequence[str]], *, prepare: Sequence[str] = ("true",)
) -> list[CliResult]:
    """Run commands with a storage directory on a ramfs, which has none, and which every user may mount somewhere.

    `prepare` is run before.
    """
    storage = Path(chimage.storage)
    lines = ["set -e", f"mount -t ramfs none {shlex.quote(str(storage.parent))}", shlex.join(prepare)]
    outputs = storage.parent.parent / "outputs"
    outputs.mkdir()
    for number, command in enumerate(commands):
        stdout, stderr = (shlex.quote(f"{outputs}/{number}.{stream}") for stream in ("stdout", "stderr"))
        lines.append(f"{shlex.join(chimage.argv(*command))} < /dev/null > {stdout} 2> {stderr}")
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", "\n".join(lines)],
        env=chimage.environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    if "ramfs" in done.stderr:
        pytest.skip(f"no ramfs can be mounted here: {done.stderr}")
    texts = {path.name: path.read_text() for path in outputs.iterdir()}
    assert done.returncode == 0, (done.stderr, texts)
    return [CliResult(tuple(command), 0, "", texts[f"{number}.stderr"]) for number, command in enumerate(commands)]


def told(result: CliResult) -> int:
    """Return how often it was said that attributes are left out."""
    return result.stderr.count("warning: extended attributes")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Chimage:
    """Return the command line, bound to a storage directory in a directory of its own."""
    (tmp_path / "disk").mkdir()
    return Chimage(tmp_path / "disk/storage")


@pytest.fixture
def source(busybox: Path, tmp_path: Path) -> Path:
    """Return a root file system in which several entries have attributes."""
    source = tmp_path / "source"
    subprocess.run(["cp", "-a", busybox, source], check=True)
    for name in ("etc/passwd", "etc/hosts", "etc", "root"):
        give_attributes(source / name)
    return source


@pytest.mark.parametrize("option", [[], ["--xattrs"]])
def test_they_are_kept_by_default(builds: Builds, source: Path, option: list[str]) -> None:
    """Through import, COPY, RUN, deletion and hits."""
    builds.chimage.run("import", *option, source, "other")
    give_attributes(builds.write("f", "content"))
    dockerfile = "FROM other\nCOPY f /f\nRUN touch /etc/passwd && chmod 755 /etc"
    builds.build(dockerfile, *option)
    for _ in range(2):
        for name in ("etc/passwd", "etc/hosts", "root", "f"):
            assert attributes(builds.image() / name) == VALUES, name
        assert attributes(builds.image() / "etc")["user.test"] == VALUES["user.test"]
        builds.chimage.run("delete", "image")
        builds.build(dockerfile, *option)


@pytest.mark.parametrize("value", ["", "1", "no"])
def test_they_are_left_out_on_request_whatever_the_variable_says(builds: Builds, source: Path, value: str) -> None:
    """The variable asks for the default; an option beats a variable."""
    environment = {"CH_XATTRS": value}
    builds.chimage.run("import", "--no-xattrs", source, "other", env=environment)
    give_attributes(builds.write("f", "content"))
    builds.build("FROM other\nCOPY f /f", "--no-xattrs", env=environment)
    for name in ("etc/passwd", "etc", "f"):
        assert attributes(builds.image() / name) == {}


def test_who_leaves_them_out_does_not_take_them_from_others(builds: Builds, source: Path) -> None:
    builds.chimage.run("import", source, "other")
    builds.build("FROM other\nRUN true", "--no-xattrs", tag="without")
    builds.build("FROM other\nRUN true", tag="with")
    assert attributes(builds.image("with+latest") / "etc/passwd") == VALUES
    assert attributes(builds.image("other+latest") / "etc/passwd") == VALUES


def test_a_disk_without_attributes_is_told_once_a_command(elsewhere: Chimage, source: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "d").mkdir(parents=True)
    for name in ("f", "g", "d/h"):
        (context / name).write_text("content")
        give_attributes(context / name)
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY f /f\nCOPY g d /g/\nRUN cat /f /g/h")
    build = ["build", "-t", "image", str(context)]
    commands = [
        ["import", str(source), BASE],
        build,
        ["import", "--no-xattrs", str(source), BASE],
        [*build, "--no-xattrs", "--rebuild"],
        [*build, "--no-cache"],
    ]
    results = on_a_disk_without_attributes(elsewhere, commands)
    assert [told(result) for result in results] == [1, 1, 0, 0, 1]
    assert "--no-xattrs" in results[1].stderr


def test_attributes_in_an_archive_too(elsewhere: Chimage, source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    if subprocess.run(["tar", "--xattrs", "-C", source, "-cf", archive, "."], check=False).returncode:
        pytest.skip("this tar knows no extended attributes")
    (result,) = on_a_disk_without_attributes(elsewhere, [["import", str(archive), BASE]])
    assert told(result) == 1


def test_what_the_cache_keeps_is_told_where_it_cannot_be_given_back(
    elsewhere: Chimage, source: Path, tmp_path: Path
) -> None:
    """A cache that came from another disk."""
    with_attributes = Chimage(tmp_path / "first")
    with_attributes.run("import", source, BASE)
    archive = tmp_path / "storage.tar"
    subprocess.run(["tar", "-C", with_attributes.storage, "--exclude=./img/*", "-cf", archive, "."], check=True)
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\n")
    builds = [["build", "-t", f"image{n}", "-f", str(tmp_path / "Dockerfile"), str(tmp_path / "disk")] for n in "12"]
    unpack = f"mkdir {elsewhere.storage} && tar --no-same-owner -C {elsewhere.storage} -xf {archive}"
    results = on_a_disk_without_attributes(elsewhere, builds, prepare=["sh", "-c", unpack])
    assert [told(result) for result in results] == [1, 1]
