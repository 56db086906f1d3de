"""`list`, `delete`, `reset`: what there is, and making it less."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks, traces
from tests.support.cli import Chimage


@pytest.fixture
def images(chimage: Chimage, storage: Path, tmp_path: Path) -> Chimage:
    """Five small images."""
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    for name in ("foo", "foo:1", "foobar", "bar", "example.com:5000/team/tool:2"):
        chimage.run("import", tree, name)
    return chimage


def names(chimage: Chimage) -> list[str]:
    return [line.removesuffix(" (amd64)") for line in chimage.run("list").stdout.splitlines()]


ALL = ["bar:latest", "example.com:5000/team/tool:2", "foo:1", "foo:latest", "foobar:latest"]


# list


def test_list_without_storage_directory_is_empty_and_makes_none(chimage: Chimage, storage: Path) -> None:
    for options in ((), ("-l",), ("foo",)):
        chimage.run("list", *options)
    assert chimage.run("list").stdout == ""
    assert not storage.exists()


def test_list_is_sorted_and_changes_nothing(images: Chimage, storage: Path) -> None:
    before = traces(storage)
    assert sorted(names(images)) == sorted(ALL)
    images.run("list", "-l")
    images.run("list", "foo")
    assert traces(storage) == before


def test_the_long_form_has_the_time_of_the_last_change(images: Chimage) -> None:
    lines = images.run("list", "--long", env={"TZ": "UTC"}).stdout.splitlines()
    assert len(lines) == len(ALL)
    for line in lines:
        assert re.fullmatch(r"\S+ \(amd64\) +\| \w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4}", line), line
    assert len({line.index("|") for line in lines}) == 1


def test_details_of_an_image(images: Chimage) -> None:
    assert images.run("list", "foo:1").stdout.splitlines() == [
        "details of image:    foo:1",
        "in local storage:    yes",
        "in build cache:      yes",
        "full remote ref:     registry-1.docker.io:443/library/foo:1",
        "architecture:        amd64",
        "available remotely:  not asked",
    ]
    assert "in local storage:    no" in images.run("list", "nothing").stdout


def test_list_as_json(images: Chimage, storage: Path) -> None:
    document = images.run("list", "--json").json()
    assert [image["reference"] for image in document["images"]] == sorted(ALL)
    foo = document["images"][2]
    assert foo["path"] == str(storage / "img/foo+1")
    assert foo["architecture"] == "amd64"
    assert re.fullmatch("[0-9a-f]{64}", foo["state"])


@pytest.mark.parametrize("metadata", ["", "[]", '{"arch": 3}', "\0", '{"arch": "\\u001b[2J"}'])
def test_an_image_with_strange_metadata_is_listed_all_the_same(images: Chimage, storage: Path, metadata: str) -> None:
    (storage / "img/foo+latest/ch/metadata.json").write_text(metadata)
    result = images.run("list")
    assert "foo:latest (" in result.stdout
    assert "\x1b" not in result.stdout


def test_what_is_no_image_is_not_listed(images: Chimage, storage: Path) -> None:
    (storage / "img/Not A Name").mkdir()
    (storage / "img/file+latest").touch()
    (storage / "img/dangling").symlink_to("nowhere")
    assert sorted(names(images)) == sorted(ALL)


def test_list_on_a_storage_directory_that_is_not_ours(chimage: Chimage, storage: Path) -> None:
    storage.mkdir()
    (storage / "precious").touch()
    result = chimage.run("list", check=False).expect(1)
    assert str(storage) in result.stderr


# delete


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["foo"], ["bar:latest", "example.com:5000/team/tool:2", "foo:1", "foobar:latest"]),
        (["foo:1"], ["bar:latest", "example.com:5000/team/tool:2", "foo:latest", "foobar:latest"]),
        (["foo*"], ["bar:latest", "example.com:5000/team/tool:2"]),
        (["ba[rz]"], ["example.com:5000/team/tool:2", "foo:1", "foo:latest", "foobar:latest"]),
        (["bar", "foo?ar", "example.com:5000/team/tool:2"], ["foo:1", "foo:latest"]),
    ],
)
def test_delete(images: Chimage, storage: Path, globs: list[str], left: list[str]) -> None:
    images.run("delete", *globs)
    assert sorted(names(images)) == left
    assert len(os.listdir(storage / "img.d")) == len(left)
    assert os.listdir(storage / "trash") == []
    for entry in os.scandir(storage / "img"):
        assert os.path.exists(entry.path), f"dangling: {entry.name}"


def test_what_is_deleted_is_said(images: Chimage) -> None:
    assert images.run("delete", "foo:1", "bar").stderr.splitlines() == [
        "deleting image: bar:latest",
        "deleting image: foo:1",
    ]


def test_deleting_what_is_not_there_is_an_error_and_deletes_nothing(images: Chimage) -> None:
    for glob in ("nothing", "x*"):
        result = images.run("delete", "foo", glob, check=False).expect(1)
        assert f"no image matches, can’t delete: {glob}" in result.stderr
    assert sorted(names(images)) == ALL


@pytest.mark.parametrize("name", ["..", ".", "/", "../img", "./foo", "/etc", "", "img/../.."])
def test_a_path_is_no_image(images: Chimage, storage: Path, name: str) -> None:
    """ch-image's `delete ..` destroys the storage directory."""
    before = contents(storage / "img")
    images.run("delete", name, check=False).expect(1)
    assert contents(storage / "img") == before
    assert (storage / "version").exists()


