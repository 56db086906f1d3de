"""What an ordinary user cannot or should not have: devices, IDs, special bits, attributes (rules 11, 12, 13, 19)."""

import os
from pathlib import Path

import pytest

from chimage_core.errors import LayerError
from chimage_core.fs import xattr
from chimage_core.layer.extract import UnpackOptions
from tests.support.archives import directory, file, hardlink, header, listing, octal, pax, symlink, tar
from tests.support.archives import unpack_layers as unpack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


# Devices and FIFOs


@pytest.mark.parametrize(("kind", "counter"), [(b"3", "devices"), (b"4", "devices"), (b"6", "fifos")])
def test_devices_and_fifos_are_left_out_and_counted(root: Path, kind: bytes, counter: str) -> None:
    report = unpack(root, tar(header(b"d/special", kind=kind), file(b"d/file", b"x")))
    assert listing(root) == {"d": None, "d/file": b"x"}
    assert getattr(report, counter) == 1
    assert not report.warnings


@pytest.mark.parametrize("kind", [b"3", b"4", b"6"])
def test_a_special_file_does_not_silently_delete_what_a_lower_layer_has_there(root: Path, kind: bytes) -> None:
    report = unpack(root, tar(file(b"etc/passwd", b"x")), tar(header(b"etc/passwd", kind=kind)))
    assert (root / "etc" / "passwd").read_bytes() == b"x"
    assert len(report.warnings) == 1
    assert "etc/passwd" in report.warnings[0]


def test_a_hard_link_to_a_special_file_is_left_out_too(root: Path) -> None:
    unpack(root, tar(header(b"fifo", kind=b"6"), hardlink(b"link", b"fifo"), hardlink(b"dev/x", b"dev/null"),
                     hardlink(b"y", b"dev/null")))  # fmt: skip
    assert listing(root) == {"dev": None}


def test_a_special_file_can_be_replaced(root: Path) -> None:
    unpack(root, tar(header(b"x", kind=b"6"), header(b"y", kind=b"3")), tar(file(b"x", b"1"), directory(b"y")))
    assert listing(root) == {"x": b"1", "y": None}


def test_nothing_is_unpacked_below_dev(root: Path) -> None:
    """Containers have the host's /dev."""
    members = [
        directory(b"./dev/"),
        header(b"./dev/null", kind=b"3"),
        symlink(b"./dev/fd", b"/proc/self/fd"),
        file(b"./dev/pts/deep", b"x"),
        symlink(b"alias", b"dev"),
        file(b"alias/file", b"x"),
        file(b"usr/dev/file", b"x"),
    ]
    report = unpack(root, tar(*members))
    assert listing(root) == {"dev": None, "alias": "-> dev", "usr": None, "usr/dev": None, "usr/dev/file": b"x"}
    assert report.below_dev == 4


def test_git_names_are_names_like_any_other(root: Path) -> None:
    members = [file(b".git/config", b"x"), file(b".gitignore", b"y"), file(b"GIT~1", b"z")]
    unpack(root, tar(*members))
    assert set(listing(root)) == {".git", ".git/config", ".gitignore", "GIT~1"}


# Modes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize(
    ("archived", "as_file", "as_directory"),
    [
        (0o4755, 0o755, 0o755),
        (0o2755, 0o755, 0o755),
        (0o6777, 0o777, 0o777),
        (0o1777, 0o777, 0o1777),
        (0o0000, 0o600, 0o700),
        (0o0555, 0o755, 0o755),
        (0o0444, 0o644, 0o744),
        (0o0066, 0o666, 0o766),
    ],
)
def test_modes_suit_an_ordinary_user_whatever_the_umask(
    root: Path, archived: int, as_file: int, as_directory: int, umask: int
) -> None:
    root.mkdir()
    old = os.umask(umask)
    try:
        report = unpack(root, tar(directory(b"d/", mode=archived), file(b"d/f", b"x", mode=archived)))
    finally:
        os.umask(old)
    assert (mode(root / "d" / "f"), mode(root / "d")) == (as_file, as_directory)
    assert report.setuid == (2 if archived & 0o6000 else 0)


def test_file_type_bits_in_the_mode_are_ignored(root: Path) -> None:
    unpack(root, tar(file(b"f", b"x", mode=0o100640)))
    assert mode(root / "f") == 0o640


def test_implicit_directories_have_usual_modes_and_the_time_of_what_needs_them(root: Path) -> None:
    """The time of unpacking would make equal images differ."""
    unpack(root, tar(file(b"a/b/f", b"x", mtime=42)))
    assert (mode(root / "a"), (root / "a").stat().st_mtime) == (0o755, 42)


