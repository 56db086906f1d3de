"""What is suggested when a RUN fails."""

from pathlib import Path

import pytest

from chimage_core.build.force.hints import Failure, hint
from chimage_core.build.force.tail import Tail

APT = (
    "E: setgroups 65534 failed - setgroups (1: Operation not permitted)\n"
    "E: setegid 65534 failed - setegid (22: Invalid argument)\n"
)
RPM = (
    "Error unpacking rpm package 1:dbus-1.10.24-13.el7_6.x86_64\nerror: unpacking of archive failed on file "
    "/usr/libexec/dbus-1/dbus-daemon-launch-helper;5cffd726: cpio: chown\n"
)


@pytest.fixture
def debian_like(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/debian_version").write_text("12.7\n")
    return str(tmp_path)


def _hint(mode: str, command: str, said: str | None = None, *, root: str = "/nonexistent") -> str | None:
    return hint(Failure(mode, ("/bin/sh", "-c", command), None, root, said))


@pytest.mark.parametrize(
    ("command", "said", "words"),
    [
        ("chown 1:1 /f", None, "“chown” needs privilege for chown(2): try --force=seccomp"),
        ("x && apt-get update", None, "“apt-get” needs privilege for what the package manager does"),
        ("useradd joe", None, "“useradd” needs privilege for a change of accounts"),
        ("./install.sh", None, "if it failed for lack of privilege, try --force=seccomp"),
        ("./install.sh", "chown: changing ownership of 'f': Operation not permitted", "chown(2): try --force=seccomp"),
        ("./install.sh", APT, "a change of user or group: try --force=seccomp"),
        ("./install.sh", RPM, "chown(2): try --force=seccomp"),
        ("./install.sh", "something: Operation not permitted", "a privileged system call: try --force=seccomp"),
        ("mount -t tmpfs none /mnt", None, "root emulation cannot pretend: show it to RUN with --bind"),
    ],
)
def test_without_emulation_it_is_suggested(command: str, said: str | None, words: str) -> None:
    assert words in (_hint("none", command, said) or "")


@pytest.mark.parametrize("mode", ["none", "seccomp", "fakeroot"])
def test_what_was_printed_outweighs_the_text(mode: str) -> None:
    """A package that does not exist is no question of privilege."""
    assert _hint(mode, "apt-get install nonesuch", "E: Unable to locate package nonesuch\n") is None


@pytest.mark.parametrize("command", ["chown 1:1 /f", "apt-get install x", "false"])
def test_what_the_filter_pretends_has_not_failed(command: str) -> None:
    assert _hint("seccomp", command) is None


def test_programs_that_look_whether_they_were_obeyed(debian_like: str) -> None:
    told = _hint("seccomp", "su -c true daemon")
    assert told is not None
    assert "the program noticed: install fakeroot in the image" in told
    told = _hint("seccomp", "apt-get update", APT, root=debian_like)
    assert told is not None
    assert "the program noticed: try --force=fakeroot" in told
    assert "--force-cmd" in told


def test_device_files_are_only_pretended() -> None:
    assert "device files exist only where the image is run" in (_hint("seccomp", "mknod /d c 1 3 && cat /d") or "")


def test_fakeroot_tells_when_it_was_not_used(debian_like: str) -> None:
    told = _hint("fakeroot", "chown 1:1 /f", root=debian_like)
    assert told is not None
    assert "only put before apt, apt-get, aptitude, dpkg" in told
    told = _hint("fakeroot", "dpkg -i x.deb", "chown failed: Operation not permitted", root=debian_like)
    assert told is not None
    assert "shared libraries: try --force=seccomp" in told


def test_the_text_of_a_program_counts() -> None:
    told = hint(Failure("none", ("/ch/heredoc",), "#!/bin/sh\nchgrp 7 /f\n", "/nonexistent", None))
    assert told is not None
    assert "chgrp" in told


def test_the_end_of_the_output_is_kept_and_all_of_it_passed_on() -> None:
    passed = []
    tail = Tail(lambda stream, data: passed.append((stream, data)))
    tail("stdout", b"a" * 10_000)
    tail("stderr", b"caf\xc3\xa9\n")
    assert passed == [("stdout", b"a" * 10_000), ("stderr", b"caf\xc3\xa9\n")]
    assert tail.text.endswith("aaacafé\n")
    assert len(tail.text) < 5000
