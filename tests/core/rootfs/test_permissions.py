import os
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.rootfs.permissions import PermissionsReport, ensure_minimum


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_everything_becomes_usable_by_its_owner(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "closed" / "inner").mkdir(parents=True)
    (root / "closed" / "inner" / "file").write_bytes(b"x")
    os.chmod(root / "closed" / "inner" / "file", 0o000)
    os.chmod(root / "closed" / "inner", 0o000)
    os.chmod(root / "closed", 0o050)
    os.chmod(root, 0o000)
    report = ensure_minimum(str(root), cancel=CancelToken())
    modes = [mode(path) for path in (root, root / "closed", root / "closed/inner", root / "closed/inner/file")]
    assert modes == [0o700, 0o750, 0o700, 0o600]
    assert report == PermissionsReport(widened=3, setuid=0)  # And the root.


def test_special_bits_go_and_are_counted_once_per_file(tmp_path: Path) -> None:
    (tmp_path / "su").touch()
    os.chmod(tmp_path / "su", 0o6755)
    os.link(tmp_path / "su", tmp_path / "sudo")
    (tmp_path / "mail").mkdir()
    os.chmod(tmp_path / "mail", 0o3777)
    assert ensure_minimum(str(tmp_path), cancel=CancelToken()) == PermissionsReport(widened=0, setuid=2)
    assert [mode(tmp_path / name) for name in ("su", "sudo", "mail")] == [0o755, 0o755, 0o1777]


def test_links_are_not_followed_and_times_are_kept(tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    os.chmod(tmp_path / "outside", 0o400)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "file").touch()
    os.chmod(root / "file", 0o444)
    os.utime(root / "file", ns=(1, 2))
    ensure_minimum(str(root), cancel=CancelToken())
    assert mode(tmp_path / "outside") == 0o400
    assert ((root / "file").stat().st_mtime_ns, mode(root / "file")) == (2, 0o644)


@pytest.mark.parametrize("again", [1, 2])
def test_a_tree_that_needs_nothing_is_left_alone(tmp_path: Path, again: int) -> None:
    (tmp_path / "file").touch()
    before = (tmp_path / "file").stat().st_ctime_ns
    for _ in range(again):
        assert ensure_minimum(str(tmp_path), cancel=CancelToken()) == PermissionsReport(0, 0)
    assert (tmp_path / "file").stat().st_ctime_ns == before
