"""`build-cache --check` finds damage, and says whom it concerns; `--repair` mends what can be mended."""

import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from random import Random

import pytest

from tests.support.builds import Builds, marks, traces
from tests.support.cli import Chimage, CliResult
from tests.support.repository import fsck

pytestmark = pytest.mark.userns


@pytest.fixture
def built(builds: Builds) -> Builds:
    """Return builds with an image of two states upon BASE."""
    builds.build("FROM base\nRUN echo one > /one\nRUN echo two > /two")
    return builds


def repository(builds: Builds) -> Path:
    return Path(builds.chimage.storage, "cache/git")


def check(builds: Builds, *options: str) -> CliResult:
    return builds.chimage.run("build-cache", "--check", *options, check=False)


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x55]))


def biggest_pack(builds: Builds) -> Path:
    return max((repository(builds) / "objects/pack").glob("*.pack"), key=lambda path: path.stat().st_size)


def test_a_sound_cache_is_said_to_be_sound_and_left_as_it_is(built: Builds) -> None:
    before = traces(repository(built))
    result = check(built).expect(0)
    assert result.stdout.startswith("checked ")
    assert result.stdout.endswith(": no problems\n")
    for amount in ("3 packs", "3 snapshots", "2 unpacked images"):
        assert amount in result.stdout
    assert result.stderr == ""
    assert traces(repository(built)) == before


def test_without_a_cache_nothing_is_wrong(chimage: Chimage, storage: Path) -> None:
    assert "no problems" in chimage.run("build-cache", "--check").stdout
    assert not storage.exists()


