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
