"""Tarballs of images: where is the root (rule 20), and what is no image?"""

import gzip
import os
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, LayerError
from chimage_core.layer.archive import ROOT_NAMES, image_archive, unpack_tarball
from chimage_core.layer.report import UnpackReport
from tests.support.archives import directory, file, hardlink, header, listing, pax, symlink, tar


def imported(tmp_path: Path, *members: bytes) -> dict[str, object]:
    report_of(tmp_path, tar(*members))
    return listing(tmp_path / "root")


def report_of(tmp_path: Path, data: bytes) -> UnpackReport:
    (tmp_path / "archive").write_bytes(data)
    (tmp_path / "root").mkdir()
    return unpack_tarball(str(tmp_path / "archive"), str(tmp_path / "root"), xattrs=True, cancel=CancelToken())


IMAGE = {"bin": None, "bin/sh": b"x", "etc": None, "etc/hosts": b"y"}


@pytest.mark.parametrize("top", [b"", b"./", b"/", b".//", b"image/", b"./image/", b"/image/", b"debian_12.root/"])
@pytest.mark.parametrize("with_directories", [True, False])
def test_the_root_is_found_with_and_without_an_enclosing_directory(
    tmp_path: Path, top: bytes, with_directories: bool
) -> None:
    members = [file(top + b"bin/sh", b"x"), file(top + b"etc/hosts", b"y")]
    if with_directories:
        names = [top, top + b"bin/", top + b"etc/"] if top.strip(b"./") else [b"./", top + b"bin/", top + b"etc/"]
        members = [*map(directory, names), *members]
    assert imported(tmp_path, *members) == IMAGE


@pytest.mark.parametrize("name", sorted(ROOT_NAMES))
def test_a_directory_of_the_root_is_not_an_enclosing_one(tmp_path: Path, name: bytes) -> None:
    """An image may consist of /usr or /bin alone."""
    result = imported(tmp_path, directory(name + b"/"), file(name + b"/file", b"x"))
    if name == b"dev":
        assert result == {"dev": None}
    else:
        assert result == {os.fsdecode(name): None, os.fsdecode(name) + "/file": b"x"}


def test_only_one_directory_is_taken_off(tmp_path: Path) -> None:
    assert imported(tmp_path, file(b"a/b/c/file", b"x")) == {"b": None, "b/c": None, "b/c/file": b"x"}


@pytest.mark.parametrize(
    "outsider", [file(b"other", b"1"), directory(b"other/"), file(b"other/file", b"1"), symlink(b"other", b"image")]
)
@pytest.mark.parametrize("first", [True, False])
def test_with_a_member_outside_everything_stays_as_it_is(tmp_path: Path, outsider: bytes, first: bool) -> None:
    members = [directory(b"image/"), file(b"image/bin/sh", b"x"), hardlink(b"image/h", b"image/bin/sh")]
    result = imported(tmp_path, *([outsider, *members] if first else [*members, outsider]))
    assert {"other", "image", "image/bin/sh", "image/h"} <= set(result)


def test_an_enclosing_file_is_no_directory(tmp_path: Path) -> None:
    assert imported(tmp_path, file(b"image", b"x")) == {"image": b"x"}
    (tmp_path / "second").mkdir()
    assert imported(tmp_path / "second", symlink(b"image", b"x")) == {"image": "-> x"}


def test_hard_links_of_an_enclosed_image_work(tmp_path: Path) -> None:
    """Both names have the directory in front."""
    members = [file(b"image/a", b"x"), hardlink(b"image/b", b"image/a"), hardlink(b"./image/c", b"./image/b")]
    assert imported(tmp_path, *members) == {"a": b"x", "b": b"x", "c": b"x"}
    assert (tmp_path / "root" / "c").stat().st_nlink == 3


def test_absolute_links_of_an_enclosed_image_mean_its_root(tmp_path: Path) -> None:
    members = [directory(b"image/usr/lib/"), symlink(b"image/lib", b"/usr/lib"), file(b"image/lib/x", b"1")]
    assert imported(tmp_path, *members)["usr/lib/x"] == b"1"


