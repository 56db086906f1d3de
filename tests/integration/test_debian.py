"""A real distribution, built as an ordinary user: what the program is for."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import apt_repository
from tests.support.apt_repository import AptRepository
from tests.support.builds import Builds, contents, marks
from tests.support.cli import Chimage
from tests.support.debian import find_assets
from tests.support.host import needs_program
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

DOCKERFILE = """\
FROM debian AS tools
RUN echo '{source}' > /etc/apt/sources.list && apt-get update && apt-get install -y {packages}
RUN useradd -m -G daemon worker && echo secret > /home/worker/note && chown -R worker:worker /home/worker
COPY greeting /etc/greeting
ENV GREETING=/etc/greeting
RUN cat $GREETING && hello --version | head -1 && ssh -V

FROM debian
COPY --from=tools /usr/bin/hello /usr/local/bin/hello
COPY --from=tools /etc/passwd /tmp/passwd
RUN hello -g "hello from a stage" && grep worker /tmp/passwd
"""
PACKAGES = "openssh-client hello uuid-runtime"


@pytest.fixture(scope="module")
def debian_repository() -> Iterator[AptRepository]:
    """Serve the repository for all tests of this module: its address is part of instructions, which then hit."""
    assets = find_assets()
    if assets is None:
        pytest.skip("no Debian root file system was prepared (make test, or python -m tests.support.prepare)")
    with apt_repository.serve(assets.repository) as repository:
        yield repository


@pytest.fixture(scope="module")
def storage_with_debian(tmp_path_factory: pytest.TempPathFactory) -> Chimage:
    """Return the command line, bound to a storage directory of this module."""
    return Chimage(tmp_path_factory.mktemp("debian") / "storage")


@pytest.fixture
def debian_builds(storage_with_debian: Chimage, debian_tarball: str, tmp_path: Path) -> Builds:
    """Return a build context, and the storage directory with the image `debian`, imported once."""
    if not os.path.isdir(os.path.join(storage_with_debian.storage, "img/debian+latest")):
        storage_with_debian.run("import", debian_tarball, "debian")
    builds = Builds(storage_with_debian, tmp_path / "context")
    builds.write("greeting", "good morning\n")
    return builds


def dockerfile(repository: AptRepository) -> str:
    return DOCKERFILE.format(source=repository.source, packages=PACKAGES)


@needs_program("git")
def test_packages_users_and_stages(debian_builds: Builds, debian_repository: AptRepository) -> None:
    """Maintainer scripts change owners, set setgid bits, and add users and groups: none of it with privilege."""
    builds, text = debian_builds, dockerfile(debian_repository)
    built = builds.build(text, "--rebuild")
    assert marks(built) == "*.....*..."
    for line in ("good morning", "hello (GNU Hello)", "hello from a stage", "worker:x:1000:1000"):
        assert line in built.stdout
    assert "OpenSSH" in built.stdout + built.stderr
    assert built.stderr.splitlines()[-2:] == [
        "--force=seccomp: modified 1 RUN instructions",
        "grown in 10 instructions: image",
    ]
    tools, image = builds.image("image_stage0+latest"), builds.image()
    assert (tools / "usr/bin/ssh-agent").exists()
    assert "uuidd:" in (tools / "etc/passwd").read_text()
    assert (tools / "home/worker/note").stat().st_uid == os.geteuid()
    assert "GREETING=/etc/greeting" in (tools / "ch/environment").read_text()
    assert not (image / "usr/bin/ssh").exists()
    assert fsck(builds.chimage.storage) == ""


def test_all_hits_the_second_time_and_the_same_image_after_a_delete(
    debian_builds: Builds, debian_repository: AptRepository
) -> None:
    builds, text = debian_builds, dockerfile(debian_repository)
    builds.build(text)
    before = contents(builds.image())
    again = builds.build(text)
    assert marks(again) == "*" * 10
    assert again.stdout == ""
    builds.chimage.run("delete", "image")
    assert marks(builds.build(text)) == "*" * 10
    assert contents(builds.image()) == before
    changed = builds.build(text.replace("useradd -m", "useradd -m -c Worker"))
    assert marks(changed) == "**....*..."
    assert "Worker" in builds.read("etc/passwd", "image_stage0+latest")


def test_a_failing_package_leaves_image_and_cache(debian_builds: Builds, debian_repository: AptRepository) -> None:
    builds = debian_builds
    source = f"FROM debian\nRUN echo '{debian_repository.source}' > /etc/apt/sources.list && apt-get update\n"
    builds.build(f"{source}RUN apt-get install -y hello", tag="hello")
    before = contents(builds.image("hello+latest"))
    failed = builds.build(f"{source}RUN apt-get install -y no-such-package", tag="hello", check=False).expect(1)
    assert marks(failed) == "**."
    assert "exited with 100" in failed.stderr
    assert f"{builds.context}/Dockerfile:3: RUN.S apt-get install -y no-such-package" in failed.stderr
    assert contents(builds.image("hello+latest")) == before
    assert marks(builds.build(f"{source}RUN apt-get install -y hello", tag="hello")) == "***"


def test_fakeroot_is_installed_and_lies_consistently(debian_builds: Builds, debian_repository: AptRepository) -> None:
    """A program that looks whether its chown worked is content, which the filter of --force=seccomp cannot achieve."""
    builds = debian_builds
    check = "dpkg --version && touch /f && chown 12:34 /f && stat -c owner=%u:%g /f"
    text = (
        f"FROM debian\nRUN echo '{debian_repository.source}' > /etc/apt/sources.list\n"
        f"RUN apt-get update && apt-get install -y openssh-client uuid-runtime\nRUN {check}"
    )
    built = builds.build(text, "--rebuild", "--force=fakeroot", tag="lies")
    assert marks(built) == "*..."
    told = [line for line in built.stderr.splitlines() if line.startswith("--force=fakeroot")]
    assert told[:2] == [
        "--force=fakeroot: will use: debderiv: Debian 9+, Ubuntu 14+, or other derivative",
        "--force=fakeroot: init step 1: checking: $ apt-config dump | grep -q 'APT::Sandbox::User \"root\"' "
        "|| ! grep -q '^_apt:' /etc/passwd",
    ]
    assert told[-1] == "--force=fakeroot: modified 2 RUN instructions"
    assert "owner=12:34" in built.stdout
    assert "uuidd:" in builds.read("etc/passwd", "lies+latest")
    assert (builds.image("lies+latest") / "f").stat().st_uid == os.geteuid()
    assert fsck(builds.chimage.storage) == ""
    again = builds.build(f"{text}\nRUN dpkg --status fakeroot > /status", "--force=fakeroot", tag="lies")
    assert marks(again) == "****."
    assert "init step 2: exit 0, step not needed" in again.stderr
    assert "Status: install ok installed" in builds.read("status", "lies+latest")


def test_without_emulation_packages_fail_and_the_reason_is_told(
    debian_builds: Builds, debian_repository: AptRepository
) -> None:
    source = f"FROM debian\nRUN echo '{debian_repository.source}' > /etc/apt/sources.list\n"
    options = ("--force=none", "--json")
    failed = debian_builds.build(f"{source}RUN apt-get update", *options, tag="fails", check=False).expect(1)
    hint = failed.json_lines()[-1]["hint"]
    assert hint.startswith("it looks as if privilege was missing for a change of user or group: try --force=seccomp")


@needs_program("ch-run")
def test_ch_run_runs_the_result_by_name(debian_builds: Builds, debian_repository: AptRepository) -> None:
    """The layout of the storage directory is what Charliecloud's own programs look for."""
    builds = debian_builds
    source = f"FROM debian\nRUN echo '{debian_repository.source}' > /etc/apt/sources.list && apt-get update\n"
    builds.build(f"{source}RUN apt-get install -y hello\nENV NAME=value", tag="hello")
    for name, command, expected in (
        ("hello", ["hello"], "Hello, world!\n"),
        ("hello:latest", ["hello", "-g", "hi"], "hi\n"),
        ("hello", ["sh", "-c", "echo $NAME"], "value\n"),
    ):
        argv = ["ch-run", "-s", builds.chimage.storage, "--set-env", name, "--", *command]
        done = subprocess.run(argv, capture_output=True, text=True, env=builds.chimage.environment(), check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected


@needs_program("ch-run", "bwrap")
@pytest.mark.parametrize("runner", ["ch-run", "bwrap"])
def test_packages_install_with_the_other_runners_too(
    debian_builds: Builds, debian_repository: AptRepository, runner: str
) -> None:
    builds = debian_builds
    text = (
        f"FROM debian\nRUN echo '{debian_repository.source}' > /etc/apt/sources.list\n"
        "RUN apt-get update && apt-get install -y uuid-runtime hello\nRUN hello"
    )
    built = builds.build(text, "--rebuild", f"--runner={runner}", tag=f"by-{runner}")
    assert built.stdout.endswith("Hello, world!\n")
    assert "uuidd:" in builds.read("etc/passwd", f"by-{runner}+latest")
