"""Symbolic and hard links: the ways out of an image (rules 3 to 6)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.errors import LayerError
from chimage_core.fs.remove import remove_tree
from tests.support.archives import directory, file, hardlink, header, listing, pax, symlink, tar
from tests.support.archives import unpack_layers as unpack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"host")
    return tmp_path / "root"


@pytest.fixture
def no_deep_tree_left(tmp_path: Path) -> Iterator[None]:
    """pytest's own removal of old directories does not survive such trees."""
    yield
    for name in os.listdir(tmp_path):
        remove_tree(str(tmp_path / name))


def outside(root: Path) -> bytes:
    return os.fsencode(root.parent / "outside")


def split_in_all_ways(members: list[bytes]) -> list[list[bytes]]:
    """The same members as one layer, and as two, cut at each place."""
    return [
        [tar(*members)],
        *([tar(*members[:cut]), tar(*members[cut:])] for cut in range(1, len(members))),
    ]


@pytest.mark.parametrize("cut", range(3))
@pytest.mark.parametrize(
    "target", ["{outside}", "../outside", "../../../../../../../..{outside}", "./.././outside", "/proc/self/cwd"]
)
@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "device"])
def test_nothing_is_written_through_a_link(root: Path, target: str, kind: str, cut: int) -> None:
    link = target.format(outside=os.fsdecode(outside(root))).encode()
    below = {
        "file": file(b"e/file", b"evil"),
        "directory": directory(b"e/file/"),
        "symlink": symlink(b"e/file", b"evil"),
        "device": header(b"e/file", kind=b"3"),
    }[kind]
    layers = split_in_all_ways([symlink(b"e", link), below])
    unpack(root, *layers[cut % len(layers)])
    assert listing(root.parent / "outside") == {"file": b"host"}
    assert os.readlink(os.fsencode(root) + b"/e") == link


@pytest.mark.parametrize("cut", range(5))
def test_a_chain_of_links_stays_inside(root: Path, cut: int) -> None:
    members = [
        symlink(b"a", b"."),
        symlink(b"b", b"a/.."),
        symlink(b"c", b"b/.."),
        symlink(b"d", b"c/../outside"),
        file(b"d/file", b"evil"),
    ]
    layers = split_in_all_ways(members)
    unpack(root, *layers[cut])
    assert listing(root.parent / "outside") == {"file": b"host"}
    assert (root / "outside" / "file").read_bytes() == b"evil"


@pytest.mark.parametrize("cut", range(2))
def test_a_file_replaces_a_link_and_not_its_target(root: Path, cut: int) -> None:
    members = [symlink(b"f", outside(root) + b"/file"), file(b"f", b"image")]
    unpack(root, *split_in_all_ways(members)[cut])
    assert (root / "f").read_bytes() == b"image"
    assert not (root / "f").is_symlink()
    assert listing(root.parent / "outside") == {"file": b"host"}


@pytest.mark.parametrize("cut", range(3))
def test_a_directory_that_becomes_a_link_is_not_a_way_out(root: Path, cut: int) -> None:
    """An open descriptor of the old directory, or a remembered lookup, must not survive."""
    members = [
        file(b"d/old", b"old"),
        symlink(b"d", outside(root)),
        file(b"d/file", b"evil"),
        file(b"d/new", b"evil"),
    ]
    unpack(root, *split_in_all_ways(members)[cut])
    assert listing(root.parent / "outside") == {"file": b"host"}
    assert (root / "d").is_symlink()


@pytest.mark.parametrize("cut", range(3))
def test_a_link_to_a_directory_of_the_image_is_followed_inside(root: Path, cut: int) -> None:
    """Distributions moved /lib to /usr/lib; layers from before still write to /lib."""
    members = [directory(b"usr/lib/"), symlink(b"lib", b"/usr/lib"), file(b"lib/x", b"1"), file(b"lib/sub/y", b"2")]
    unpack(root, *split_in_all_ways(members)[cut])
    expected = {"lib": "-> /usr/lib", "usr": None, "usr/lib": None, "usr/lib/x": b"1", "usr/lib/sub": None}
    assert listing(root) == {**expected, "usr/lib/sub/y": b"2"}


def test_what_a_link_leads_to_is_made_if_missing(root: Path) -> None:
    unpack(root, tar(symlink(b"run", b"var/run"), file(b"run/pid", b"1")))
    assert (root / "var" / "run" / "pid").read_bytes() == b"1"


def test_a_directory_member_replaces_a_link(root: Path) -> None:
    """As overlayfs would show it."""
    unpack(root, tar(symlink(b"d", outside(root))), tar(directory(b"d/"), file(b"d/file", b"image")))
    assert listing(root) == {"d": None, "d/file": b"image"}
    assert listing(root.parent / "outside") == {"file": b"host"}