def test_mode_and_time_of_the_enclosing_directory_become_those_of_the_root(tmp_path: Path) -> None:
    imported(tmp_path, directory(b"image", mode=0o711, mtime=9), file(b"image/bin/sh", b"x"))
    assert ((tmp_path / "root").stat().st_mode & 0o7777, (tmp_path / "root").stat().st_mtime) == (0o711, 9)


def test_names_like_whiteouts_are_names(tmp_path: Path) -> None:
    assert imported(tmp_path, file(b"bin/.wh.x", b"1"), file(b"bin/x", b"2"))["bin/.wh.x"] == b"1"


def test_metadata_of_charliecloud_is_kept_byte_for_byte(tmp_path: Path) -> None:
    """As the manual promises for `import`."""
    members = [file(b"bin/sh", b"x"), file(b"ch/metadata.json", b"{}\n"), file(b"ch/environment", b"A=1\n")]
    result = imported(tmp_path, *members)
    assert (result["ch/metadata.json"], result["ch/environment"]) == (b"{}\n", b"A=1\n")


def test_special_files_are_counted(tmp_path: Path) -> None:
    report = report_of(
        tmp_path, gzip.compress(tar(file(b"image/a"), header(b"image/d", kind=b"3"), header(b"image/f", kind=b"6")))
    )
    assert (report.devices, report.fifos, report.members) == (1, 1, 3)
    assert listing(tmp_path / "root") == {"a": b""}


@pytest.mark.parametrize("name", [b"../evil", b"image/../../evil", b"image/../evil"])
def test_names_that_climb_are_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(LayerError, match=r"\.\."):
        imported(tmp_path, file(b"image/x"), pax({b"path": name}), file(b"x", b"evil"))
    assert sorted(os.listdir(tmp_path)) == ["archive", "root"]


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ([file(b"oci-layout", b"{}"), file(b"index.json", b"{}"), directory(b"blobs/sha256/")], "oci"),
        ([directory(b"x/"), file(b"x/oci-layout", b"{}"), file(b"x/index.json", b"{}")], "oci"),
        ([file(b"0123abcd/layer.tar", b"x"), file(b"manifest.json", b"[]")], "docker"),
        ([file(b"manifest.json", b"[]"), file(b"oci-layout", b"{}"), file(b"index.json", b"{}")], "oci"),
        ([file(b"bin/sh", b""), file(b"oci-layout", b"{}"), file(b"index.json", b"{}")], None),
    ],
)
def test_archives_of_layers_are_recognised(tmp_path: Path, members: list[bytes], kind: str | None) -> None:
    report_of(tmp_path, tar(*members))
    assert image_archive(str(tmp_path / "root")) == kind


@pytest.mark.parametrize("first", [b"blobs/", b"0" * 64 + b"/", b"./blobs/sha256/"])
def test_layers_are_not_unpacked_twice(tmp_path: Path, first: bytes) -> None:
    """What they begin with is no enclosing directory."""
    report = report_of(tmp_path, tar(directory(first), file(first + b"layer", b"x"), file(b"manifest.json", b"[]")))
    assert report.members == 3
    assert listing(tmp_path / "root")[os.fsdecode(first.removeprefix(b"./") + b"layer")] == b"x"


def test_an_image_with_such_a_file_in_its_root_is_an_image(tmp_path: Path) -> None:
    assert "manifest.json" in imported(tmp_path, file(b"manifest.json", b"x"), file(b"bin/sh", b"x"))


def test_what_is_no_tarball_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="archive is empty"):
        report_of(tmp_path, b"")
    (tmp_path / "second").mkdir()
    with pytest.raises(LayerError, match="not a tar archive"):
        report_of(tmp_path / "second", b"#!/bin/sh\n" * 100)


@pytest.mark.parametrize("name", ["", "missing", "fifo"])
def test_paths_that_are_no_file_are_errors_at_once(tmp_path: Path, name: str) -> None:
    """A FIFO would wait forever."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises((LayerError, FileError), match=r"not a regular file|No such file"):
        unpack_tarball(str(tmp_path / name), str(tmp_path), xattrs=True, cancel=CancelToken())
