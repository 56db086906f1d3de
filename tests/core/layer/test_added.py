"""Archives that are added to an image that is there already."""

import bz2
import gzip
import lzma
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from chimage_core.cancel import CancelToken
from chimage_core.errors import LayerError
from chimage_core.fs import xattr
from chimage_core.layer.added import add_tarball, is_tarball
from chimage_core.layer.report import UnpackReport
from chimage_core.rootfs.place import ImagePlace
from tests.support.archives import directory, file, hardlink, header, listing, pax, symlink, tar

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


class Image:
    """An image with `/etc`, `/usr/lib` that `/lib` links to, and a directory outside that holds a file."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "root"
        for name in ("etc", "usr/lib", "dev", "dest/sub"):
            (self.root / name).mkdir(parents=True)
        for name in ("etc/passwd", "usr/lib/libc", "dest/old", "dest/sub/old"):
            (self.root / name).write_bytes(b"old")
        (self.root / "lib").symlink_to("usr/lib")
        (top / "outside").mkdir()
        (top / "outside/file").write_bytes(b"host")
        (self.root / "out").symlink_to(top / "outside")
        self.place = ImagePlace("image", str(self.root), str(top / "side"))
        (top / "side").mkdir()

    def add(self, *members: bytes, target: str = "dest", is_new: bool = False) -> tuple[UnpackReport, list[str]]:
        path = self.top / "archive"
        path.write_bytes(tar(*members))
        return add_tarball(str(path), self.place, target, is_new=is_new, xattrs=True, cancel=CancelToken())

    def files(self) -> dict[str, object]:
        return listing(self.root)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def no_change_outside(image: Image) -> bool:
    return listing(image.top / "outside") == {"file": b"host"} and os.listdir(image.top / "side") == []


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_tarball_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    compress = COMPRESSED[name]
    path = tmp_path / "picture.png"
    path.write_bytes(compress(tar(file(b"f", b"x" * 5000))))
    assert is_tarball(str(path))
    for content in (b"", b"text", bytes(5000), b"x" * 5000, tar(file(b"f"))[:100]):
        path.write_bytes(compress(content))
        assert not is_tarball(str(path))


@pytest.mark.parametrize("content", [b"\x1f\x8bnonsense", b"PK\x03\x04", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"])
def test_damaged_and_foreign_archives_are_plain_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert not is_tarball(str(tmp_path / "f"))


def test_what_is_there_is_united_with_what_comes(image: Image) -> None:
    report, changed = image.add(
        directory(b"sub/", mode=0o711, mtime=5), file(b"sub/new", b"new", mode=0o640, mtime=7), file(b"old", b"new")
    )
    files = image.files()
    assert {name: files[name] for name in files if name.startswith("dest/")} == {
        "dest/old": b"new",
        "dest/sub": None,
        "dest/sub/old": b"old",
        "dest/sub/new": b"new",
    }
    assert changed == ["dest/old", "dest/sub/new"]
    assert report.members == 3
    status = (image.root / "dest/sub").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o711, 5)
    status = (image.root / "dest/sub/new").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o640, 7)


def test_directories_that_the_archive_says_nothing_of_stay_as_they_are(image: Image) -> None:
    for name in ("dest", "dest/sub", ""):
        os.chmod(image.root / name, 0o2750 if name else 0o700)
        os.utime(image.root / name, (9, 9))
        xattr.write(str(image.root / name), {"user.note": b"x"})
    image.add(file(b"sub/new", b"new"))
    for name in ("dest", "dest/sub", ""):
        status = (image.root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o2750 if name else 0o700, 9)
        assert xattr.read(str(image.root / name)) == {"user.note": b"x"}


def test_the_destination_keeps_its_own_unless_it_is_new(image: Image) -> None:
    os.chmod(image.root / "dest", 0o755)
    image.add(directory(b"./", mode=0o700), file(b"./f"))
    assert (image.root / "dest").stat().st_mode & 0o777 == 0o755
    (image.root / "new").mkdir()
    image.add(directory(b"./", mode=0o711), file(b"./f"), target="new", is_new=True)
    assert (image.root / "new").stat().st_mode & 0o777 == 0o711


def test_names_lead_through_links_of_the_image(image: Image) -> None:
    """A package for `/lib` must not tear the C library away from a system whose `/lib` is a link."""
    _, changed = image.add(file(b"lib/new", b"new"), target="")
    assert os.readlink(image.root / "lib") == "usr/lib"
    assert image.files()["usr/lib/new"] == b"new"
    assert image.files()["usr/lib/libc"] == b"old"
    assert changed == ["usr/lib/new"]


def test_a_directory_replaces_a_link_and_a_file_a_directory(image: Image) -> None:
    """As tar(1) does, for what the archive names itself."""
    _, changed = image.add(directory(b"lib/"), file(b"lib/new"), file(b"dest", b"now a file"), target="")
    assert not (image.root / "lib").is_symlink()
    assert image.files()["dest"] == b"now a file"
    assert image.files()["usr/lib/libc"] == b"old"
    assert changed == ["dest", "lib"]


def test_links_and_times_of_links(image: Image) -> None:
    image.add(symlink(b"sub/s", b"../old", mtime=4), file(b"a", b"x"), hardlink(b"b", b"a"))
    assert os.readlink(image.root / "dest/sub/s") == "../old"
    assert (image.root / "dest/sub/s").lstat().st_mtime == 4
    assert (image.root / "dest/a").stat().st_ino == (image.root / "dest/b").stat().st_ino


def test_a_name_may_be_absolute_and_is_below_the_destination_all_the_same(image: Image) -> None:
    image.add(file(b"/etc/passwd", b"new"))
    assert image.files()["etc/passwd"] == b"old"
    assert image.files()["dest/etc/passwd"] == b"new"


def test_a_link_in_the_archive_leads_where_it_would_in_a_container(image: Image) -> None:
    image.add(symlink(b"e", b"/etc"), file(b"e/passwd", b"new"))
    assert image.files()["etc/passwd"] == b"new"


@pytest.mark.parametrize("link", ["{outside}", "../../../../../../../../..{outside}", "/out", "../out"])
@pytest.mark.parametrize("below", [file(b"e/file", b"evil"), directory(b"e/file/"), symlink(b"e/file", b"evil")])
def test_links_stay_inside(image: Image, link: str, below: bytes) -> None:
    image.add(symlink(b"e", os.fsencode(link.format(outside=image.top / "outside"))), below)
    assert no_change_outside(image)


@pytest.mark.parametrize("name", [b"../out/file", b"sub/../../out/file", b"/../out/file", b".."])
def test_a_name_may_not_climb(image: Image, name: bytes) -> None:
    before = image.files()
    with pytest.raises(LayerError, match=r"a name with \"\.\.\""):
        image.add(file(name, b"evil"))
    assert image.files() == before
    assert no_change_outside(image)


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../etc/passwd", b"old", b"/out/file", b"missing"])
def test_a_hard_link_leads_only_to_what_the_archive_has_brought(image: Image, target: bytes) -> None:
    before = image.files()
    with pytest.raises(LayerError):
        image.add(file(b"f", b"f"), hardlink(b"h", target))
    assert image.files() == before
    assert no_change_outside(image)


def test_devices_pipes_and_privileged_bits_are_left_out(image: Image) -> None:
    report, _ = image.add(
        header(b"null", kind=b"3"), header(b"disk", kind=b"4"), header(b"pipe", kind=b"6"),
        file(b"su", b"x", mode=0o6755),
    )  # fmt: skip
    assert (report.devices, report.fifos, report.setuid) == (2, 1, 1)
    assert sorted(os.listdir(image.root / "dest")) == ["old", "su", "sub"]
    assert (image.root / "dest/su").stat().st_mode & 0o7777 == 0o755


def test_attributes_of_overlays_mean_nothing(image: Image) -> None:
    """`user.overlay.opaque` on a directory would hide what the image has there."""
    image.add(pax({b"SCHILY.xattr.user.overlay.opaque": b"y"}), directory(b"sub/"), file(b"sub/new"))
    assert image.files()["dest/sub/old"] == b"old"


def test_names_of_whiteouts_are_names(image: Image) -> None:
    image.add(file(b".wh.old", b"x"), file(b"sub/.wh..wh..opq", b""))
    assert image.files()["dest/old"] == b"old"
    assert image.files()["dest/.wh.old"] == b"x"


def test_a_bomb_is_stopped_and_leaves_nothing(image: Image) -> None:
    before = image.files()
    bomb = header(b"f", size=b"\x80" + (1 << 50).to_bytes(11, "big"))
    path = image.top / "bomb"
    path.write_bytes(bomb)
    with pytest.raises(LayerError, match="room for"):
        add_tarball(str(path), image.place, "dest", is_new=False, xattrs=True, cancel=CancelToken())
    assert image.files() == before


@pytest.mark.parametrize("cut", [600, 1100, 1600])
def test_a_truncated_archive_changes_nothing(image: Image, cut: int) -> None:
    before = image.files()
    path = image.top / "cut"
    path.write_bytes(tar(file(b"old", b"new" * 100), file(b"g", b"x" * 600))[:cut])
    with pytest.raises(LayerError) as caught:
        add_tarball(str(path), image.place, "dest", is_new=False, xattrs=True, cancel=CancelToken())
    assert str(path) in caught.value.message
    assert image.files() == before
    assert no_change_outside(image)


def test_a_file_is_no_way(image: Image) -> None:
    with pytest.raises(LayerError, match="file where it needs a directory"):
        image.add(file(b"old/below", b"x"))
    assert image.files()["dest/old"] == b"old"


def test_what_goes_to_dev_is_left_out(image: Image) -> None:
    report, changed = image.add(directory(b"dev/"), file(b"dev/null", b"x"), file(b"f", b"x"), target="")
    assert report.below_dev == 1
    assert os.listdir(image.root / "dev") == []
    assert "f" in changed
