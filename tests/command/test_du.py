"""`build-cache --du`: what takes how much room."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds, traces
from tests.support.cli import Chimage
from tests.support.disk import du, room

pytestmark = pytest.mark.userns

NOISE = "head -c 500000 /dev/urandom >"


def use(builds: Builds) -> dict[str, Any]:
    result: dict[str, Any] = builds.chimage.run("build-cache", "--du", "--json").json()
    return result


def image(found: dict[str, Any], name: str) -> dict[str, Any]:
    (only,) = (each for each in found["images"] if each["reference"] == f"{name}:latest")
    return dict(only)


def test_the_parts_add_up_to_what_du_says(builds: Builds) -> None:
    builds.build(f"FROM base\nRUN {NOISE} /a")
    storage = Path(builds.chimage.storage)
    (storage / "blobs" / "packed").mkdir()
    (storage / "blobs" / "sha256-1").write_bytes(b"x" * 10_000)
    (storage / "blobs" / "packed" / "sha256-2").write_bytes(b"x" * 30_000)
    (storage / "cache-mounts" / "abc").mkdir()
    (storage / "cache-mounts" / "abc" / "f").write_bytes(b"x" * 50_000)
    found = use(builds)
    parts = ("unpacked", "downloads", "uploads", "leftovers", "mounts", "jobs", "other")
    assert found["total"] == found["cache"]["total"] + sum(found[part] for part in parts) == room(storage)
    assert found["downloads"] == du(storage / "blobs" / "sha256-1")
    assert found["uploads"] == du(storage / "blobs" / "packed" / "sha256-2")
    assert found["mounts"] == du(storage / "cache-mounts" / "abc")
    assert image(found, "image")["unpacked"] + image(found, "image")["linked"] == du(builds.image())


def test_what_images_share_in_the_build_cache(builds: Builds) -> None:
    """Shared is what a second image needs, at whichever step their ways part; the rest is an image's own."""
    builds.build(f"FROM base\nRUN {NOISE} /common\nRUN {NOISE} /one", tag="one")
    builds.build(f"FROM base\nRUN {NOISE} /common\nRUN {NOISE} /two", tag="two")
    found = use(builds)
    one, two, base = (image(found, name) for name in ("one", "two", "base"))
    for each in (one, two):
        assert 500_000 <= each["unique"] < 510_000
        assert each["cached"] == each["unique"] + each["shared"]
        assert base["cached"] + 500_000 <= each["shared"] < base["cached"] + 510_000
    assert base["unique"] == 0
    assert found["cache"]["deleted"] == found["cache"]["unreachable"] == 0


def test_two_names_of_one_state_share_everything(builds: Builds) -> None:
    for tag in ("a", "b"):
        builds.build(f"FROM base\nRUN {NOISE} /f", tag=tag)
    assert [image(use(builds), tag)["unique"] for tag in "ab"] == [0, 0]


def test_a_deleted_image_still_takes_room_in_the_build_cache(builds: Builds) -> None:
    builds.build(f"FROM base\nRUN {NOISE} /f\nRUN {NOISE} /g", tag="gone")
    builds.build(f"FROM base\nRUN {NOISE} /f", tag="stays")
    builds.chimage.run("delete", "gone")
    found = use(builds)
    assert [each["reference"] for each in found["images"]] == ["base:latest", "stays:latest"]
    assert 500_000 <= found["cache"]["deleted"] < 510_000
    assert image(found, "stays")["unique"] == 0
    assert "only deleted images need: " in builds.chimage.run("build-cache", "--du").stdout


def test_hard_links_count_once(builds: Builds) -> None:
    builds.build(f"FROM base\nRUN mkdir /d && {NOISE} /d/f && ln /d/f /d/g && ln /d/f /h", tag="linked")
    found = image(use(builds), "linked")
    assert found["unpacked"] + found["linked"] == du(builds.image("linked+latest"))


def test_a_file_that_is_linked_into_the_build_cache_counts_there(builds: Builds) -> None:
    builds.build("FROM base\nRUN head -c 10000 /dev/urandom > /f", tag="linked")
    before = use(builds)
    large = Path(builds.chimage.storage, "cache", "large", "ab")
    large.mkdir(parents=True)
    os.link(builds.image("linked+latest") / "f", large / "abcdef")
    found = use(builds)
    size = du(large / "abcdef")
    assert found["cache"]["large"] == before["cache"]["large"] + size
    assert image(found, "linked")["linked"] == image(before, "linked")["linked"] + size
    assert image(found, "linked")["unpacked"] == image(before, "linked")["unpacked"] - size
    assert found["total"] == room(builds.chimage.storage)


def test_an_image_that_is_not_in_the_build_cache(builds: Builds) -> None:
    builds.build(f"FROM base\nRUN {NOISE} /f", "--no-cache", tag="apart")
    found = image(use(builds), "apart")
    assert not found["is_cached"]
    assert found["unpacked"] + found["linked"] > 500_000
    lines = builds.chimage.run("build-cache", "--du").stdout.splitlines()
    assert lines[0].split() == ["IMAGE", "CACHED", "UNIQUE", "SHARED", "UNPACKED", "LINKED"]
    assert [line.split()[:4] for line in lines if line.startswith("apart")] == [["apart:latest", "-", "-", "-"]]


def test_looking_changes_nothing(builds: Builds) -> None:
    builds.build("FROM base\nRUN mkdir /closed && touch /closed/f && chmod 000 /closed")
    before = traces(builds.chimage.storage)
    use(builds)
    assert traces(builds.chimage.storage) == before


def test_without_storage_directory(chimage: Chimage, storage: Path) -> None:
    found = chimage.run("build-cache", "--du", "--json").json()
    assert (found["images"], found["total"]) == ([], 0)
    assert found["free"] > 0
    assert not storage.exists()


def test_it_is_about_the_build_cache_hence_needs_it(builds: Builds) -> None:
    builds.chimage.run("build-cache", "--du", "--no-cache", check=False).expect(1)
