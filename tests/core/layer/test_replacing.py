"""Members that replace others (rules 7, 8)."""

import os
from itertools import permutations
from pathlib import Path

import pytest

from tests.support.archives import directory, file, hardlink, listing, symlink, tar
from tests.support.archives import unpack_layers as unpack

KINDS: dict[str, tuple[bytes, dict[str, object]]] = {
    "file": (file(b"x", b"1"), {"x": b"1"}),
    "directory": (directory(b"x/") + file(b"x/in/deep", b"2"), {"x": None, "x/in": None, "x/in/deep": b"2"}),
    "empty": (directory(b"x/"), {"x": None}),
    "symlink": (symlink(b"x", b"elsewhere"), {"x": "-> elsewhere"}),
    "hardlink": (hardlink(b"x", b"other"), {"x": b"other"}),
}


@pytest.mark.parametrize("same_layer", [True, False])
@pytest.mark.parametrize(("first", "second"), list(permutations(KINDS, 2)))
def test_any_type_replaces_any_other(tmp_path: Path, first: str, second: str, same_layer: bool) -> None:
    members = [file(b"other", b"other"), KINDS[first][0], KINDS[second][0]]
    layers = [tar(*members)] if same_layer else [tar(*members[:2]), tar(members[2])]
    unpack(tmp_path / "root", *layers)
    expected = dict(KINDS[second][1])
    if {first, second} == {"directory", "empty"}:  # A directory over a directory keeps what is in it.
        expected = dict(KINDS["directory"][1])
    assert listing(tmp_path / "root") == {"other": b"other", **expected}


@pytest.mark.parametrize("same_layer", [True, False])
def test_the_last_of_duplicates_wins_and_hard_links_keep_the_old_content(tmp_path: Path, same_layer: bool) -> None:
    """A file that is written again is a new file."""
    members = [file(b"x", b"old"), hardlink(b"y", b"x"), file(b"x", b"new and longer")]
    unpack(tmp_path / "root", *([tar(*members)] if same_layer else [tar(*members[:2]), tar(members[2])]))
    assert listing(tmp_path / "root") == {"x": b"new and longer", "y": b"old"}


def test_a_directory_can_be_replaced_and_made_again_and_again(tmp_path: Path) -> None:
    """Open directories that are gone must not be written to."""
    members = []
    for number in range(5):
        members += [file(b"d/e/f%d" % number, b"x"), file(b"d", b"x"), directory(b"d")]
    unpack(tmp_path / "root", tar(*members, file(b"d/e/last", b"x")))
    assert listing(tmp_path / "root") == {"d": None, "d/e": None, "d/e/last": b"x"}


def test_an_upper_layer_changes_mode_and_time_of_a_directory_and_keeps_its_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    unpack(root, tar(directory(b"d", mode=0o700), file(b"d/x", b"1")), tar(directory(b"d", mode=0o711, mtime=77)))
    assert ((root / "d").stat().st_mode & 0o7777, (root / "d").stat().st_mtime) == (0o711, 77)
    assert os.listdir(root / "d") == ["x"]


def test_more_directories_than_may_be_open(tmp_path: Path) -> None:
    names = [b"d%d/e" % number for number in range(600)]
    members = [file(name + b"/a", name) for name in names] + [file(name + b"/b", name) for name in names]
    unpack(tmp_path / "root", tar(*members))
    assert all((tmp_path / "root" / os.fsdecode(name) / "b").read_bytes() == name for name in names)
