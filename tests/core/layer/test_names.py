"""Names of members: out of the image (rules 1, 2), bytes that are no text, and names without end (rule 14)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.errors import LayerError
from chimage_core.fs.remove import remove_tree
from tests.support.archives import directory, file, hardlink, header, listing, long_name, pax, symlink, tar
from tests.support.archives import unpack_layers as unpack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "image" / "root"


@pytest.fixture
def no_deep_tree_left(tmp_path: Path) -> Iterator[None]:
    """pytest's own removal of old directories does not survive such trees."""
    yield
    for name in os.listdir(tmp_path):
        remove_tree(str(tmp_path / name))


@pytest.fixture(autouse=True)
def nothing_outside(root: Path) -> None:
    root.mkdir(parents=True)


@pytest.mark.parametrize(
    "members",
    [
        [file(b"../evil", b"x")],
        [file(b"a/../../evil", b"x")],
        [file(b"./a/./../x", b"x")],
        [directory(b"..")],
        [directory(b"a/..")],
        [symlink(b"../evil", b"x")],
        [pax({b"path": b"../../evil"}), file(b"innocent", b"x")],
        [long_name(b"a/" * 80 + b"../" * 90 + b"evil"), file(b"innocent", b"x")],
        [header(b"evil", tail=b"../a")],
        [file(b"a", b"x"), hardlink(b"b", b"../../etc/passwd")],
        [file(b"a", b"x"), hardlink(b"../b", b"a")],
        [file(b".wh...", b"")],
    ],
)
def test_names_that_climb_are_refused(root: Path, members: list[bytes]) -> None:
    with pytest.raises(LayerError, match=r"\.\.|no name"):
        unpack(root, tar(*members))
    assert os.listdir(root.parent) == ["root"]
    assert os.listdir(root.parent.parent) == ["image"]


@pytest.mark.parametrize(
    "members",
    [
        [file(b"/tmp/evil", b"x")],
        [file(b"//tmp/evil", b"x")],
        [file(b"/./tmp//evil", b"x")],
        [pax({b"path": b"/tmp/evil"}), file(b"a", b"x")],
        [long_name(b"/" + b"./" * 60 + b"tmp/evil"), file(b"a", b"x")],
    ],
)
def test_absolute_names_are_relative_to_the_image_and_said_once(root: Path, members: list[bytes]) -> None:
    report = unpack(root, tar(*members, file(b"/tmp/other", b"y")))
    assert listing(root) == {"tmp": None, "tmp/evil": b"x", "tmp/other": b"y"}
    assert report.absolute == 2
    assert len(report.warnings) == 1


def test_names_are_bytes(root: Path) -> None:
    unpack(root, tar(file(b"\xff\xfe", b"x"), directory(b"d\n\x1b[31m/"), symlink(b"link", b"\xfe\xff")))
    assert sorted(os.listdir(os.fsencode(root))) == [b"d\n\x1b[31m", b"link", b"\xff\xfe"]
    assert os.readlink(os.fsencode(root) + b"/link") == b"\xfe\xff"


@pytest.mark.parametrize("key", [b"path", b"linkpath"])
def test_a_nul_in_a_name_is_refused(root: Path, key: bytes) -> None:
    """The kernel would cut the name there: what was checked is not what is made."""
    with pytest.raises(LayerError, match="NUL"):
        unpack(root, tar(pax({key: b"a\0b"}), symlink(b"a", b"b")))


def test_long_names_work_in_all_three_spellings(root: Path) -> None:
    name = b"/".join([b"d" * 60] * 6)
    unpack(
        root,
        tar(
            pax({b"path": name + b"/pax"}),
            file(b"x", b"1"),
            long_name(name + b"/gnu"),
            file(b"x", b"2", magic=b"ustar  \0"),
            file(b"ustar", b"3", tail=b"/".join([b"d" * 60] * 2)),
        ),
    )
    assert (root / os.fsdecode(name) / "pax").read_bytes() == b"1"
    assert (root / os.fsdecode(name) / "gnu").read_bytes() == b"2"
    assert (root / ("d" * 60) / ("d" * 60) / "ustar").read_bytes() == b"3"


def test_long_link_targets_work(root: Path) -> None:
    target = "t" * 250
    unpack(
        root,
        tar(
            pax({b"linkpath": target.encode()}),
            symlink(b"pax", b"x"),
            long_name(target.encode(), b"K"),
            symlink(b"gnu", b"x"),
        ),
    )
    assert os.readlink(root / "pax") == os.readlink(root / "gnu") == target


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"n" * 256, "a name of 256 bytes"),
        (b"n" * 256 + b"/file", "a name of 256 bytes"),
        (b"/".join([b"d" * 200] * 21), "a path of more than 4095 bytes"),
        (b"a/" * 100_000 + b"a", "a path of more than 4095 bytes"),
    ],
)
def test_names_too_long_for_a_file_system_give_a_clear_error(root: Path, name: bytes, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        unpack(root, tar(pax({b"path": name}), file(b"x")))


@pytest.mark.usefixtures("no_deep_tree_left")
def test_links_do_not_make_paths_longer_than_the_limit(root: Path) -> None:
    """Each name is short, but they add up through the link."""
    deep = b"a/" * 1500
    with pytest.raises(LayerError, match="a path of more than 4095 bytes"):
        unpack(
            root,
            tar(
                pax({b"path": deep}),
                directory(b"x"),
                pax({b"linkpath": deep}),
                symlink(b"link", b"x"),
                pax({b"path": b"link/" + deep + b"file"}),
                file(b"x"),
            ),
        )


@pytest.mark.usefixtures("no_deep_tree_left")
def test_the_deepest_possible_tree_is_unpacked(root: Path) -> None:
    """Deeper than the limits of recursion (1000) and of open directories."""
    report = unpack(root, tar(pax({b"path": b"a/" * 2040 + b"file"}), file(b"x", b"deep")))
    assert report.bytes == 4
    fd = os.open(root, os.O_RDONLY)
    for _ in range(2040):
        below = os.open("a", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    assert os.listdir(fd) == ["file"]
    os.close(fd)


def test_the_root_itself_may_be_a_member(root: Path) -> None:
    unpack(root, tar(directory(b"./", mode=0o711, mtime=5), directory(b"."), directory(b"/", mode=0o750, mtime=7)))
    assert (root.stat().st_mode & 0o7777, root.stat().st_mtime) == (0o750, 7)


@pytest.mark.parametrize("member", [file(b"."), symlink(b"./", b"/tmp"), hardlink(b".", b"a")])
def test_nothing_but_a_directory_can_be_the_root(root: Path, member: bytes) -> None:
    with pytest.raises(LayerError, match="root"):
        unpack(root, tar(file(b"a"), member))


def test_a_member_without_a_name_is_refused(root: Path) -> None:
    with pytest.raises(LayerError, match="without a name"):
        unpack(root, tar(file(b"")))
