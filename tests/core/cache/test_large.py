"""Large files: kept beside the packs, and never shared with anything that writes in place."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimage_core.cache.git.large import LARGE
from chimage_core.cache.protocol import Snapshot
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken
from chimage_core.fs.contents import ContentCopier
from chimage_core.rootfs.changes import AnythingChanged
from chimage_core.rootfs.place import ImagePlace
from tests.core.cache.support import Site, commit, run_in_overlay
from tests.support.host import has_program
from tests.support.image_trees import describe
from tests.support.repository import fsck

SIZE = LARGE + 12_345
CONTENT = os.urandom(SIZE)


@pytest.fixture
def clones(tmp_path: Path) -> bool:
    """Return whether the file system here can share blocks."""
    with open(tmp_path / "a", "xb+") as source, open(tmp_path / "b", "xb") as target:
        source.write(bytes(4096))
        source.flush()
        return ContentCopier(CancelToken()).clone(source.fileno(), target.fileno())


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return what makes a file system by a command and mounts it."""
    points: list[Path] = []

    def mount(make: str) -> Path:
        argv = make.split()
        if not has_program(argv[0]):
            pytest.skip(f"not installed: {argv[0]}")
        image, point = tmp_path / "disk", tmp_path / "point"
        point.mkdir()
        with open(image, "xb") as file:
            file.truncate(320 << 20)
        subprocess.run([*argv, image], check=True)
        done = subprocess.run(["mount", "-o", "loop", image, point], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a loop device: {done.stderr.strip()}")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", "--lazy", point], check=True)  # Packs are mapped until the cache is collected.


def write(place: ImagePlace, path: str, content: bytes = CONTENT, *, mode: int = 0o644, mtime: int = 10**18) -> str:
    full = os.path.join(place.root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    Path(full).write_bytes(content)
    os.chmod(full, mode)
    os.utime(full, ns=(mtime, mtime))
    return full


def stored(site: Site) -> list[Path]:
    return sorted(path for path in (site.root / "cache" / "large").rglob("*") if path.is_file())


def inode(path: str | Path) -> int:
    return os.lstat(path).st_ino


def packed_bytes(site: Site) -> int:
    return sum(path.stat().st_size for path in Path(site.repository, "objects/pack").glob("*.pack"))


def tree(place: ImagePlace) -> object:
    return describe(place.root)


def test_a_linked_file_is_in_the_store_and_not_in_a_pack(site: Site) -> None:
    place = site.place("image")
    full = write(place, "usr/lib/big")
    commit(site.cache(may_link=True), place)
    (kept,) = stored(site)
    assert inode(kept) == inode(full)
    assert packed_bytes(site) < SIZE
    fsck(site.root)


def test_without_links_or_shared_blocks_contents_are_packed(site: Site, clones: bool) -> None:
    """A copy would take the same room, uncompressed."""
    place = site.place("image")
    write(place, "big")
    commit(site.cache(), place)
    assert bool(stored(site)) == clones
    assert (packed_bytes(site) > SIZE) != clones


def test_an_image_comes_back_by_link(site: Site) -> None:
    place = site.place("image")
    full = write(place, "big", mode=0o755, mtime=123_456_789)
    snapshot = commit(site.cache(may_link=True), place)
    before = tree(place)
    elsewhere = site.place("other")
    site.cache(may_link=True).restore(snapshot, elsewhere)
    assert tree(elsewhere) == before
    assert inode(os.path.join(elsewhere.root, "big")) == inode(full)


def test_large_files_among_many_come_back_by_link_hard_links_included(site: Site) -> None:
    """So many that several processes make them."""
    place = site.place("image")
    for number in range(300):
        write(place, f"{number // 50}/{number}", b"%d" % number)
    for folder in range(6):
        write(place, f"{folder}/big", CONTENT + b"%d" % folder, mode=0o600 + folder)
    os.makedirs(os.path.join(place.root, "7"))
    os.link(os.path.join(place.root, "3/big"), os.path.join(place.root, "7/other"))
    snapshot = commit(site.cache(may_link=True), place)
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=True).restore(snapshot, other)
    assert tree(other) == before
    for folder in (0, 1, 2, 4, 5):
        assert inode(f"{other.root}/{folder}/big") == inode(f"{place.root}/{folder}/big")


def test_where_run_writes_in_place_an_image_gets_copies(site: Site) -> None:
    """Upstream corrupted images by links that a RUN wrote through."""
    place = site.place("image")
    full = write(place, "big")
    snapshot = commit(site.cache(may_link=True), place)
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=False).restore(snapshot, other)
    assert tree(other) == before
    assert inode(os.path.join(other.root, "big")) != inode(full)


