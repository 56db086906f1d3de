"""kill -9 at any moment leaves a cache and images that the next command can work with."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

from chimage_core.cache.git.cache import GitCache
from chimage_core.errors import Cancelled
from chimage_core.rootfs.place import ImagePlace
from tests.core.cache.support import Site, commit, write_files
from tests.support.image_trees import describe

_PROJECT = str(Path(__file__).parents[3])
_WORK = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from tests.core.cache.support import Site, commit, write_files
site = Site(Path(sys.argv[2]))
place = site.place("image")
cache = site.cache()
parent = cache.held(place) or cache.head("image")
cache.restore(parent, place)
print("ready", flush=True)
for number in range(1000):
    first = parent
    cache.opening(place)
    write_files(place.root, {f"d{number % 5}/{number}.{other}": f"{os.getpid()} {number}" * 20 for other in range(60)})
    parent = commit(cache, place, parent, key=b"%d %d" % (os.getpid(), number))
    cache.publish("image", parent)
    if number % 3 == 1:
        cache.restore(first, place)
        cache.restore(parent, place)
"""


def test_killed_at_random_moments_nothing_is_lost_that_was_published(site: Site) -> None:
    random, place, copy = Random(3), site.place("image"), site.place("copy")
    write_files(place.root, {f"d{number % 5}/f{number}": str(number) for number in range(300)})
    site.cache().publish("image", commit(site.cache(), place))
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", _WORK, _PROJECT, str(site.root)], stdout=subprocess.PIPE, start_new_session=True
        )
        assert child.stdout is not None
        with child, child.stdout:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.random() * 0.25)
            os.killpg(child.pid, signal.SIGKILL)
        cache = site.cache()
        head = cache.head("image")
        assert head is not None
        cache.restore(head, copy)
        for name in site.git("for-each-ref", "--format=%(objectname)").split():
            assert site.git("cat-file", "-t", f"{name}^{{tree}}").strip() == "tree"
        cache.restore(head, place)
        assert describe(place.root) == describe(copy.root)
        assert {"stamp", "stat"} <= set(os.listdir(place.side)) <= {"stamp", "stat", "stamp.new", "stat.new"}
    assert "missing" not in site.git("fsck", "--strict", "--no-dangling")
    site.cache().sweep()
    leftovers = [name for _, _, names in os.walk(site.repository) for name in names if "tmp" in name]
    assert leftovers == []


def test_two_processes_may_commit_the_same_state(site: Site) -> None:
    """The reference made first stays; the other goes on with its own commit."""
    one, other = site.place("one"), site.place("other")
    write_files(one.root, {"file": "1"})
    write_files(other.root, {"file": "2"})
    first_cache, second_cache = site.cache(), site.cache()
    first, second = commit(first_cache, one), commit(second_cache, other)
    assert first.state == second.state
    assert first.token != second.token
    assert site.cache().find(first.state) == first
    assert second_cache.held(other) == second
    second_cache.publish("other", second)
    assert site.cache().head("other") == second


def test_many_processes_may_use_one_repository(site: Site) -> None:
    """Among them one that merges small packs while others read."""
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    site.cache().publish("image", commit(site.cache(), place))
    program = _WORK.replace('site.place("image")', 'site.place("image" + sys.argv[3])').replace("1000", "40")
    program = program.replace('publish("image"', 'publish("image" + sys.argv[3]')
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, _PROJECT, str(site.root), str(number)], stdout=subprocess.DEVNULL
        )
        for number in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    cache = site.cache()
    assert cache.summary().commits == 121
    assert len(list(Path(site.repository, "objects", "pack").glob("*.pack"))) <= 40
    for number in range(3):
        head = cache.head(f"image{number}")
        assert head is not None
        assert cache.held(site.place(f"image{number}")) == head
    assert "missing" not in site.git("fsck", "--strict", "--no-dangling")


def _commit_often(cache: GitCache, place: ImagePlace) -> None:
    for number in range(50):
        Path(place.root, "other").write_bytes(Random(number).randbytes(9 << 20))
        commit(cache, place, key=b"%d" % number)


def _cancel_while_packing(site: Site) -> None:
    while not list(Path(site.repository).glob("objects/pack/tmp_pack_*")):
        time.sleep(0.001)
    site.cancel.cancel(signal.SIGTERM)


def test_cancelling_a_commit_ends_its_workers_and_leaves_no_state(site: Site) -> None:
    place = site.place("image")
    write_files(place.root, {f"f{number}": "x" for number in range(500)})
    Path(place.root, "big").write_bytes(Random(1).randbytes(1 << 20) * 40)
    cache = site.cache()
    thread = threading.Thread(target=_cancel_while_packing, args=[site])
    thread.start()
    with pytest.raises(Cancelled):
        _commit_often(cache, place)
    thread.join()
    assert list(Path(site.repository, "objects", "pack").glob("tmp_*")) == []
