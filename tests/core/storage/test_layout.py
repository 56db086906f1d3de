"""Paths of the storage directory."""

import os

import pytest

from chimage_core.storage.layout import Layout

LAYOUT = Layout("/storage")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_name_never_becomes_a_path(name: str) -> None:
    """The last defence, should a caller have forgotten to parse a reference."""
    for path_of in (LAYOUT.published, LAYOUT.workplace, LAYOUT.name_lock, LAYOUT.alias):
        with pytest.raises(ValueError, match="not a file name"):
            path_of(name)


def test_everything_is_below_the_root() -> None:
    place, work = LAYOUT.published("a+1"), LAYOUT.workplace("a+1")
    paths = {*LAYOUT.directories, *LAYOUT.contents, LAYOUT.version, LAYOUT.lock, place.root, place.side, work.root}
    assert {os.path.commonpath(["/storage", path]) for path in paths} == {"/storage"}


def test_finished_and_unfinished_image_share_their_notes() -> None:
    assert LAYOUT.published("a+1").side == LAYOUT.workplace("a+1").side
    assert LAYOUT.published("a+1").root != LAYOUT.workplace("a+1").root


def test_relative_root_is_refused() -> None:
    """It would mean another directory after a change of the working directory."""
    with pytest.raises(ValueError, match="not an absolute path"):
        Layout("storage")
