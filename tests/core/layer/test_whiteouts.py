"""Whiteouts act on lower layers only, wherever they stand (rules 9, 10)."""

from itertools import permutations
from pathlib import Path

import pytest

from chimage_core.errors import LayerError
from chimage_core.layer.extract import UnpackOptions
from tests.support.archives import directory, file, hardlink, header, listing, symlink, tar
from tests.support.archives import unpack_layers as unpack

LOWER = tar(file(b"x", b"lower"), directory(b"d/"), file(b"d/old", b"1"), file(b"d/sub/old", b"2"))


def after(tmp_path: Path, *members: bytes) -> dict[str, object]:
    unpack(tmp_path / "root", LOWER, tar(*members))
    return listing(tmp_path / "root")


KEPT = {"d": None, "d/old": b"1", "d/sub": None, "d/sub/old": b"2"}


def test_a_whiteout_deletes_a_file_in_the_root_of_the_image(tmp_path: Path) -> None:
    assert after(tmp_path, file(b".wh.x")) == KEPT


def test_a_whiteout_deletes_a_directory_with_its_content(tmp_path: Path) -> None:
    assert after(tmp_path, file(b".wh.d")) == {"x": b"lower"}


def test_a_whiteout_deletes_inside_a_directory(tmp_path: Path) -> None:
    assert after(tmp_path, file(b"./d/.wh.old")) == {"x": b"lower", "d": None, "d/sub": None, "d/sub/old": b"2"}


@pytest.mark.parametrize("order", list(permutations([file(b".wh.x"), file(b"x", b"upper")])))
def test_a_file_of_the_same_layer_survives_a_whiteout_of_its_name(tmp_path: Path, order: tuple[bytes, ...]) -> None:
    assert after(tmp_path, *order) == {"x": b"upper", **KEPT}


@pytest.mark.parametrize(
    "order",
    list(permutations([file(b"d/.wh..wh..opq"), file(b"d/new", b"3"), file(b"d/sub/new", b"4"), directory(b"d/")])),
)
def test_an_opaque_directory_hides_lower_files_but_not_its_own(tmp_path: Path, order: tuple[bytes, ...]) -> None:
    """Images in the wild put the marker after the directory's own files; order must not matter."""
    assert after(tmp_path, *order) == {
        "x": b"lower", "d": None, "d/new": b"3", "d/sub": None, "d/sub/new": b"4",
    }  # fmt: skip


@pytest.mark.parametrize("order", list(permutations([file(b".wh.d"), file(b"d/new", b"3"), symlink(b"d/sub", b"new")])))
def test_a_deleted_directory_can_be_made_anew_in_the_same_layer(tmp_path: Path, order: tuple[bytes, ...]) -> None:
    assert after(tmp_path, *order) == {"x": b"lower", "d": None, "d/new": b"3", "d/sub": "-> new"}


def test_an_opaque_root_hides_everything(tmp_path: Path) -> None:
    assert after(tmp_path, file(b".wh..wh..opq"), file(b"new", b"3")) == {"new": b"3"}


def test_lower_files_that_were_replaced_in_the_same_layer_stay(tmp_path: Path) -> None:
    assert after(tmp_path, file(b"d/old", b"new"), file(b"d/.wh..wh..opq")) == {
        "x": b"lower", "d": None, "d/old": b"new",
    }  # fmt: skip


@pytest.mark.parametrize(
    "member",
    [file(b".wh.missing"), file(b"missing/.wh.x"), file(b"missing/.wh..wh..opq"), file(b"dev/.wh.null"),
     file(b"dev/.wh..wh..opq")],
)  # fmt: skip
def test_a_whiteout_of_what_is_not_there_is_nothing(tmp_path: Path, member: bytes) -> None:
    assert after(tmp_path, member) == {"x": b"lower", **KEPT}


def test_whiteouts_in_the_lowest_layer_do_nothing(tmp_path: Path) -> None:
    unpack(tmp_path / "root", tar(file(b"x", b"1"), file(b".wh.x"), file(b".wh..wh..opq")))
    assert listing(tmp_path / "root") == {"x": b"1"}


def test_whiteouts_do_not_leave_the_image(tmp_path: Path) -> None:
    """A lower layer's link must not aim a deletion at the host."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    lower = tar(symlink(b"e", bytes(tmp_path / "outside")), symlink(b"up", b"../outside"))
    unpack(tmp_path / "root", lower, tar(file(b"e/.wh.file"), file(b"up/.wh..wh..opq")))
    assert (tmp_path / "outside" / "file").exists()


def test_a_whiteout_of_a_link_deletes_the_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    lower = tar(file(b"usr/lib/x", b"1"), symlink(b"lib", b"usr/lib"))
    unpack(tmp_path / "root", lower, tar(file(b".wh.lib")))
    assert listing(tmp_path / "root") == {"usr": None, "usr/lib": None, "usr/lib/x": b"1"}


def test_a_whiteout_in_a_directory_behind_a_link_is_found(tmp_path: Path) -> None:
    lower = tar(file(b"usr/lib/x", b"1"), symlink(b"lib", b"usr/lib"))
    unpack(tmp_path / "root", lower, tar(file(b"lib/.wh.x")))
    assert listing(tmp_path / "root") == {"usr": None, "usr/lib": None, "lib": "-> usr/lib"}


def test_a_whiteout_of_one_hard_link_leaves_the_other(tmp_path: Path) -> None:
    unpack(tmp_path / "root", tar(file(b"x", b"1"), hardlink(b"y", b"x")), tar(file(b".wh.x")))
    assert listing(tmp_path / "root") == {"y": b"1"}


def test_a_whiteout_acts_on_all_lower_layers_and_not_on_higher_ones(tmp_path: Path) -> None:
    layers = [tar(file(b"d/%d" % number, b"x")) for number in range(3)]
    unpack(tmp_path / "root", *layers, tar(file(b".wh.d")), tar(file(b"d/last", b"y")))
    assert listing(tmp_path / "root") == {"d": None, "d/last": b"y"}


@pytest.mark.parametrize("kind", [b"0", b"2", b"3", b"5"])
def test_a_whiteout_is_one_whatever_its_type(tmp_path: Path, kind: bytes) -> None:
    assert after(tmp_path, header(b".wh.x", kind=kind, link=b"y")) == KEPT


@pytest.mark.parametrize(
    "name", [b".wh..wh.plnk/123.456", b".wh..wh.aufs", b".wh..wh.orph/", b"d/.wh..wh.plnk", b".wh..wh.plnk/.wh.x"]
)
def test_the_books_of_aufs_are_ignored(tmp_path: Path, name: bytes) -> None:
    assert after(tmp_path, file(name, b"x")) == {"x": b"lower", **KEPT}


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh.", b"./d/.wh.."])
def test_whiteouts_of_no_name_are_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(LayerError, match="whiteout of no name"):
        after(tmp_path, file(name))


def test_a_whiteout_that_has_something_below_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="whiteout"):
        after(tmp_path, file(b".wh.d/file", b"x"))


def test_without_whiteouts_the_names_are_ordinary(tmp_path: Path) -> None:
    """A tarball of a root file system may hold another image's layers, say, of a container storage."""
    unpack(tmp_path / "root", tar(file(b"d/x", b"1"), file(b"d/.wh.x", b"2")), options=UnpackOptions(whiteouts=False))
    assert listing(tmp_path / "root") == {"d": None, "d/x": b"1", "d/.wh.x": b"2"}
