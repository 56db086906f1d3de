"""How `--force=fakeroot` treats each family of distributions: tables, and how to find the one that an image is of.

A family is known by a line of a file, since no one file has the same form everywhere. Each step of initialisation has
a check, which changes nothing and does not use the network, and a command, both for the image's own shell. A check is
permissive: any implementation of fakeroot(1) that is there will do.

Facts of the distributions:
- RHEL and its rebuilds have fakeroot only in EPEL. Rebuilds have the package `epel-release` in their own repositories,
  RHEL itself has not. EPEL stays disabled, because it may hold other versions of what the distribution has.
- A fedora-release is found under the name redhat-release, too.
- apt and pacman drop their privileges to download, and check whether it worked; apt only if there is a user `_apt`.
- fakeroot of SUSE needs getopt(1), but its package does not say so.
- openSUSE has had it since 42.2, Fedora's images are usable since 24, Debian's since 9, Ubuntu's since 14.04.
Sources: ch-image manual, "Root emulation mode fakeroot"; os-release(5); apt.conf(5); pacman.conf(5).
"""

import os
import re
from typing import NamedTuple

from chimage_core.fs.paths import open_in_root


class Sign(NamedTuple):
    """What gives a family away: a file, and a pattern that some line of it matches."""

    path: str
    """Inside the image, without leading slash."""
    pattern: str


class InitStep(NamedTuple):
    """Something to be done once in an image, by shell commands."""

    check: str
    """Succeeds if it has been done."""
    command: str


class Family(NamedTuple):
    """Distributions that are treated alike."""

    tag: str
    title: str
    signs: tuple[Sign, ...]
    """One suffices."""
    steps: tuple[InitStep, ...]
    keywords: tuple[str, ...]
    """Commands that need fakeroot."""
    wrapper: tuple[str, ...] = ("fakeroot",)
    """What is put before a command that holds a keyword."""


_HAS_FAKEROOT = "command -v fakeroot > /dev/null"
_HAS_EPEL = r"grep -Eqs '^\[epel\]' /etc/yum.conf /etc/yum.repos.d/*"
_EPEL_URL = "https://dl.fedoraproject.org/pub/epel/epel-release-latest-{release}.noarch.rpm"
_DISABLE_EPEL = "sed -i 's/^enabled *= *1/enabled=0/' /etc/yum.repos.d/epel*.repo"
_RPM_KEYWORDS = ("dnf", "microdnf", "rpm", "yum")


def _with_epel(installer: str, release: str) -> tuple[InitStep, ...]:
    package = f"{installer} install -y epel-release || {installer} install -y {_EPEL_URL.format(release=release)}"
    return (
        InitStep(_HAS_EPEL, f"{{ {package}; }} && {_DISABLE_EPEL}"),
        InitStep(_HAS_FAKEROOT, f"{installer} --enablerepo=epel install -y fakeroot"),
    )


FAMILIES = (
    Family(
        "fedora",
        "Fedora 24+",
        (Sign("etc/fedora-release", r"^Fedora.* release (2[4-9]|[3-9]\d|\d{3})\b"),),
        (InitStep(_HAS_FAKEROOT, "dnf install -y fakeroot"),),
        _RPM_KEYWORDS,
    ),
    Family(
        "rhel7",
        "RHEL 7 and derivatives",
        (Sign("etc/redhat-release", r"^(?!Fedora).* release 7\b"),),
        _with_epel("yum", "7"),
        _RPM_KEYWORDS,
    ),
    Family(
        "rhel8",
        "RHEL 8+ and derivatives",
        (Sign("etc/redhat-release", r"^(?!Fedora).* release ([89]|[1-9]\d)\b"),),
        # What the macro says comes with the distribution's own release package.
        _with_epel("dnf", "$(rpm -E %rhel)"),
        _RPM_KEYWORDS,
    ),
    Family(
        "debderiv",
        "Debian 9+, Ubuntu 14+, or other derivative",
        (
            Sign("etc/os-release", r"^PRETTY_NAME=\"?Debian GNU/Linux (9|[1-9]\d|\D)"),
            Sign("etc/os-release", r"^ID_LIKE=.*\b(debian|ubuntu)\b"),
            Sign("etc/debian_version", r"^(9|[1-9]\d)\.|/sid$"),
        ),
        (
            InitStep(
                "apt-config dump | grep -q 'APT::Sandbox::User \"root\"' || ! grep -q '^_apt:' /etc/passwd",
                "echo 'APT::Sandbox::User \"root\";' > /etc/apt/apt.conf.d/no-sandbox",
            ),
            # An image comes without lists of packages.
            InitStep(
                _HAS_FAKEROOT,
                "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends fakeroot",
            ),
        ),
        ("apt", "apt-get", "aptitude", "dpkg"),
    ),
    Family(
        "suse",
        "(Open)SUSE 42.2+",
        (Sign("etc/os-release", r"^ID_LIKE=.*\bsuse\b|^ID=\"?(sles|sled|opensuse)"),),
        (
            InitStep(
                _HAS_FAKEROOT,
                "zypper --non-interactive refresh && zypper --non-interactive install fakeroot /usr/bin/getopt",
            ),
        ),
        ("zypper", "rpm"),
    ),
    Family(
        "alpine",
        "Alpine, any version",
        (Sign("etc/alpine-release", r"^\d+\.\d+"), Sign("etc/os-release", r"^ID(_LIKE)?=\"?alpine\b")),
        (InitStep(_HAS_FAKEROOT, "apk update && apk add fakeroot"),),
        ("apk",),
    ),
    Family(
        "arch",
        "Arch Linux and derivatives",
        (Sign("etc/os-release", r"^ID(_LIKE)?=\"?arch\b"),),
        (
            InitStep("! grep -qs '^DownloadUser' /etc/pacman.conf", "sed -i 's/^DownloadUser/#&/' /etc/pacman.conf"),
            InitStep(_HAS_FAKEROOT, "pacman -Sy --noconfirm fakeroot"),
        ),
        ("pacman",),
    ),
)
"""The first whose sign is there is taken."""

_LARGEST = 1 << 16
"""Bytes of a file that are looked at: such files have some hundred."""


def find_family(root: str) -> Family | None:
    """Return what the image at `root` is of, or None. Nothing outside `root` is looked at."""
    contents: dict[str, str] = {}
    for family in FAMILIES:
        for path, pattern in family.signs:
            if path not in contents:
                contents[path] = _content(root, path)
            if re.search(pattern, contents[path], re.MULTILINE):
                return family
    return None


def _content(root: str, path: str) -> str:
    """Return the begin of a regular file of the image; nothing if there is none that can be read."""
    try:
        # A pipe in the place of the file must not stop us.
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _LARGEST).decode("utf-8", "replace")
    except OSError:  # A directory.
        return ""
    finally:
        os.close(descriptor)