def test_times_are_kept_also_of_directories_that_get_files_later(root: Path) -> None:
    unpack(root, tar(directory(b"d", mtime=1), file(b"d/f", b"x", mtime=2), symlink(b"d/s", b"f", mtime=3)))
    assert [(root / name).lstat().st_mtime for name in ("d", "d/f", "d/s")] == [1, 2, 3]


# Attributes


@pytest.fixture
def with_xattrs(tmp_path: Path) -> None:
    if not xattr.is_supported(str(tmp_path)):
        pytest.skip("the file system has no user attributes")


@pytest.mark.usefixtures("with_xattrs")
def test_user_attributes_are_kept_if_wanted(root: Path) -> None:
    layer = tar(
        pax({b"SCHILY.xattr.user.a": b"1\0\n=2", b"SCHILY.xattr.user.empty": b""}),
        file(b"f", b"x", mode=0o444),
        pax({b"SCHILY.xattr.user.d": b"3"}),
        directory(b"d", mode=0o555),
        pax({b"SCHILY.xattr.user.s": b"4"}),
        symlink(b"s", b"f"),
    )
    unpack(root, layer)
    assert xattr.read(str(root / "f")) == {"user.a": b"1\0\n=2"}
    assert xattr.read(str(root / "d")) == {"user.d": b"3"}
    unpack(root.parent / "plain", layer, options=UnpackOptions(xattrs=False))
    assert xattr.read(str(root.parent / "plain" / "f")) == {}


@pytest.mark.usefixtures("with_xattrs")
def test_other_attributes_are_dropped_and_capabilities_counted(root: Path) -> None:
    names = [b"security.capability", b"security.selinux", b"trusted.overlay.opaque", b"user.overlay.opaque", b"user.a"]
    report = unpack(root, tar(pax({b"SCHILY.xattr." + name: b"y" for name in names}), file(b"f", b"x")))
    assert xattr.read(str(root / "f")) == {"user.a": b"y"}
    assert "user.overlay.opaque" not in os.listxattr(root / "f")
    assert report.capabilities == 1


@pytest.mark.usefixtures("with_xattrs")
@pytest.mark.parametrize(
    ("name", "value"),
    [(b"user.", b"x"), (b"user." + b"n" * 300, b"x"), (b"user.huge", bytes(100_000)), (b"user.\xff\xfe", b"x")],
)
def test_attributes_that_no_file_system_takes_are_counted_and_the_file_is_there(
    root: Path, name: bytes, value: bytes
) -> None:
    report = unpack(root, tar(pax({b"SCHILY.xattr." + name: value}), file(b"f", b"x")))
    assert (root / "f").read_bytes() == b"x"
    assert report.refused_xattrs == (set() if name == b"user.\xff\xfe" else {os.fsdecode(name)})


# Types


@pytest.mark.parametrize("kind", [b"0", b"\0", b"7", b"Z"])
def test_old_new_and_unknown_types_of_files_are_files(root: Path, kind: bytes) -> None:
    unpack(root, tar(file(b"f", b"x", kind=kind)))
    assert listing(root) == {"f": b"x"}


@pytest.mark.parametrize("member", [header(b"d/", kind=b"\0"), file(b"d", b"Yfile\0", kind=b"D", magic=b"ustar  \0")])
def test_old_ways_to_write_directories_work(root: Path, member: bytes) -> None:
    unpack(root, tar(member, file(b"d/f", b"x")))
    assert listing(root) == {"d": None, "d/f": b"x"}


def test_a_size_of_a_member_that_has_no_data_is_ignored(root: Path) -> None:
    """Some writers put the size of the target there."""
    members = [
        file(b"f", b"x"),
        header(b"d", kind=b"5", size=4096, mode=0o755),
        header(b"s", kind=b"2", size=77, link=b"f"),
        pax({b"size": b"512"}),
        header(b"h", kind=b"1", size=512, link=b"f"),
        file(b"g", b"y"),
    ]
    unpack(root, tar(*members))
    assert listing(root) == {"f": b"x", "d": None, "s": "-> f", "h": b"x", "g": b"y"}


def test_volume_labels_are_no_files_and_later_volumes_are_refused(root: Path) -> None:
    unpack(root, tar(header(b"label", kind=b"V"), file(b"f", b"x")))
    assert listing(root) == {"f": b"x"}
    with pytest.raises(LayerError, match="multi-volume"):
        unpack(root, tar(header(b"f", kind=b"M", size=octal(0, 12))))
