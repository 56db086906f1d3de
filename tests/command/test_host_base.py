"""The base image of the demonstration, made from this host's own programs."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HOST_BASE = Path(__file__).parents[2] / "tools" / "host_base.py"


def host_base(target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, HOST_BASE, target], capture_output=True, text=True, check=False)


@pytest.mark.userns
def test_its_programs_run_in_it(tmp_path: Path) -> None:
    """Every program needs its loader and libraries where the host has them, through all symbolic links."""
    image = tmp_path / "image"
    assert host_base(image).returncode == 0
    script = "mkdir /w && cp /etc/passwd /w/p && ls /w && sed s/root/ROOT/ /w/p | grep -c ROOT && head -1 /w/p"
    inside = subprocess.run(
        ["unshare", "-Ur", "chroot", image, "/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        check=False,
    )
    assert inside.stderr == ""
    assert inside.stdout == "p\n1\nroot:x:0:0:root:/root:/bin/sh\n"


def test_it_has_what_programs_and_ch_run_expect(tmp_path: Path) -> None:
    image = tmp_path / "image"
    host_base(image)
    assert {"passwd", "group", "hosts", "resolv.conf"} <= set(os.listdir(image / "etc"))
    assert {"dev", "proc", "sys", "tmp", "home", "root"} <= set(os.listdir(image))
    assert (image / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_a_merged_usr_stays_merged(tmp_path: Path) -> None:
    image = tmp_path / "image"
    host_base(image)
    assert (image / "bin").is_symlink() == Path("/bin").is_symlink()


def test_a_tarball_holds_the_same_and_belongs_to_root(tmp_path: Path) -> None:
    image, tarball = tmp_path / "image", tmp_path / "image.tar"
    host_base(image)
    host_base(tarball)
    with tarfile.open(tarball) as archive:
        members = archive.getmembers()
    paths = {os.path.join(folder, name) for folder, dirs, files in os.walk(image) for name in (*dirs, *files)}
    assert {os.path.normpath(member.name) for member in members} - {"."} == {os.path.relpath(p, image) for p in paths}
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}


def test_a_directory_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    refused = host_base(tmp_path)
    assert refused.returncode == 1
    assert str(tmp_path) in refused.stderr
    assert os.listdir(tmp_path) == ["precious"]
