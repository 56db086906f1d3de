import os
from pathlib import Path

import pytest

from chimage_core.errors import FileError
from chimage_core.fs.paths import clean, open_in_root, resolve_in_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image with links that a kernel would follow to the host."""
    root = tmp_path / "root"
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("image")
    (tmp_path / "secret").write_text("host")
    for name, target in {
        "lib": "usr/lib",
        "absolute": "/etc",
        "up": "../../../etc",
        "host": str(tmp_path),
        "loop": "loop2",
        "loop2": "loop",
        "etc/self": "..",
        "dangling": "/missing/file",
        "chain": "absolute/passwd",
    }.items():
        os.symlink(target, root / name)
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ""),
        ("", ""),
        ("..", ""),
        ("../../etc/passwd", "/etc/passwd"),
        ("lib", "/usr/lib"),
        ("lib/../x", "/usr/x"),
        ("/absolute/passwd", "/etc/passwd"),
        ("up/passwd", "/etc/passwd"),
        ("chain", "/etc/passwd"),
        ("etc/self/lib/.", "/usr/lib"),
        ("dangling", "/missing/file"),
        ("new/deep/file", "/new/deep/file"),
        ("//etc///passwd/", "/etc/passwd"),
    ],
)
def test_paths_resolve_as_if_the_root_were_the_root(root: Path, path: str, expected: str) -> None:
    assert resolve_in_root(str(root), path) == f"{root}{expected}"


def test_a_link_to_a_host_path_stays_inside(root: Path) -> None:
    assert resolve_in_root(str(root), "host/secret") == f"{root}{root.parent}/secret"
    with pytest.raises(FileNotFoundError):
        open_in_root(str(root), "host/secret", os.O_RDONLY)


def test_the_last_link_may_be_what_is_meant(root: Path) -> None:
    assert resolve_in_root(str(root), "etc/self", follow_last=False) == f"{root}/etc/self"
    assert resolve_in_root(str(root), "absolute/self", follow_last=False) == f"{root}/etc/self"
    with pytest.raises(OSError, match="symbolic links"):
        open_in_root(str(root), "chain", os.O_RDONLY, follow_last=False)


@pytest.mark.parametrize("path", ["loop", "loop/x"])
def test_loops_end_with_a_clear_error(root: Path, path: str) -> None:
    with pytest.raises(FileError, match=f"image: {path}: Too many levels of symbolic links"):
        resolve_in_root(str(root), path)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_in_root(str(root), path, os.O_RDONLY)


def test_a_file_is_no_directory(root: Path) -> None:
    with pytest.raises(FileError, match="etc/passwd/x: Not a directory"):
        resolve_in_root(str(root), "etc/passwd/x")
    with pytest.raises(NotADirectoryError):
        open_in_root(str(root), "etc/passwd/x", os.O_RDONLY)


@pytest.mark.parametrize("path", ["etc/passwd", "chain", "up/passwd", "../absolute/passwd", "lib/../../etc/passwd"])
def test_opening_finds_the_file_of_the_image(root: Path, path: str) -> None:
    with open(open_in_root(str(root), path, os.O_RDONLY)) as file:
        assert file.read() == "image"


def test_creating_through_a_dangling_link_stays_inside(root: Path) -> None:
    (root / "missing").mkdir()
    os.close(open_in_root(str(root), "dangling", os.O_WRONLY | os.O_CREAT))
    assert (root / "missing" / "file").is_file()


def test_the_root_itself_can_be_opened(root: Path) -> None:
    fd = open_in_root(str(root), "etc/../..", os.O_RDONLY | os.O_DIRECTORY)
    assert os.fstat(fd).st_ino == root.stat().st_ino
    os.close(fd)


def test_no_descriptor_leaks(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("etc/passwd/x", "loop", "missing", "absolute/self/lib/../.."):
        with pytest.raises(OSError, match=r".+"):
            os.close(open_in_root(str(root), path, os.O_WRONLY))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", ""), ("a//b/../c/", "a/c"), ("../..", ""), ("./a/.", "a"), ("/a/../../b", "b"), ("...", "...")],
)
def test_clean_paths_have_one_spelling(path: str, expected: str) -> None:
    assert clean(path) == expected
