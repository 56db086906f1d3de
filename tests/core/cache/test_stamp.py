"""The note that says what the directory of an image holds."""

from pathlib import Path

from chimage_core.cache import stamp
from chimage_core.cache.stamp import PlaceState, Stamp
from chimage_core.rootfs.place import ImagePlace


def test_forgetting_one_directory_does_not_forget_the_other(tmp_path: Path) -> None:
    """The finished image and the one that is to replace it share their notes; an import that fails changes nothing."""
    finished, new = (
        ImagePlace("image+latest", str(tmp_path / name), str(tmp_path / "side")) for name in ("img", "work")
    )
    for place in (finished, new):
        Path(place.root).mkdir()
    written = Stamp(PlaceState.CLEAN, "cache", "commit", "state")
    stamp.write(finished, written)
    stamp.forget(new)
    assert stamp.read(new) is None
    assert stamp.read(finished) == written
    stamp.forget(finished)
    assert stamp.read(finished) is None


def test_a_directory_with_the_number_of_a_removed_one_is_not_clean(tmp_path: Path) -> None:
    """It is empty, or half unpacked; recovery would publish it. Some file systems use inode numbers again at once."""
    place = ImagePlace("image+latest", str(tmp_path / "work"), str(tmp_path / "side"))
    notes = []
    for _ in range(2):
        Path(place.root).mkdir()
        stamp.write(place, Stamp(PlaceState.CLEAN, "cache", "commit", "state"))
        notes.append(Path(place.side, "stamp").read_text())
        Path(place.root).rename(tmp_path / f"removed-{len(notes)}")
    (tmp_path / "removed-2").rename(place.root)
    (before,), (now,) = ([line for line in note.splitlines() if line.startswith("root ")] for note in notes)
    Path(place.side, "stamp").write_text(notes[0].replace(before, now))
    assert stamp.read(place) == Stamp(PlaceState.DIRTY, "cache", "commit", "state")


def test_a_clean_directory_stays_clean_when_it_moves(tmp_path: Path) -> None:
    """As publishing does with it."""
    work, finished = (
        ImagePlace("image+latest", str(tmp_path / name / "image"), str(tmp_path / "side")) for name in ("work", "img")
    )
    Path(work.root).mkdir(parents=True)
    (tmp_path / "img").mkdir()
    written = Stamp(PlaceState.CLEAN, "cache", "commit", "state")
    stamp.write(work, written)
    Path(work.root).rename(finished.root)
    assert stamp.read(finished) == written
