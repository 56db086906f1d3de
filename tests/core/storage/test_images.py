"""Unpacked images."""

import os
import shutil
import time
from pathlib import Path

import pytest

from chimage_core.errors import ImageNotFound, InvalidReference
from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout


@pytest.fixture
def images(layout: Layout) -> Images:
    return Images(layout)


def make(images: Images, name: str, content: str = "") -> Path:
    """Make an image at its workplace."""
    root = Path(images.workplace(name).root)
    (root / "ch").mkdir(parents=True)
    (root / "content").write_text(content)
    Path(images.workplace(name).side).mkdir(exist_ok=True)
    return root


def publish(images: Images, name: str, content: str = "") -> Path:
    make(images, name, content)
    return Path(images.publish(name).root)


def test_unfinished_image_is_not_listed(images: Images) -> None:
    make(images, "foo+1")
    assert images.names() == ()
    assert images.interrupted() == ("foo+1",)
    assert not images.exists("foo+1")


def test_published_image_is_listed_and_no_longer_unfinished(images: Images) -> None:
    root = publish(images, "a%foo+1", "x")
    assert images.names() == ("a%foo+1",)
    assert [str(reference) for reference in images.references()] == ["a/foo:1"]
    assert images.interrupted() == ()
    assert images.exists("a%foo+1")
    assert (root / "content").read_text() == "x"
    assert str(root) == images.published("a%foo+1").root


def test_publishing_again_replaces_the_image_and_leaves_nothing(images: Images, layout: Layout) -> None:
    publish(images, "foo+1", "old")
    root = publish(images, "foo+1", "new")
    assert (root / "content").read_text() == "new"
    assert os.listdir(layout.works) == os.listdir(layout.trash) == []


def test_published_image_is_never_missing_while_it_is_replaced(images: Images, layout: Layout) -> None:
    """Somebody may run the old image at this moment: its directory stays valid, and the name always leads somewhere."""
    publish(images, "foo+1", "old")
    held = os.open(os.path.join(layout.images, "foo+1"), os.O_RDONLY)
    inode = os.fstat(held).st_ino
    publish(images, "foo+1", "new")
    os.close(held)
    assert os.stat(os.path.join(layout.images, "foo+1")).st_ino != inode


def test_publishing_nothing_is_refused(images: Images) -> None:
    with pytest.raises(ImageNotFound, match="foo:1"):
        images.publish("foo+1")


def test_taken_image_is_back_at_its_workplace(images: Images) -> None:
    """A rebuild then applies only what differs."""
    publish(images, "foo+1", "x")
    assert images.take("foo+1")
    assert images.names() == ()
    assert (Path(images.workplace("foo+1").root) / "content").read_text() == "x"
    images.publish("foo+1")
    assert images.names() == ("foo+1",)


def test_missing_image_cannot_be_taken(images: Images) -> None:
    make(images, "foo+1", "being made")
    assert not images.take("foo+1")
    assert (Path(images.workplace("foo+1").root) / "content").read_text() == "being made"


def test_taken_image_replaces_what_was_at_its_workplace(images: Images) -> None:
    """What a killed build left there is of no use."""
    publish(images, "foo+1", "finished")
    make(images, "foo+1", "left behind")
    assert images.take("foo+1")
    assert (Path(images.workplace("foo+1").root) / "content").read_text() == "finished"


def test_image_whose_root_may_not_be_written_can_be_published_replaced_taken_and_deleted(images: Images) -> None:
    """rename(2) of a directory into another needs write permission on the directory itself."""
    for content in ("one", "two"):
        make(images, "foo+1", content).chmod(0o555)
        images.publish("foo+1")
        Path(images.published("foo+1").root).chmod(0o555)
    assert images.take("foo+1")
    images.publish("foo+1")
    Path(images.published("foo+1").root).chmod(0o000)
    images.delete("foo+1")
    assert images.names() == ()


def test_discarded_work_is_gone_but_the_notes_of_the_finished_image_stay(images: Images, layout: Layout) -> None:
    publish(images, "foo+1", "finished")
    make(images, "foo+1")
    notes = os.listdir(layout.sides)
    images.discard_work("foo+1")
    images.discard_work("foo+1")
    assert os.listdir(layout.works) == os.listdir(layout.trash) == []
    assert os.listdir(layout.sides) == notes


def test_latest_image_is_also_found_without_its_tag(images: Images, layout: Layout) -> None:
    """Scripts go on with `ch-run foo` after `build -t foo`; the link is relative, so that storage may move."""
    publish(images, "foo+latest")
    publish(images, "bar+1")
    link = os.path.join(layout.images, "foo")
    assert os.readlink(link) == "foo+latest"
    assert not os.path.lexists(os.path.join(layout.images, "bar"))
    assert images.names() == ("bar+1", "foo+latest")
    publish(images, "foo+latest")
    assert os.readlink(link) == "foo+latest"
    assert images.take("foo+latest")
    assert not os.path.lexists(link)
    images.publish("foo+latest")
    images.delete("foo+latest")
    assert not os.path.lexists(link)


