"""`build-cache --check` finds damage, and says whom it concerns; `--repair` mends what can be mended."""

import os
import sqlite3
from pathlib import Path

import pytest

from tests.support.builds import Builds, traces
from tests.support.cli import Chimage, CliResult

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
    assert result.stdout.startswith("checked ") and result.stdout.endswith(": no problems\n")
    assert "3 packs" in result.stdout and "3 snapshots" in result.stdout and "2 unpacked images" in result.stdout
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
    assert content["images"] == ["base:latest", "image:latest"] and len(content["states"]) == 3
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
    assert result.stderr.count("malformed reference") == 1
    assert "build-cache --repair" in result.stderr
    assert built.read("two") == "two\n"
    assert built.build(dockerfile).stderr.count("*") == 3


def test_an_image_whose_reference_is_malformed_is_an_error_with_the_way_out(built: Builds) -> None:
    (repository(built) / "refs/images/base+latest").write_text("nonsense")
    result = built.build("FROM base\nRUN true", check=False).expect(1)
    assert "malformed reference" in result.stderr and "build-cache --repair" in result.stderr
    assert "base:latest (amd64)" in built.names()
