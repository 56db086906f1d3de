import os
import struct
from pathlib import Path

import pytest

from chimage_core.fs import xattr


@pytest.fixture
def directory(tmp_path: Path) -> str:
    if not xattr.is_supported(str(tmp_path)):
        pytest.skip("the file system has no user attributes")
    return str(tmp_path)


def test_user_attributes_come_back_byte_for_byte(directory: str) -> None:
    path = f"{directory}/file"
    Path(path).touch()
    attributes = {"user.empty": b"", "user.mime": b"\x00\xff\n"}
    assert xattr.write(path, attributes) == ()
    assert xattr.read(path) == attributes


def test_descriptors_and_paths_see_the_same_attributes(directory: str) -> None:
    path = f"{directory}/file"
    with open(path, "wb") as file:
        xattr.write(file.fileno(), {"user.a": b"1"})
        assert xattr.read(file.fileno()) == xattr.read(path) == xattr.read(os.fsencode(path)) == {"user.a": b"1"}


def test_the_books_of_an_overlay_never_enter_an_image(directory: str) -> None:
    """An opaque mark in an image would hide directories on somebody else's machine."""
    os.setxattr(directory, "user.overlay.opaque", b"y")
    os.setxattr(directory, "user.mine", b"1")
    assert xattr.read(directory) == {"user.mine": b"1"}


def test_links_are_not_followed(directory: str) -> None:
    Path(directory, "file").touch()
    os.setxattr(f"{directory}/file", "user.a", b"1")
    os.symlink("file", f"{directory}/link")
    assert xattr.read(f"{directory}/link") == {}
    assert xattr.write(f"{directory}/link", {"user.b": b"2"}) == ("user.b",)
    assert xattr.read(f"{directory}/file") == {"user.a": b"1"}


def test_exact_writing_removes_what_is_not_wanted_but_not_what_is_not_ours(directory: str) -> None:
    os.setxattr(directory, "user.old", b"1")
    os.setxattr(directory, "user.overlay.impure", b"y")
    assert xattr.write(directory, {"user.new": b"2"}, exact=True) == ()
    assert xattr.read(directory) == {"user.new": b"2"}
    assert os.getxattr(directory, "user.overlay.impure") == b"y"


def test_an_acl_that_forbids_writing_does_not_keep_the_others_out(directory: str) -> None:
    path = f"{directory}/file"
    Path(path).touch()
    entries = [(0x01, 4, -1), (0x02, 7, 12345), (0x04, 4, -1), (0x10, 4, -1), (0x20, 4, -1)]  # acl(5): owner: r--
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    attributes = {"system.posix_acl_access": acl, "user.a": b"1"}
    with open(path, "r+b") as file:
        if "system.posix_acl_access" in xattr.write(file.fileno(), attributes):
            pytest.skip("the file system has no ACLs")
    assert xattr.read(path) == attributes


def test_a_refused_attribute_is_reported_and_the_others_are_set(directory: str) -> None:
    """One attribute too long for the file system must not fail a build."""
    assert xattr.write(directory, {"user.huge": bytes(70_000), "user.a": b"1"}) == ("user.huge",)
    assert xattr.read(directory) == {"user.a": b"1"}


def test_a_file_system_without_attributes_is_recognised() -> None:
    """/proc stands for the file systems of clusters that answer ENOTSUP."""
    assert xattr.read("/proc/self") == {}
    assert not xattr.is_supported("/proc/self")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        xattr.read(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("user.a", True),
        ("user.overlay.origin", False),
        ("system.posix_acl_access", True),
        ("system.posix_acl_default", True),
        ("security.capability", True),
        ("security.selinux", False),
        ("trusted.overlay.opaque", False),
    ],
)
def test_only_what_users_can_read_and_set_is_kept(name: str, kept: bool) -> None:
    assert xattr.is_kept(name) is kept
