import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chimage_core.errors import FileError
from chimage_core.fs.remove import remove_aside, remove_tree


def make_deep(top: Path, depth: int) -> None:
    """Nest directories beyond any path length, cheaply."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=fd)
        below = os.open("directory", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
    os.close(fd)


def test_everything_goes_whatever_its_permissions(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("closed", "unreadable", "unwritable"):
        (top / name / "below").mkdir(parents=True)
        (top / name / "below" / "file").touch()
    os.chmod(top / "closed" / "below", 0o000)
    os.chmod(top / "closed", 0o000)
    os.chmod(top / "unreadable", 0o300)
    os.chmod(top / "unwritable" / "below", 0o555)
    os.chmod(top / "unwritable", 0o555)
    os.chmod(top, 0o000)
    remove_tree(str(top))
    assert os.listdir(tmp_path) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to("../outside")
    (tmp_path / "top" / "dangling").symlink_to("missing")
    remove_tree(str(tmp_path / "top"))
    assert os.listdir(tmp_path / "outside") == ["file"]
    assert os.listdir(tmp_path) == ["outside"]


def test_a_link_at_the_top_goes_alone(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("outside")
    remove_tree(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["outside"]


def test_every_type_of_file_and_every_name_goes(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path / "top")
    os.mkdir(top)
    os.mkfifo(top + b"/fifo")
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"x" * 255):
        os.mkdir(top + b"/" + name)
    remove_tree(os.fsdecode(top))
    assert os.listdir(tmp_path) == []


def test_what_is_missing_needs_no_removal(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "missing"))
    remove_aside(str(tmp_path / "missing"), str(tmp_path / "trash"))


def test_trees_deeper_than_any_path_and_any_recursion_go(tmp_path: Path) -> None:
    """A program in a container can make them by mkdir and chdir in a loop."""
    (tmp_path / "top").mkdir()
    make_deep(tmp_path / "top", 10_000)
    start = time.monotonic()
    remove_tree(str(tmp_path / "top"))
    assert os.listdir(tmp_path) == []
    assert time.monotonic() - start < 30


def test_an_error_names_the_tree(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=f"can't remove: {tmp_path}/file/below"):
        remove_tree(str(tmp_path / "file" / "below"))


def test_removing_aside_empties_its_trash(tmp_path: Path) -> None:
    (tmp_path / "top" / "below").mkdir(parents=True)
    os.chmod(tmp_path / "top", 0o500)
    remove_aside(str(tmp_path / "top"), str(tmp_path / "trash"))
    assert os.listdir(tmp_path) == ["trash"]
    assert os.listdir(tmp_path / "trash") == []


MOUNT_AND_REMOVE = """
mount -t tmpfs none "$1/top/mounted" && touch "$1/top/mounted/precious" && cd "$2" || exit 99
"$3" -c 'import sys; from chimage_core.fs.remove import remove_tree; remove_tree(sys.argv[1])' "$1/top"
ls "$1/top/mounted"
"""


@pytest.mark.userns
def test_another_file_system_mounted_inside_is_not_emptied(tmp_path: Path) -> None:
    """It may be somebody's home directory, bound there by a program that died."""
    (tmp_path / "top" / "mounted").mkdir(parents=True)
    here = Path(__file__).parents[3]
    argv = ["unshare", "-rm", "sh", "-c", MOUNT_AND_REMOVE, "sh", str(tmp_path), str(here), sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout == "precious\n"
    assert "another file system is mounted inside" in done.stderr
