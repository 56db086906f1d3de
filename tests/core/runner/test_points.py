"""Mount targets inside an image that does not mean well."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.runner.points import MountPoints, locate


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root/usr/lib").mkdir(parents=True)
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/passwd").touch()
    (tmp_path / "root/lib").symlink_to("usr/lib")
    (tmp_path / "root/up").symlink_to("../../../../usr")
    (tmp_path / "root/abs").symlink_to("/usr/lib")
    (tmp_path / "root/dangling").symlink_to("/var/run/x")
    (tmp_path / "root/loop").symlink_to("loop2")
    (tmp_path / "root/loop2").symlink_to("loop")
    fd = os.open(tmp_path / "root", os.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "found", "missing"),
    [
        ("/", "", ""),
        ("", "", ""),
        ("/usr/lib", "usr/lib", ""),
        ("usr//./lib/", "usr/lib", ""),
        ("/lib", "usr/lib", ""),
        ("/lib/../etc/passwd", "usr", "etc/passwd"),
        ("/up/lib", "usr/lib", ""),
        ("/abs/x/y", "usr/lib", "x/y"),
        ("/../../..", "", ""),
        ("/../../etc", "etc", ""),
        ("/dangling", "", "var/run/x"),
        ("/dangling/y", "", "var/run/x/y"),
        ("/no/../etc", "etc", ""),
        ("/no/such/../thing", "", "no/thing"),
        ("/no/lib", "", "no/lib"),
    ],
)
def test_paths_resolve_inside_the_root(root: int, tmp_path: Path, path: str, found: str, missing: str) -> None:
    located = locate(root, path.encode())
    assert b"/".join(located.found) == found.encode()
    assert b"/".join(located.missing) == missing.encode()
    assert os.path.samestat(os.fstat(located.fd), os.stat(tmp_path / "root" / found))
    os.close(located.fd)


def test_a_loop_of_links_ends(root: int) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        locate(root, b"/loop/x")


def test_a_file_is_no_directory(root: int) -> None:
    with pytest.raises(NotADirectoryError):
        locate(root, b"/etc/passwd/x")


def test_looking_leaks_no_descriptor(root: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in (b"/lib/x", b"/abs/../..", b"/up/lib"):
        os.close(locate(root, path).fd)
    with pytest.raises(OSError, match="symbolic links"):
        locate(root, b"/loop")
    assert len(os.listdir("/proc/self/fd")) == before


def times(path: Path) -> tuple[int, int]:
    return (path.stat().st_mtime_ns, path.stat().st_mode)


def test_what_is_made_can_be_removed_without_a_trace(root: int, tmp_path: Path) -> None:
    image = tmp_path / "root"
    before = {path: times(path) for path in (image, image / "usr", image / "usr/lib", image / "etc")}
    made = MountPoints()
    made.make(root, b"/opt/a/b", True)
    made.make(root, b"/opt/a/c", False)
    made.make(root, b"/lib/new", True)
    made.make(root, b"/etc/passwd", False)
    assert (image / "opt/a/b").is_dir()
    assert (image / "opt/a/c").is_file()
    assert (image / "usr/lib/new").is_dir()
    made.remove()
    assert sorted(os.listdir(image)) == ["abs", "dangling", "etc", "lib", "loop", "loop2", "up", "usr"]
    assert {path: times(path) for path in before} == before


def test_what_is_no_longer_empty_stays(root: int, tmp_path: Path) -> None:
    image = tmp_path / "root"
    made = MountPoints()
    made.make(root, b"/opt/dir", True)
    made.make(root, b"/etc/new", False)
    (image / "opt/own").touch()
    (image / "etc/new").write_text("written")
    made.remove()
    assert os.listdir(image / "opt") == ["own"]
    assert (image / "etc/new").read_text() == "written"


def test_beside_means_nothing_is_made_in_the_root(root: int, tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    beside = os.open(tmp_path / "beside", os.O_PATH)
    made = MountPoints()
    made.make(root, b"/lib/new/dir", True, beside)
    made.make(root, b"/lib/new/file", False, beside)
    made.make(root, b"/usr/lib", True, beside)
    os.close(beside)
    found = sorted(str(path.relative_to(tmp_path / "beside")) for path in (tmp_path / "beside").rglob("*"))
    assert found == ["usr", "usr/lib", "usr/lib/new", "usr/lib/new/dir", "usr/lib/new/file"]
    assert os.listdir(tmp_path / "root/usr/lib") == []