@pytest.mark.userns
def test_stages_go_with_their_image(builds: Builds) -> None:
    builds.build("FROM base\nRUN true\nFROM base\nFROM base\nCOPY --from=0 /etc/passwd /p", tag="foo")
    builds.build("FROM base\nRUN echo 2\nFROM base", tag="foo2")
    builds.chimage.run("delete", "foo")
    assert builds.names() == ["base:latest (amd64)", "foo2:latest (amd64)", "foo2_stage0:latest (amd64)"]


def test_an_image_that_lost_its_content_can_be_deleted(images: Chimage, storage: Path) -> None:
    shutil.rmtree(storage / "img/foo+latest")
    images.run("delete", "foo")
    (storage / "img/bar+latest").rename(storage / "elsewhere")
    (storage / "img/bar+latest").mkdir()
    images.run("delete", "bar")
    assert "foo:latest" not in names(images)
    assert "bar:latest" not in names(images)


def test_an_image_that_is_only_in_the_cache_can_be_deleted(images: Chimage, storage: Path) -> None:
    """Whatever became of its directory."""
    shutil.rmtree(storage / "img/foo+latest")
    shutil.rmtree(storage / "img/foo+1")
    (storage / "img/foo+1").write_text("a file")
    shutil.rmtree(storage / "img.d/bar+latest")
    shutil.rmtree(storage / "img/bar+latest")
    document = images.run("delete", "foo*", "bar", "--json").json_lines()[-1]
    assert document["deleted"] == ["bar:latest", "foo:1", "foo:latest", "foobar:latest"]
    left = {"example.com:5000%team%tool+2".replace(":", "+")}
    assert set(os.listdir(storage / "img")) == set(os.listdir(storage / "img.d")) == left
    assert images.run("build-cache", "--json").json()["named_images"] == 1


def test_an_image_matched_by_several_globs_is_deleted_once(images: Chimage) -> None:
    result = images.run("delete", "foo", "foo", "foo:latest", "f*")
    assert result.stderr.count("deleting image: foo:latest\n") == 1


def test_an_image_with_forbidding_permissions_can_be_deleted(images: Chimage, storage: Path) -> None:
    deep = storage / "img/foo+latest/d/e"
    deep.mkdir(parents=True)
    (deep / "f").touch()
    deep.chmod(0)
    deep.parent.chmod(0o500)
    images.run("delete", "foo")
    assert not (storage / "img/foo+latest").exists()


@pytest.mark.userns
def test_delete_leaves_the_cache(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    builds.chimage.run("delete", "image", "base")
    result = builds.build("FROM base\nRUN true", check=False)
    assert result.status == 1
    assert "image not found" in result.stderr


# reset


def test_reset_empties_the_storage_directory(images: Chimage, storage: Path) -> None:
    images.run("reset")
    assert names(images) == []
    assert os.listdir(storage / "img") == os.listdir(storage / "img.d") == os.listdir(storage / "cache") == []
    assert "named images:" in images.run("build-cache").stdout


@pytest.mark.userns
def test_after_a_reset_one_starts_anew(builds: Builds, busybox: Path) -> None:
    builds.build("FROM base\nRUN true")
    builds.chimage.run("reset")
    builds.chimage.run("import", busybox, "base")
    assert marks(builds.build("FROM base\nRUN true")) == "*."


def test_reset_without_storage_directory_is_fine_and_makes_none(chimage: Chimage, storage: Path) -> None:
    chimage.run("reset")
    assert not storage.exists()


def test_reset_of_what_is_not_ours_is_refused(chimage: Chimage, storage: Path) -> None:
    storage.mkdir()
    (storage / "precious").write_text("x")
    before = traces(storage)
    chimage.run("reset", check=False).expect(1)
    assert traces(storage) == before


def test_reset_repairs_a_storage_directory_of_a_future_version(images: Chimage, storage: Path) -> None:
    (storage / "version").write_text("chimage 999\n")
    assert "999" in images.run("list", check=False).expect(1).stderr
    images.run("reset")
    assert names(images) == []


def test_an_image_deleted_without_cache_is_no_base_any_more(builds: Builds) -> None:
    """The name is gone whatever the mode; only undeleting brings it back."""
    builds.build("FROM base\nRUN echo 1 > /one", tag="gone")
    builds.chimage.run("delete", "--no-cache", "gone")
    result = builds.build("FROM gone\nRUN true", check=False)
    assert result.status == 1
    assert "image not found in storage directory: gone" in result.stderr
