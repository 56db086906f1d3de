"""Where the program runs: umask, variables, file systems, directories that belong to others."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks, traces
from tests.support.cli import PATH, Chimage, CliResult
from tests.support.repository import fsck

HELLO = "FROM base\nCOPY f /f\nRUN mkdir /d; touch /d/f; echo x > /x\nWORKDIR /w"


def run_by_shell(chimage: Chimage, prefix: str, *argv: str | Path, env: dict[str, str] | None = None) -> CliResult:
    """Run a command by a shell that does something first."""
    command = ["sh", "-c", f'{prefix}; exec "$@"', "sh", *chimage.argv(*argv)]
    environment = chimage.environment() if env is None else env
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return CliResult(tuple(map(str, argv)), done.returncode, done.stdout, done.stderr)


@pytest.mark.userns
@pytest.mark.parametrize("mask", ["077", "000", "027"])
def test_the_umask_does_not_matter_to_the_image(builds: Builds, busybox: Path, mask: str) -> None:
    """The image is for others; and hits must give what misses gave."""
    builds.write("f", "f")
    builds.build(HELLO, tag="usual")
    other = Chimage(f"{builds.chimage.storage}-{mask}")
    run_by_shell(other, f"umask {mask}", "import", busybox, "base").expect(0)
    run_by_shell(other, f"umask {mask}", "build", "-t", "image", builds.context).expect(0)
    masked = Builds(other, builds.context)
    assert contents(masked.image()) == contents(builds.image("usual+latest"))
    assert masked.image().stat().st_mode == builds.image("usual+latest").stat().st_mode
    run_by_shell(other, f"umask {mask}", "delete", "image").expect(0)
    run_by_shell(other, f"umask {mask}", "build", "-t", "image", builds.context).expect(0)
    assert contents(masked.image()) == contents(builds.image("usual+latest"))


@pytest.mark.userns
def test_nothing_of_the_environment_is_needed(builds: Builds) -> None:
    """Cron jobs have no HOME, no USER and no locale."""
    builds.write("f", "f")
    builds.write("Dockerfile", HELLO)
    env = {"PATH": PATH}
    run_by_shell(
        builds.chimage, ":", "-s", builds.chimage.storage, "build", "-t", "image", builds.context, env=env
    ).expect(0)
    assert builds.read("x") == "x\n"


@pytest.mark.userns
@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.ISO-8859-1", "nonsense"])
def test_any_locale_will_do(builds: Builds, locale: str) -> None:
    builds.write("größe", "ü")
    dockerfile = "FROM base\nCOPY größe /größe\nLABEL k=ü\nRUN test -e /größe && echo ü > /ü"
    result = builds.build(dockerfile, env={"LC_ALL": locale, "LANG": locale})
    assert builds.read("größe") == "ü"
    assert builds.read("ü") == "ü\n"
    assert marks(result) == "*..."
    assert marks(builds.build(dockerfile)) == "****"
    assert "Traceback" not in builds.build("FROM base\nCOPY ö /", env={"LC_ALL": locale}, check=False).expect(1).stderr


@pytest.mark.userns
def test_variables_of_git_do_not_reach_the_cache(builds: Builds, tmp_path: Path) -> None:
    """They break the cache of ch-image, which then deletes the base image."""
    env = {
        "GIT_DIR": str(tmp_path / "nowhere"),
        "GIT_WORK_TREE": "/",
        "GIT_INDEX_FILE": str(tmp_path / "index"),
        "GIT_CONFIG_GLOBAL": str(tmp_path / "config"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"),
    }
    (tmp_path / "config").write_text("[core]\n\tautocrlf = true\n\tfileMode = false\n[core\n")
    builds.write("f", "a\nb\n")
    builds.build(HELLO, env=env)
    builds.chimage.run("delete", "image", env=env)
    assert marks(builds.build(HELLO, env=env)) == "****"
    assert builds.read("f") == "a\nb\n"


# The storage directory


def test_a_relative_storage_variable_is_a_usage_error(chimage: Chimage) -> None:
    result = chimage.run("list", env={"CH_IMAGE_STORAGE": "relative"}, check=False).expect(2)
    assert "$CH_IMAGE_STORAGE" in result.stderr
    assert "'relative'" in result.stderr


def test_a_directory_that_is_not_ours_is_never_touched(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    (storage / "sub").mkdir(parents=True)
    (storage / "precious").write_text("x")
    before = traces(storage)
    for command in (["import", tmp_path, "foo"], ["delete", "x"], ["list"], ["reset"], ["build-cache", "--reset"]):
        result = chimage.run(*command, check=False).expect(1)
        assert str(storage) in result.stderr
    assert traces(storage) == before


def test_a_storage_directory_of_charliecloud_is_refused_and_not_altered(
    chimage: Chimage, storage: Path, tmp_path: Path
) -> None:
    for name in ("bucache", "bularge", "dlcache", "img/foo+latest/bin", "ulcache"):
        (storage / name).mkdir(parents=True)
    (storage / "version").write_text("7\n")
    (storage / "lock").touch()
    before = traces(storage)
    for command in (["import", tmp_path, "foo"], ["delete", "foo"], ["list"], ["reset"], ["build-cache", "--reset"]):
        result = chimage.run(*command, check=False).expect(1)
        assert "belongs to Charliecloud" in result.stderr
        assert "hint:" in result.stderr
    assert traces(storage) == before


def test_a_file_as_storage_directory_is_one_error(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    storage.write_text("precious")
    for command in (["import", tmp_path, "foo"], ["list"], ["reset"]):
        result = chimage.run(*command, check=False).expect(1)
        assert str(storage) in result.stderr
        assert "Traceback" not in result.stderr
    assert storage.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_storage_directory_can_be_looked_at(builds: Builds) -> None:
    changed = []
    for parent, _, _ in os.walk(builds.chimage.storage):
        changed.append((parent, stat.S_IMODE(os.lstat(parent).st_mode)))
        os.chmod(parent, 0o500)
    os.chmod(Path(builds.chimage.storage, "lock"), 0o400)
    try:
        assert builds.names() == ["base:latest (amd64)"]
        assert "named images:     1" in builds.chimage.run("build-cache").stdout
        assert "IMPORT base" in builds.chimage.run("build-cache", "--tree").stdout
        builds.build("FROM base\nRUN true", "--dry-run")
        for result in (
            builds.build("FROM base\nRUN true", check=False),
            builds.chimage.run("import", builds.context, "foo", check=False),
            builds.chimage.run("delete", "base", check=False),
            builds.chimage.run("reset", check=False),
        ):
            result.expect(1)
            assert "Permission denied" in result.stderr
            assert builds.chimage.storage in result.stderr
            assert "Traceback" not in result.stderr
    finally:
        for parent, mode in changed:
            os.chmod(parent, mode)
    assert builds.names() == ["base:latest (amd64)"]


def test_a_storage_directory_that_cannot_be_made(chimage: Chimage, tmp_path: Path) -> None:
    result = chimage.run("-s", tmp_path / "no/such/parent", "import", tmp_path, "foo", check=False).expect(1)
    assert "no/such/parent" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.root
def test_a_full_disk_is_one_error_and_the_images_stay_whole(busybox: Path, tmp_path: Path) -> None:
    """Whatever it is that no longer fits: the file itself, its copy in the cache, or our notes about it."""
    disk, context = tmp_path / "disk", tmp_path / "context"
    disk.mkdir()
    context.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
    try:
        builds = Builds(Chimage(disk / "storage"), context)
        builds.chimage.run("import", busybox, "base")
        builds.build("FROM base\nRUN echo small > /small")
        before = contents(builds.image())
        failures = 0
        for kilobytes in (500, 1500, 2500, 3500, 30_000):
            (context / "big").write_bytes(os.urandom(kilobytes * 1000))
            for instruction in ("COPY big /big", f"RUN dd if=/dev/urandom of=/big bs=1000 count={kilobytes}"):
                result = builds.build(f"FROM base\nRUN echo small > /small\n{instruction}", tag="big", check=False)
                assert "Traceback" not in result.stderr
                if result.status != 0:
                    failures += 1
                    assert result.expect(1).stderr.count("error:") == 1
                    assert "No space left on device" in result.stderr
                else:
                    assert builds.image("big+latest").joinpath("big").stat().st_size == kilobytes * 1000
                builds.chimage.run("delete", "big", check=False)
                assert contents(builds.image()) == before
        assert failures >= 2
        result = builds.chimage.run("import", context, "other", check=False).expect(1)
        assert "No space left on device" in result.stderr
        assert builds.names() == ["base:latest (amd64)", "image:latest (amd64)"]
        assert fsck(builds.chimage.storage) == ""
        builds.chimage.run("build-cache", "--reset")
        assert marks(builds.build("FROM base\nRUN echo small > /small\nRUN true")) == "..."
    finally:
        subprocess.run(["umount", disk], check=True)
