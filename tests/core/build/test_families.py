"""Which family of distributions an image is of, by the files that real images have."""

import os
from pathlib import Path

import pytest

from chimage_core.build.force.fakeroot import needs_fakeroot
from chimage_core.build.force.families import FAMILIES, find_family

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nNAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n'
MINT = 'NAME="Linux Mint"\nPRETTY_NAME="Linux Mint 21"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
LEAP = 'NAME="openSUSE Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\nPRETTY_NAME="openSUSE Leap 15.6"\n'
TUMBLEWEED = 'NAME="openSUSE Tumbleweed"\nID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n'
SLES = 'NAME="SLES"\nVERSION="15-SP5"\nID="sles"\nID_LIKE="suse"\n'
ARCH = 'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\n'
ALPINE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n'
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'


def _image(root: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        path = root / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(root)


@pytest.mark.parametrize(
    ("files", "tag"),
    [
        ({"os-release": BOOKWORM, "debian_version": "12.7\n"}, "debderiv"),
        ({"os-release": 'PRETTY_NAME="Debian GNU/Linux trixie/sid"\nID=debian\n'}, "debderiv"),
        ({"debian_version": "bookworm/sid\n"}, "debderiv"),
        ({"debian_version": "10.13\n"}, "debderiv"),
        ({"os-release": 'PRETTY_NAME="Debian GNU/Linux 8 (jessie)"\nID=debian\n', "debian_version": "8.11\n"}, None),
        ({"os-release": UBUNTU}, "debderiv"),
        ({"os-release": MINT}, "debderiv"),
        ({"redhat-release": "CentOS Linux release 7.9.2009 (Core)\n"}, "rhel7"),
        ({"redhat-release": "Red Hat Enterprise Linux Server release 7.9 (Maipo)\n"}, "rhel7"),
        ({"redhat-release": "CentOS release 6.10 (Final)\n"}, None),
        ({"redhat-release": "AlmaLinux release 8.10 (Cerulean Leopard)\n"}, "rhel8"),
        ({"redhat-release": "CentOS Stream release 9\n"}, "rhel8"),
        ({"redhat-release": "Rocky Linux release 9.4 (Blue Onyx)\n", "os-release": ROCKY}, "rhel8"),
        ({"redhat-release": "Red Hat Enterprise Linux release 10.0 (Coughlan)\n"}, "rhel8"),
        ({"fedora-release": f"{'Fedora release 40 (Forty)'}\n", "redhat-release": "Fedora release 40\n"}, "fedora"),
        ({"fedora-release": "Fedora release 23\n", "redhat-release": "Fedora release 23\n"}, None),
        ({"os-release": LEAP}, "suse"),
        ({"os-release": TUMBLEWEED}, "suse"),
        ({"os-release": SLES}, "suse"),
        ({"os-release": 'NAME="SLES"\nVERSION="12-SP5"\nID="sles"\n'}, "suse"),
        ({"alpine-release": "3.20.3\n", "os-release": ALPINE}, "alpine"),
        ({"alpine-release": "3.21.0_alpha20240807\n"}, "alpine"),
        ({"os-release": ARCH, "arch-release": ""}, "arch"),
        ({"os-release": 'NAME="Manjaro Linux"\nID=manjaro\nID_LIKE=arch\n'}, "arch"),
        ({"os-release": "NAME=Void\nID=void\n"}, None),
        ({"os-release": "#Debian GNU/Linux 12\nNAME=x\n"}, None),
        ({"passwd": ""}, None),
    ],
)
def test_family_of_an_image(tmp_path: Path, files: dict[str, str], tag: str | None) -> None:
    family = find_family(_image(tmp_path, files))
    assert (family and family.tag) == tag


def test_links_are_followed_inside_the_image_only(tmp_path: Path) -> None:
    """Most distributions have os-release as a link; one that leads out must not tell the host's distribution."""
    image = tmp_path / "image"
    _image(image, {"x": ""})
    (image / "usr/lib").mkdir(parents=True)
    (image / "usr/lib/os-release").write_text(ARCH)
    (image / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tmp_path / "alpine-release").write_text("3.20.3\n")
    (image / "etc/alpine-release").symlink_to("../../alpine-release")
    (image / "etc/redhat-release").symlink_to(tmp_path / "alpine-release")
    found = find_family(str(image))
    assert found is not None
    assert found.tag == "arch"


@pytest.mark.parametrize("kind", ["directory", "pipe", "loop", "unreadable", "binary"])
def test_strange_files_are_no_sign_and_no_danger(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "etc/os-release"
    path.parent.mkdir()
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to("os-release")
        case "unreadable":
            path.write_text(ARCH)
            path.chmod(0)
        case "binary":
            path.write_bytes(b"\xff\xfe\0" * 100_000)
    found = find_family(str(tmp_path))
    assert found is None or (kind == "unreadable" and os.geteuid() == 0)


@pytest.mark.parametrize(
    ("tag", "command", "needed"),
    [
        ("debderiv", "apt-get update", True),
        ("debderiv", "true&&apt install x", True),
        ("debderiv", "/usr/bin/dpkg -i x.deb", True),
        ("debderiv", "sh -c 'dpkg -i x.deb'", True),
        ("debderiv", "rm -rf /var/lib/apt/lists/* /var/cache/apt", False),
        ("debderiv", "apt-cache policy; apt.conf", False),
        ("debderiv", "yum install x", False),
        ("rhel7", "yum install x", True),
        ("rhel8", "rpm -Uvh x", True),
        ("rhel8", "ls rpmbuild ~/rpm/x", False),
        ("fedora", "(dnf -y update)", True),
        ("suse", "zypper in x", True),
        ("alpine", "apk add x", True),
        ("alpine", "echo apk-tools", False),
        ("arch", "pacman -Syu", True),
    ],
)
def test_keywords_are_words_of_the_command(tag: str, command: str, needed: bool) -> None:
    family = next(family for family in FAMILIES if family.tag == tag)
    assert needs_fakeroot(family, ("/bin/sh", "-c", command), None) is needed


def test_keywords_in_exec_form_and_in_a_program_of_the_dockerfile() -> None:
    family = FAMILIES[0]
    assert needs_fakeroot(family, ("dnf", "install", "x"), None)
    assert needs_fakeroot(family, ("/ch/heredoc",), "#!/bin/bash\ndnf install x\n")
    assert not needs_fakeroot(family, ("/ch/heredoc",), "#!/bin/bash\nmake\n")


def test_tables_are_sound() -> None:
    """Tags are what users see and scripts look for; no two families are called alike."""
    tags = [family.tag for family in FAMILIES]
    assert tags == ["fedora", "rhel7", "rhel8", "debderiv", "suse", "alpine", "arch"]
    for family in FAMILIES:
        assert len(family.title) <= 46
        assert family.steps[-1].check == "command -v fakeroot > /dev/null"
        assert family.wrapper == ("fakeroot",)