def test_unshared_files_can_be_written_to(site: Site) -> None:
    place = site.place("image")
    full = write(place, "closed/big", mode=0o444)
    os.chmod(os.path.dirname(full), 0o555)
    os.utime(os.path.dirname(full), ns=(5, 5))
    cache = site.cache(may_link=True)
    snapshot = commit(cache, place)
    before = tree(place)
    cache.opening(place)
    cache.unshare(place)
    assert tree(place) == before, "nothing of the image changes"
    os.chmod(full, 0o644)
    with open(full, "r+b") as file:
        file.write(b"changed")
    assert stored(site)[0].read_bytes() == CONTENT
    changed = commit(cache, place, snapshot, changes=AnythingChanged())
    cache.restore(snapshot, place)
    assert tree(place) == before
    cache.restore(changed, place)
    assert Path(full).read_bytes().startswith(b"changed")


def test_a_run_on_an_overlay_leaves_the_store_alone(site: Site) -> None:
    place = site.place("image")
    full = write(place, "big")
    cache = site.cache(may_link=True)
    snapshot = commit(cache, place)
    before = tree(place)
    upper = run_in_overlay(place, "with open('big', 'r+b') as file: file.write(b'changed')")
    changed = commit(cache, place, snapshot, changes=upper)
    assert Path(full).read_bytes().startswith(b"changed")
    assert len(stored(site)) == 2
    cache.restore(snapshot, place)
    assert tree(place) == before
    cache.restore(changed, place)
    assert Path(full).read_bytes() == b"changed" + CONTENT[7:]


def test_two_files_of_one_image_are_never_one(site: Site) -> None:
    """Equal files have one content in the store; linked to it, both would be the same file."""
    place = site.place("image")
    write(place, "a/one")
    write(place, "b/two")
    write(place, "c/other", mtime=7)
    snapshot = commit(site.cache(may_link=True), place)
    assert len(stored(site)) == 1
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=True).restore(snapshot, other)
    assert tree(other) == before
    inodes = {inode(os.path.join(other.root, path)) for path in ("a/one", "b/two", "c/other")}
    assert len(inodes) == 3


def test_hard_links_of_an_image_stay_together(site: Site) -> None:
    place = site.place("image")
    full = write(place, "z/one")
    os.makedirs(os.path.join(place.root, "a"))
    os.link(full, os.path.join(place.root, "a/.gitignore"))
    snapshot = commit(site.cache(may_link=True), place)
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=True).restore(snapshot, other)
    assert tree(other) == before
    assert inode(os.path.join(other.root, "z/one")) == inode(os.path.join(other.root, "a/.gitignore"))


def test_metadata_alone_is_never_changed_in_a_linked_file(site: Site) -> None:
    place = site.place("image")
    full = write(place, "big", mode=0o644)
    cache = site.cache(may_link=True)
    first = commit(cache, place)
    upper = run_in_overlay(place, "os.chmod('big', 0o600)")
    second = commit(cache, place, first, changes=upper)
    for snapshot, mode in ((first, 0o644), (second, 0o600), (first, 0o644)):
        cache.restore(snapshot, place)
        assert stat.S_IMODE(os.stat(full).st_mode) == mode
        assert Path(full).read_bytes() == CONTENT
        assert stat.S_IMODE(stored(site)[0].stat().st_mode) == 0o644


def test_an_unchanged_linked_file_is_not_read_again(site: Site) -> None:
    """Each image that shares it changes its ctime; were that a reason to read it, deleting an image would cost much."""
    place, other = site.place("image"), site.place("other")
    full = write(place, "big")
    cache = site.cache(may_link=True)
    snapshot = commit(cache, place)
    cache.restore(snapshot, other)
    os.unlink(os.path.join(other.root, "big"))
    # Who reads it would notice: the content is another, and all that is looked at is the same.
    with open(full, "r+b") as file:
        file.write(b"unseen")
    os.utime(full, ns=(10**18, 10**18))
    again = commit(cache, place, snapshot, text="RUN.S other", changes=AnythingChanged(), key=b"other")
    assert cache.engine.root_tree(again.token) == cache.engine.root_tree(snapshot.token)


def test_a_file_that_was_written_to_from_outside_is_refused(site: Site) -> None:
    """As `ch-run -w` does: the content is lost, which must be said, and not be given to other images."""
    place = site.place("image")
    full = write(place, "big")
    snapshot = commit(site.cache(may_link=True), place)
    with open(full, "r+b") as file:
        file.write(b"from outside")
    with pytest.raises(CacheBroken, match=r"large file is missing.*: big"):
        site.cache(may_link=True).restore(snapshot, site.place("other"))
    assert not os.path.exists(site.place("other").root)


def test_a_spoiled_file_is_replaced_when_its_content_comes_again(site: Site) -> None:
    place = site.place("image")
    full = write(place, "big")
    snapshot = commit(site.cache(may_link=True), place)
    with open(full, "r+b") as file:
        file.write(b"from outside")
    fresh = site.place("fresh")
    write(fresh, "big")
    commit(site.cache(may_link=True), fresh, key=b"again")
    other = site.place("other")
    site.cache(may_link=True).restore(snapshot, other)
    assert Path(other.root, "big").read_bytes() == CONTENT