def test_a_damaged_pack_is_found_with_the_images_concerned(built: Builds) -> None:
    pack = biggest_pack(built)
    flip(pack, pack.stat().st_size // 2)
    result = check(built).expect(1)
    assert f"error: pack objects/pack/{pack.stem}: " in result.stdout
    assert "(image base:latest, image:latest; 3 states)" in result.stdout
    assert "hint: mend it: build-cache --repair" in result.stderr


def test_the_findings_as_json(built: Builds) -> None:
    pack = biggest_pack(built)
    flip(pack, pack.stat().st_size // 2)
    *_, result, error = check(built, "--json").expect(1).json_lines()
    assert result["is_sound"] is False
    assert {"pack", "content"} == {finding["kind"] for finding in result["findings"]}
    content = next(finding for finding in result["findings"] if finding["kind"] == "content")
    assert content["images"] == ["base:latest", "image:latest"]
    assert len(content["states"]) == 3
    assert error["code"] == "cache.broken"


def test_a_directory_that_somebody_wrote_to_is_found(built: Builds) -> None:
    """As `ch-run -w` does; the stamp of the image says nothing of it."""
    (built.image() / "etc/new").write_text("x")
    (built.image() / "one").write_text("other")
    result = check(built).expect(1)
    assert "warning: directory image:latest: 2 paths not as in the build cache: etc/new, one (image image:latest)" in (
        result.stdout
    )


def test_a_damaged_record_of_inputs_is_found(built: Builds) -> None:
    path = Path(built.chimage.storage, "cache/inputs")
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    database.close()
    for position in range(4096, os.path.getsize(path), 512):
        flip(path, position)
    assert "warning: inputs inputs: " in check(built).expect(1).stdout


def test_a_build_goes_on_where_the_reference_of_a_state_is_malformed(built: Builds) -> None:
    """It counts as a miss, and the step's result replaces it."""
    dockerfile = "FROM base\nRUN echo one > /one\nRUN echo two > /two"
    for path in (repository(built) / "refs/states").iterdir():
        path.write_text("nonsense")
    result = built.build(dockerfile)
    assert result.stderr.count("warning: malformed reference") == 1
    assert "--repair" in result.stderr
    assert built.read("two") == "two\n"
    assert built.build(dockerfile).stderr.count("*") == 3


def test_an_image_whose_reference_is_malformed_is_an_error_with_the_way_out(built: Builds) -> None:
    (repository(built) / "refs/images/base+latest").write_text("nonsense")
    result = built.build("FROM base\nRUN true", check=False).expect(1)
    assert "malformed reference" in result.stderr
    assert "--repair" in result.stderr
    assert "base:latest (amd64)" in built.names()


def test_what_a_restore_cannot_read_is_an_error_with_the_way_out(built: Builds) -> None:
    built.chimage.run("delete", "image")
    pack = biggest_pack(built)
    flip(pack, pack.stat().st_size // 2)
    result = built.build("FROM base\nRUN echo one > /one\nRUN echo two > /two", check=False).expect(1)
    assert "is damaged" in result.stderr
    assert "--repair" in result.stderr
    assert "Traceback" not in result.stderr


def repair(builds: Builds, *options: str) -> CliResult:
    return builds.chimage.run("build-cache", "--repair", *options, check=False)


def test_what_is_damaged_comes_back_from_an_image_directory(built: Builds) -> None:
    pack = biggest_pack(built)
    flip(pack, pack.stat().st_size // 2)
    result = repair(built).expect(0)
    assert "objects saved from objects/pack/pack-" in result.stderr
    assert result.stdout.endswith(": no problems\n")
    assert fsck(built.chimage.storage) == ""
    assert marks(built.build("FROM base\nRUN echo one > /one\nRUN echo two > /two")) == "***"


def test_an_image_that_cannot_be_saved_is_said_to_be_lost(built: Builds) -> None:
    """Nothing else takes its name."""
    for name in ("base+latest", "image+latest"):
        shutil.rmtree(built.image(name))
    pack = biggest_pack(built)
    flip(pack, pack.stat().st_size // 2)
    result = repair(built).expect(0)
    assert "warning: image is lost, build or import it again: base:latest\n" in result.stderr
    assert "warning: image is lost, build or import it again: image:latest\n" in result.stderr
    assert "warning: 3 states damaged and forgotten" in result.stderr
    assert built.names() == []
    assert fsck(built.chimage.storage).removeprefix("notice: No default references") == ""


def test_an_image_that_somebody_wrote_to_keeps_what_was_written(built: Builds) -> None:
    (built.image() / "one").write_text("other\n")
    assert "is not what the build cache has" in repair(built).expect(0).stderr
    check(built).expect(0)
    assert marks(built.build("FROM image\nRUN cat /one > /three", tag="next")) == ".."
    assert built.read("three", "next+latest") == "other\n"


def test_a_damaged_record_of_inputs_goes(built: Builds) -> None:
    Path(built.chimage.storage, "cache/inputs").write_bytes(b"nonsense" * 1000)
    assert "record of inputs removed" in repair(built).expect(0).stderr
    check(built).expect(0)


def test_a_configuration_that_is_gone_is_written_anew(built: Builds) -> None:
    """With the identity that images know, so that they stay what they are."""
    (repository(built) / "config").unlink()
    (repository(built) / "HEAD").write_text("")
    result = check(built).expect(1)
    assert "configuration config: " in result.stdout
    assert "configuration HEAD: " in result.stdout
    repair(built).expect(0)
    assert marks(built.build("FROM base\nRUN echo one > /one\nRUN echo two > /two")) == "***"


def test_a_repair_of_what_is_sound_changes_nothing(built: Builds) -> None:
    before = traces(repository(built))
    result = repair(built, "--json").expect(0)
    assert [line["type"] for line in result.json_lines() if line["type"] == "repaired"] == []
    assert traces(repository(built)) == before


def test_killed_repairs_are_begun_again(built: Builds) -> None:
    """Whenever one is killed, the next one finishes, and what was intact is still there."""
    random, pack = Random(7), biggest_pack(built)
    flip(pack, pack.stat().st_size // 2)
    for _ in range(6):
        process = built.chimage.start("build-cache", "--repair")
        time.sleep(random.uniform(0.1, 0.6))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    repair(built).expect(0)
    assert fsck(built.chimage.storage) == ""
    assert marks(built.build("FROM base\nRUN echo one > /one\nRUN echo two > /two")) == "***"


LARGE = "head -c 3000000 /dev/zero > /big"


@pytest.fixture
def with_large(builds: Builds) -> Builds:
    """Return builds whose image has a file that is kept outside of packs."""
    builds.build(f"FROM base\nRUN {LARGE}\nRUN echo two > /two")
    return builds


def large_files(builds: Builds) -> list[Path]:
    """Return where `/big` is kept."""
    files = Path(builds.chimage.storage, "cache/large").rglob("*")
    return [path for path in files if path.is_file() and path.stat().st_size == 3_000_000]


def test_a_changed_large_file_is_found_and_taken_again_from_the_image(with_large: Builds) -> None:
    (path,) = large_files(with_large)
    content, before = path.read_bytes(), path.stat()
    path.unlink()  # It may be one file with the image's.
    path.write_bytes(b"y" + content[1:])
    path.chmod(before.st_mode & 0o7777)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert "error: content big: large file has another content (image image:latest; 2 states)" in (
        check(with_large).expect(1).stdout
    )
    assert "damaged large file removed" in repair(with_large).expect(0).stderr
    (path,) = large_files(with_large)
    assert path.read_bytes() == content
    with_large.chimage.run("delete", "image")
    with_large.chimage.run("undelete", "image")
    assert (with_large.image() / "big").read_bytes() == content


def test_a_large_file_that_is_gone_costs_only_the_states_that_need_it(with_large: Builds) -> None:
    with_large.build("FROM base\nRUN echo other > /other", tag="other")
    for path in large_files(with_large):
        path.unlink()
    with_large.chimage.run("delete", "image")
    result = repair(with_large).expect(0)
    assert "deleted image can’t be recovered any more: image:latest" in result.stderr
    assert "2 states damaged and forgotten" in result.stderr
    check(with_large).expect(0)
    assert marks(with_large.build("FROM base\nRUN echo other > /other", tag="other")) == "**"
    assert marks(with_large.build(f"FROM base\nRUN {LARGE}\nRUN echo two > /two")) == "*.."
