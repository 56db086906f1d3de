"""Where COPY takes files from."""

import os
from pathlib import Path

import pytest

from chimage_core.build.context import SourceTree, described
from chimage_core.errors import ChimageError, ContextError


@pytest.fixture
def tree(tmp_path: Path) -> SourceTree:
    root = tmp_path / "context"
    (root / "d" / "e").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "d/c.txt", "d/e/f"):
        (root / name).write_text(name)
    (tmp_path / "outside").write_text("secret")
    return SourceTree(str(root), "context", is_image=False)


def names(tree: SourceTree, pattern: str) -> list[str]:
    return [source.name for source in tree.find(pattern)]


def test_sources_are_found_sorted_by_name_and_wildcard(tree: SourceTree) -> None:
    assert names(tree, "a.txt") == ["a.txt"]
    assert names(tree, "*.txt") == ["a.txt", "b.txt"]
    assert names(tree, "d/*") == ["d/c.txt", "d/e"]


def test_absolute_source_is_relative_to_the_context(tree: SourceTree) -> None:
    """An undocumented rule of Docker that the manual keeps."""
    assert names(tree, "/d/c.txt") == ["d/c.txt"]
    assert names(tree, "/") == ["."]


@pytest.mark.parametrize("pattern", ["nope", "*.nope", "d/nope", "a.txt/x"])
def test_missing_source_is_an_error_that_names_it(tree: SourceTree, pattern: str) -> None:
    with pytest.raises(ChimageError, match="not found in context"):
        tree.find(pattern)


@pytest.mark.parametrize("pattern", ["../outside", "d/../../outside", "..", "d/../.."])
def test_dots_do_not_lead_out_of_the_context(tree: SourceTree, pattern: str) -> None:
    with pytest.raises(ContextError, match="outside the context"):
        tree.find(pattern)


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", ".."])
def test_symlink_does_not_lead_out_of_the_context(tree: SourceTree, target: str) -> None:
    os.symlink(target, f"{tree.root}/link")
    with pytest.raises(ContextError, match="outside the context"):
        tree.find("link")


def test_symlink_to_elsewhere_in_the_context_is_followed(tree: SourceTree) -> None:
    os.symlink("d/c.txt", f"{tree.root}/link")
    (source,) = tree.find("link")
    assert (source.name, Path(source.path).name) == ("link", "c.txt")


def test_absolute_symlink_in_an_image_counts_from_its_root(tmp_path: Path) -> None:
    """As a process in the container would see it: never the host's file."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("image's")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "dir").symlink_to("/etc")
    tree = SourceTree(str(tmp_path), "stage x", is_image=True)
    for pattern in ("link", "dir/passwd", "dir/pass*"):
        (source,) = tree.find(pattern)
        assert Path(source.path).read_text() == "image's"


def test_description_sees_what_the_manual_lists(tree: SourceTree) -> None:
    """File name, type, permissions, size and mtime; contents are not read."""

    def now() -> bytes:
        return described(tree.find("d"), with_xattrs=True)

    path = f"{tree.root}/d/c.txt"
    seen = {now()}
    os.chmod(path, 0o600)
    seen.add(now())
    os.utime(path, ns=(0, 12345))
    seen.add(now())
    Path(path).write_text("longer than it was")
    os.utime(path, ns=(0, 12345))
    seen.add(now())
    os.rename(path, f"{tree.root}/d/other")
    seen.add(now())
    os.symlink("x", path)
    seen.add(now())
    assert len(seen) == 6


def test_description_sees_xattrs_if_they_count(tree: SourceTree) -> None:
    before = described(tree.find("a.txt"), with_xattrs=True)
    try:
        os.setxattr(f"{tree.root}/a.txt", "user.x", b"1")
    except OSError:
        pytest.skip("file system without user xattrs")
    assert described(tree.find("a.txt"), with_xattrs=True) != before
    assert described(tree.find("a.txt"), with_xattrs=False) == described(tree.find("a.txt"), with_xattrs=False)


def test_description_does_not_depend_on_where_the_context_is(tree: SourceTree, tmp_path: Path) -> None:
    """A checkout elsewhere hits what was built here."""
    before = described(tree.find("d"), with_xattrs=True)
    os.rename(tree.root, tmp_path / "moved")
    moved = SourceTree(str(tmp_path / "moved"), "context", is_image=False)
    assert described(moved.find("d"), with_xattrs=True) == before


def test_description_ignores_an_editors_temporary_file_that_is_gone(tree: SourceTree) -> None:
    before = described(tree.find("d"), with_xattrs=True)
    swap = Path(tree.root) / "d" / ".swp"
    swap.write_text("")
    swap.unlink()
    assert described(tree.find("d"), with_xattrs=True) == before
