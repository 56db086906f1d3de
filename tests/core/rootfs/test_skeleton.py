import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chimage_core.rootfs import skeleton
from tests.support.archives import listing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "host" / "root"
    root.mkdir(parents=True)
    return root


EMPTY: dict[str, object] = {
    **dict.fromkeys(("bin", "ch", "dev", "etc", "mnt", "proc", "sys", "tmp", "usr")),
    **{f"mnt/{number}": None for number in range(10)},
    **dict.fromkeys(("etc/hosts", "etc/resolv.conf", "ch/environment"), b""),
}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_an_empty_image_gets_everything_whatever_the_umask(root: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        skeleton.ensure(str(root))
    finally:
        os.umask(old)
    assert listing(root) == EMPTY
    assert (root / "mnt" / "0").stat().st_mode & 0o7777 == 0o755
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (root / "etc" / "hosts").stat().st_mode & 0o7777 == 0o644


def test_what_is_there_stays(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost")
    (root / "tmp").mkdir(mode=0o700)
    (root / "bin").symlink_to("usr/bin")
    skeleton.ensure(str(root))
    before = {name: os.lstat(root / name).st_mtime_ns for name in listing(root)}
    skeleton.ensure(str(root))
    assert before == {name: os.lstat(root / name).st_mtime_ns for name in listing(root)}
    assert (root / "etc" / "hosts").read_text() == "127.0.0.1 localhost"
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o700
    assert os.readlink(root / "bin") == "usr/bin"


@pytest.mark.parametrize("target", ["../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf"])
def test_a_dangling_link_gets_its_target_inside_the_image(root: Path, target: str) -> None:
    """Ubuntu's resolv.conf: without its target there is nothing to mount on, and no name resolution in RUN."""
    (root / "etc").mkdir()
    (root / "etc" / "resolv.conf").symlink_to(target)
    skeleton.ensure(str(root))
    assert os.readlink(root / "etc" / "resolv.conf") == target
    assert (root / "run" / "systemd" / "resolve" / "stub-resolv.conf").read_bytes() == b""


@pytest.mark.parametrize("name", ["etc", "mnt", "ch", "tmp"])
@pytest.mark.parametrize("up", [True, False])
def test_nothing_is_made_on_the_host(root: Path, name: str, up: bool) -> None:
    (root / name).symlink_to("../outside" if up else root.parent / "outside")
    (root.parent / "outside").mkdir()
    skeleton.ensure(str(root))
    assert os.listdir(root.parent / "outside") == []
    assert sorted(os.listdir(root.parent)) == ["outside", "root"]


@pytest.mark.parametrize("name", ["etc", "mnt", "ch", "etc/hosts", "mnt/3"])
def test_odd_images_are_left_odd(root: Path, name: str) -> None:
    """A loop, a file or a directory in the way is not for us to repair, and no reason to fail."""
    makers: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(path.name),
        lambda path: path.write_text("x"),
        lambda path: path.mkdir(),
    ]
    for number, make in enumerate(makers):
        image = root / str(number)
        (image / name).parent.mkdir(parents=True)
        make(image / name)
        before = os.lstat(image / name).st_mode
        skeleton.ensure(str(image))
        assert os.lstat(image / name).st_mode == before