def test_alias_replaces_other_links_but_nothing_else(images: Images, layout: Layout) -> None:
    """`img/foo` may be somebody's directory."""
    os.symlink("/etc", os.path.join(layout.images, "foo"))
    publish(images, "foo+latest")
    assert os.readlink(os.path.join(layout.images, "foo")) == "foo+latest"
    kept = Path(layout.images, "bar", "precious")
    kept.mkdir(parents=True)
    publish(images, "bar+latest")
    publish(images, "bar+latest")
    images.delete("bar+latest")
    assert kept.is_dir()


def test_deleted_image_is_gone_with_all_that_belongs_to_it(images: Images, layout: Layout) -> None:
    publish(images, "foo+latest")
    make(images, "foo+latest")
    images.delete("foo+latest")
    for directory in (layout.images, layout.sides, layout.works, layout.trash):
        assert os.listdir(directory) == []


def test_missing_image_cannot_be_deleted(images: Images) -> None:
    with pytest.raises(ImageNotFound, match="foo:1"):
        images.delete("foo+1")


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "foo", "foo:1", "a/b+1"])
def test_what_is_no_image_name_deletes_nothing(images: Images, layout: Layout, name: str) -> None:
    """`delete ..` once destroyed a whole storage directory."""
    publish(images, "foo+latest")
    before = sorted(os.listdir(layout.root))
    for action in (images.delete, images.publish, images.take):
        with pytest.raises((InvalidReference, ValueError)):
            action(name)
    assert sorted(os.listdir(layout.root)) == before
    assert images.names() == ("foo+latest",)


def test_image_that_lost_its_content_can_be_deleted(images: Images) -> None:
    root = publish(images, "foo+1")
    (root / "content").unlink()
    (root / "ch").rmdir()
    images.delete("foo+1")
    assert images.names() == ()


def test_what_is_left_of_an_image_can_be_deleted(images: Images, layout: Layout) -> None:
    """Somebody removed the directory: neither the short name nor our notes may stay."""
    root = publish(images, "foo+latest")
    os.makedirs(images.published("foo+latest").side, exist_ok=True)
    shutil.rmtree(root)
    images.delete("foo+latest")
    assert os.listdir(layout.images) == []
    assert not os.path.lexists(images.published("foo+latest").side)
    with pytest.raises(ImageNotFound):
        images.delete("foo+latest")


def test_deleting_follows_no_link_out_of_the_image(images: Images, layout: Layout, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    root = publish(images, "foo+1")
    (root / "link").symlink_to(precious)
    os.symlink(precious, os.path.join(layout.images, "linked+1"))
    images.delete("foo+1")
    images.delete("linked+1")
    assert (precious / "file").exists()


def test_foreign_entries_are_no_images(images: Images, layout: Layout) -> None:
    publish(images, "foo+1")
    for name in ("foo", ".tmp-0123", "Upper+1", "lost found"):
        os.mkdir(os.path.join(layout.images, name))
    Path(layout.images, "file+1").touch()
    os.symlink("foo+1", os.path.join(layout.images, "link+1"))
    os.mkdir(os.fsencode(layout.images) + b"/\xff+1")
    assert images.names() == ("foo+1",)


def test_missing_storage_directory_has_no_images(tmp_path: Path) -> None:
    assert Images(Layout(str(tmp_path / "none"))).names() == ()


def test_time_of_an_image_is_that_of_its_metadata(images: Images) -> None:
    root = publish(images, "foo+1")
    fresh = images.modified("foo+1")
    assert abs(time.time_ns() - fresh) < 60 * 10**9
    metadata = root / "ch" / "metadata.json"
    metadata.touch()
    os.utime(metadata, ns=(1, 1_600_000_000_123_456_789))
    assert images.modified("foo+1") == 1_600_000_000_123_456_789
    with pytest.raises(ImageNotFound):
        images.modified("none+1")


def test_leftovers_of_killed_processes_are_swept(images: Images, layout: Layout) -> None:
    publish(images, "foo+1")
    for directory in (layout.images, layout.works, layout.trash, layout.root):
        os.makedirs(os.path.join(directory, ".tmp-0123", "x"))
    images.sweep_trash()
    assert os.listdir(layout.trash) == os.listdir(layout.works) == []
    assert os.listdir(layout.images) == ["foo+1"]
    assert not [name for name in os.listdir(layout.root) if name.startswith(".")]


def test_thousand_images_are_listed_at_once(images: Images, layout: Layout) -> None:
    """Measured: 15 ms; the limit leaves room for slow machines."""
    for number in range(1000):
        os.makedirs(os.path.join(layout.images, f"registry.example.com+5000%team%image{number}+1.{number}", "ch"))
    start = time.perf_counter()
    for name in images.names():
        images.modified(name)
    assert time.perf_counter() - start < 0.5
