"""What programs leave in image directories, and file systems do to them, must not end in a damaged cache or image."""

import os

from chimage_core.cache.git.packs import find_extents
from chimage_core.rootfs.changes import PathsChanged
from tests.core.cache.support import Site, commit, write_files
from tests.support.image_trees import describe


def test_a_file_system_that_cannot_tell_holes_has_none() -> None:
    """Else a file with content would be recorded as one big hole. /proc/self/mem answers lseek(2) so."""
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        assert find_extents(descriptor, 1 << 20) is None
    finally:
        os.close(descriptor)


def test_a_directory_that_moved_away_and_back_is_recorded_whole_without_stat_cache(site: Site) -> None:
    """After the loss, records are incomplete, and what is left of them must not be mistaken for what comes later."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {"a/b/old": "1"})
    snapshot = commit(site.cache(), place)
    os.unlink(f"{place.side}/stat")
    cache = site.cache()
    cache.opening(place)
    write_files(place.root, {"a/b/new/file": "1"})
    snapshot = commit(cache, place, snapshot, changes=PathsChanged(("a/b/new",)))
    for source, target in (("a", "c"), ("c", "a")):
        cache.opening(place)
        os.rename(f"{place.root}/{source}", f"{place.root}/{target}")
        snapshot = commit(cache, place, snapshot)
    cache.restore(snapshot, copy)
    assert describe(copy.root) == describe(place.root)
    assert "a/b/new/file" in site.git("ls-tree", "-r", "--name-only", f"{snapshot.token}:root")