@pytest.mark.parametrize(
    "links",
    [
        [(b"x", b"y"), (b"y", b"x")],
        [(b"x", b"x")],
        [(b"x", b"./x/../x")],
        [(b"x", b"a0"), *((b"a%d" % number, b"a%d" % (number + 1)) for number in range(45)), (b"a45", b".")],
    ],
)
def test_loops_and_long_chains_of_links_are_refused(root: Path, links: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(LayerError, match="symbolic links"):
        unpack(root, tar(*(symlink(name, target) for name, target in links), file(b"x/f")))


def test_links_in_a_loop_may_exist(root: Path) -> None:
    """Only going through them is impossible."""
    unpack(root, tar(symlink(b"x", b"y"), symlink(b"y", b"x"), symlink(b"out", b"../../../etc")))
    assert listing(root) == {"x": "-> y", "y": "-> x", "out": "-> ../../../etc"}


def test_links_keep_their_time(root: Path) -> None:
    """Lost, the digest of a pushed layer would change with every pull."""
    unpack(root, tar(symlink(b"x", b"y", mtime=1234)))
    assert os.lstat(root / "x").st_mtime == 1234


@pytest.mark.parametrize(
    ("member", "message"), [(symlink(b"x", b""), "to nothing"), (symlink(b"x", b"x"), "path of 5000 bytes")]
)
def test_links_that_no_file_system_takes_are_refused(root: Path, member: bytes, message: str) -> None:
    records = pax({b"linkpath": b"t" * 5000}) if "5000" in message else b""
    with pytest.raises(LayerError, match=message):
        unpack(root, tar(records, member))


# Hard links


@pytest.mark.parametrize(
    "members",
    [
        [hardlink(b"y", b"/etc/passwd")],
        [hardlink(b"y", b"etc/passwd")],
        [directory(b"d"), hardlink(b"y", b"d")],
        [hardlink(b"y", b"y")],
        [file(b"y", b"1"), hardlink(b"y", b"y")],
        [file(b"y", b"1"), hardlink(b"./y", b"/y")],
        [hardlink(b"y", b"x"), file(b"x", b"later")],
        [file(b"x", b"1"), hardlink(b"y", b"missing/x")],
        [file(b"x", b"1"), hardlink(b"y", b"")],
        [file(b"x", b"1"), hardlink(b"y", b".")],
    ],
)
def test_hard_links_to_anything_but_an_earlier_file_are_refused(root: Path, members: list[bytes]) -> None:
    with pytest.raises(LayerError, match="hard link"):
        unpack(root, tar(*members))


def test_a_hard_link_through_a_link_to_the_host_is_refused(root: Path) -> None:
    """Else the image would hold, and could change, a file of the user."""
    with pytest.raises(LayerError, match="hard link"):
        unpack(root, tar(symlink(b"e", outside(root)), hardlink(b"y", b"e/file")))
    with pytest.raises(LayerError, match=r"\.\."):
        unpack(root.parent / "second", tar(hardlink(b"y", b"../outside/file")))
    assert os.stat(root.parent / "outside" / "file").st_nlink == 1


@pytest.mark.parametrize("cut", range(2))
def test_hard_links_are_links_also_to_lower_layers(root: Path, cut: int) -> None:
    unpack(root, *split_in_all_ways([file(b"d/x", b"1"), hardlink(b"y", b"/d/x")])[cut])
    assert (root / "y").stat().st_ino == (root / "d" / "x").stat().st_ino


@pytest.mark.parametrize("cut", range(2))
def test_a_hard_link_to_a_symbolic_link_is_the_link_and_not_its_target(root: Path, cut: int) -> None:
    members = [symlink(b"s", outside(root) + b"/file", mtime=9), hardlink(b"y", b"s")]
    unpack(root, *split_in_all_ways(members)[cut])
    assert os.readlink(root / "y") == os.readlink(root / "s")
    assert os.lstat(root / "y").st_mtime == 9
    assert os.stat(root.parent / "outside" / "file").st_nlink == 1


def test_a_file_over_a_hard_link_does_not_change_the_other_name(root: Path) -> None:
    unpack(root, tar(symlink(b"s", outside(root) + b"/file"), hardlink(b"y", b"s"), file(b"y", b"evil")))
    assert listing(root.parent / "outside") == {"file": b"host"}
    assert (root / "y").read_bytes() == b"evil"


@pytest.mark.usefixtures("no_deep_tree_left")
def test_hard_links_between_very_deep_directories_work(root: Path) -> None:
    """Opening one directory must not close the other."""
    one, other = b"a/" * 1000, b"b/" * 1000
    lower = tar(pax({b"path": one + b"x"}), file(b"x", b"1"))
    unpack(root, lower, tar(pax({b"path": other + b"y", b"linkpath": one + b"x"}), hardlink(b"x", b"x")))
    assert (root / os.fsdecode(other) / "y").read_bytes() == b"1"


# Files as directories


@pytest.mark.parametrize("cut", range(2))
@pytest.mark.parametrize("name", [b"x/f", b"x/y/f", b"l/f", b"p/f"])
def test_a_file_as_a_directory_is_refused(root: Path, name: bytes, cut: int) -> None:
    first = file(b"x", b"1") + symlink(b"l", b"x") + header(b"p", kind=b"6")
    with pytest.raises(LayerError, match="file where it needs a directory"):
        unpack(root, *split_in_all_ways([first, file(name)])[cut])


@pytest.mark.slow
def test_more_hard_links_than_the_file_system_has_become_copies(root: Path) -> None:
    """ext4 ends at 65000 names per file; package stores with empty files reach that."""
    count = 65_100
    unpack(root, tar(file(b"x", b"1"), *(hardlink(b"%d" % number, b"x") for number in range(count))))
    assert len(os.listdir(root)) == count + 1
    assert (root / str(count - 1)).read_bytes() == b"1"
    remove_tree(str(root))