def test_declared_files_are_not_read(site: Site) -> None:
    """The manual: same path, mode, size and mtime are the same file, even if the content is not."""
    place = site.place("image")
    full = write(place, "data/model", bytes(2 * SIZE))
    os.utime(os.path.dirname(full), ns=(5, 5))
    cache = site.cache(may_link=True, declared=2 * SIZE)
    first = commit(cache, place)
    os.unlink(full)
    write(place, "data/model", os.urandom(2 * SIZE))
    os.utime(os.path.dirname(full), ns=(5, 5))
    second = commit(cache, place, first, changes=AnythingChanged(), key=b"2")
    assert cache.engine.root_tree(first.token) == cache.engine.root_tree(second.token)
    assert [path.name[0] for path in stored(site)] == ["?"]
    fsck(site.root)


@pytest.mark.parametrize("may_link", [True, False])
def test_declared_files_round_trip(site: Site, may_link: bool) -> None:
    place = site.place("image")
    write(place, "model", os.urandom(2 * SIZE), mode=0o640)
    snapshot = commit(site.cache(may_link=may_link, declared=SIZE), place)
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=may_link).restore(snapshot, other)
    assert tree(other) == before
    assert len(stored(site)) == 1


def test_sparse_files_stay_in_packs_and_sparse(site: Site) -> None:
    place = site.place("image")
    full = write(place, "sparse", b"x")
    os.truncate(full, 64 << 20)
    os.utime(full, ns=(7, 7))
    snapshot = commit(site.cache(may_link=True), place)
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=True).restore(snapshot, other)
    assert tree(other) == before
    assert os.lstat(os.path.join(other.root, "sparse")).st_blocks * 512 < 1 << 20
    assert stored(site) == []


def test_an_unreadable_file_is_not_shared(site: Site) -> None:
    """To read it its mode has to be lifted for a moment, which others would see."""
    place = site.place("image")
    write(place, "secret", mode=0)
    snapshot = commit(site.cache(may_link=True), place)
    before = tree(place)
    other = site.place("other")
    site.cache(may_link=True).restore(snapshot, other)
    assert tree(other) == before
    assert stored(site) == [] or os.geteuid() == 0


def test_the_same_content_is_the_same_state_wherever_it_is_kept(site: Site) -> None:
    one, two = site.place("one"), site.place("two")
    for place in (one, two):
        write(place, "big")
    linked = commit(site.cache(may_link=True), one, key=None)
    other = Site(make_directory(site.root / "second"))
    packed = commit(other.cache(may_link=False), two, key=None)
    assert linked.state == packed.state


def test_a_delta_makes_and_removes_large_files(site: Site) -> None:
    place = site.place("image")
    write(place, "stays")
    cache = site.cache(may_link=True)
    first = commit(cache, place)
    write(place, "new/deep/big", CONTENT[::-1], mtime=99)
    os.link(os.path.join(place.root, "new/deep/big"), os.path.join(place.root, "linked"))
    second = commit(cache, place, first, changes=AnythingChanged())
    trees: dict[Snapshot, object] = {second: tree(place)}
    cache.restore(first, place)
    trees[first] = tree(place)
    assert not os.path.exists(os.path.join(place.root, "linked"))
    for snapshot in (second, first, second):
        site.cache(may_link=True).restore(snapshot, place)
        assert tree(place) == trees[snapshot]


@pytest.mark.root
@pytest.mark.parametrize("make", ["mkfs.btrfs -q", "mkfs.xfs -q -m reflink=1"])
def test_blocks_are_shared_where_the_file_system_can(mounted: Callable[[str], Path], make: str) -> None:
    """Safe even if RUN writes in place, so nothing needs to be unshared."""
    site = Site(mounted(make))
    place = site.place("image")
    full = write(place, "big")
    for may_link in (True, False):
        snapshot = commit(site.cache(may_link=may_link), place, key=b"%d" % may_link)
        (kept,) = stored(site)
        assert inode(kept) != inode(full)
        other = site.place(f"other{may_link}")
        site.cache(may_link=may_link).restore(snapshot, other)
        with open(os.path.join(other.root, "big"), "r+b") as file:
            file.write(b"written in place")
        assert kept.read_bytes() == CONTENT
        assert Path(full).read_bytes() == CONTENT


def test_a_reset_forgets_large_files_and_images_keep_theirs(site: Site) -> None:
    place = site.place("image")
    full = write(place, "big")
    cache = site.cache(may_link=True)
    commit(cache, place)
    assert cache.summary().large_files == 1
    cache.reset()
    assert cache.summary().large_files == 0
    assert stored(site) == []
    assert Path(full).read_bytes() == CONTENT


def test_what_a_killed_process_left_is_swept(site: Site) -> None:
    place = site.place("image")
    write(place, "big")
    cache = site.cache(may_link=True)
    commit(cache, place)
    (kept,) = stored(site)
    kept.with_name(".tmp-left").write_bytes(b"half")
    cache.sweep()
    assert stored(site) == [kept]


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path
