"""`--force=fakeroot`: what is decided for each family of distributions, with package managers that only write down what
they are asked for. (A real Debian is in tests/integration.)"""

import os
import re

import pytest

from tests.support.builds import Builds, announced, marks
from tests.support.cli import CliResult
from tests.support.host import has_program

pytestmark = pytest.mark.userns

FAKEROOT = '#!/bin/sh\necho "fakeroot $*" >> /log\nexec "$@"\n'
"""Runs the command, and says so."""

MANAGER = """#!/bin/sh
echo "${0##*/} $*" >> /log
case "$*" in
    *install*epel-release) echo "${0##*/}: no package epel-release" >> /log; exit 1 ;;
    *install*epel-release-latest*) printf '[epel]\\nenabled=1\\n' > /etc/yum.repos.d/epel.repo ;;
    *install*fakeroot* | *add*fakeroot* | *-S*fakeroot*) cp /stub/fakeroot /bin/fakeroot ;;
esac
"""
"""Knows of nothing but what `--force=fakeroot` wants."""

RELEASES = {
    "fedora": {"etc/fedora-release": "Fedora release 40 (Forty)\n"},
    "rhel7": {"etc/redhat-release": "CentOS Linux release 7.9.2009 (Core)\n"},
    "rhel8": {"etc/redhat-release": "Rocky Linux release 9.4 (Blue Onyx)\n"},
    "debderiv": {"etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'},
    "suse": {"etc/os-release": 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'},
    "alpine": {"etc/alpine-release": "3.20.3\n"},
    "arch": {"etc/os-release": "ID=arch\n", "etc/pacman.conf": "[options]\nDownloadUser = alpm\n"},
}
# The shell of busybox prefers an rpm of its own, which does not know the version.
EPEL = "https://dl.fedoraproject.org/pub/epel/epel-release-latest-{}.noarch.rpm"
CALLS = {
    "fedora": ["dnf install -y fakeroot"],
    "rhel7": [
        "yum install -y epel-release",
        "yum: no package epel-release",
        f"yum install -y {EPEL.format(7)}",
        "yum --enablerepo=epel install -y fakeroot",
    ],
    "rhel8": [
        "dnf install -y epel-release",
        "dnf: no package epel-release",
        f"dnf install -y {EPEL.format('')}",
        "dnf --enablerepo=epel install -y fakeroot",
    ],
    "debderiv": [
        "apt-config dump",
        "apt-get update",
        "apt-get install -y --no-install-recommends fakeroot",
    ],
    "suse": [
        "zypper --non-interactive refresh",
        "zypper --non-interactive install fakeroot /usr/bin/getopt",
    ],
    "alpine": ["apk update", "apk add fakeroot"],
    "arch": ["pacman -Sy --noconfirm fakeroot"],
}
"""What the package managers are asked to prepare an image, by tag."""
COMMANDS = {
    "fedora": "dnf install -y ed",
    "rhel7": "yum install -y ed",
    "rhel8": "dnf install -y ed",
    "debderiv": "apt-get install -y ed",
    "suse": "zypper install -y ed",
    "alpine": "apk add ed",
    "arch": "pacman -S ed",
}
MANAGERS = ("apt-config", "apt-get", "dnf", "rpm", "yum", "zypper", "apk", "pacman")


def _distribution(builds: Builds, tag: str, *lines: str) -> str:
    """Write the files of a distribution into the context and return a Dockerfile for the base image of that name."""
    for name, content in RELEASES[tag].items():
        builds.write(f"tree/{name}", content)
    for name in MANAGERS:
        builds.write(f"tree/bin/{name}", MANAGER, mode=0o755)
    builds.write("tree/stub/fakeroot", FAKEROOT, mode=0o755)
    builds.write("tree/etc/yum.repos.d/.keep")
    builds.write("tree/etc/apt/apt.conf.d/.keep")
    # busybox knows no users but these, and apt drops privileges only if there is an _apt.
    builds.write("tree/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/bin/false\n")
    builds.build("FROM base\nCOPY tree /", tag=tag)
    return "\n".join((f"FROM {tag}", *lines))


def _log(builds: Builds) -> list[str]:
    return builds.read("log").splitlines()


def _told(result: CliResult) -> list[str]:
    """Return what was said of root emulation."""
    return [line for line in result.stderr.splitlines() if line.startswith("--force")]


@pytest.mark.parametrize("tag", RELEASES)
def test_an_image_is_prepared_once_and_commands_are_wrapped(builds: Builds, tag: str) -> None:
    command = COMMANDS[tag]
    dockerfile = _distribution(builds, tag, "RUN echo plain", f"RUN {command}", f'RUN ["{command.split()[0]}", "x"]')
    result = builds.build(dockerfile, "--force=fakeroot")
    assert [line.partition(" RUN")[2] for line in announced(result)] == ["", ".F echo plain", *_runs(tag)]
    wrapped = [f"fakeroot /bin/sh -c {command}", command, f"fakeroot {command.split()[0]} x", f"{command.split()[0]} x"]
    assert _log(builds) == [*CALLS[tag], *wrapped]
    told = _told(result)
    assert told[0].startswith(f"--force=fakeroot: will use: {tag}: ")
    assert len([line for line in told if "will use" in line]) == 1
    assert told[-3:] == [
        f"--force=fakeroot: RUN: new command: fakeroot /bin/sh -c '{command}'",
        f"--force=fakeroot: RUN: new command: fakeroot {command.split()[0]} x",
        "--force=fakeroot: modified 2 RUN instructions",
    ]


def _runs(tag: str) -> list[str]:
    command = COMMANDS[tag]
    return [f".F {command}", f'.F ["{command.split()[0]}", "x"]']


def test_all_that_is_done_is_printed(builds: Builds) -> None:
    result = builds.build(_distribution(builds, "alpine", "RUN apk add ed"), "--force=fakeroot")
    assert _told(result) == [
        "--force=fakeroot: will use: alpine: Alpine, any version",
        "--force=fakeroot: init step 1: checking: $ command -v fakeroot > /dev/null",
        "--force=fakeroot: init step 1: $ apk update && apk add fakeroot",
        "--force=fakeroot: RUN: new command: fakeroot /bin/sh -c 'apk add ed'",
        "--force=fakeroot: modified 1 RUN instructions",
    ]


def test_the_same_as_events(builds: Builds) -> None:
    result = builds.build(_distribution(builds, "alpine", "RUN apk add ed"), "--force=fakeroot", "--json")
    events = [event for event in result.json_lines() if event["type"] in ("family_found", "command_modified")]
    assert events == [
        {"type": "family_found", "tag": "alpine", "title": "Alpine, any version"},
        {"type": "command_modified", "force": "fakeroot", "command": ["fakeroot", "/bin/sh", "-c", "apk add ed"]},
    ]


def test_epel_is_configured_but_left_disabled(builds: Builds) -> None:
    builds.build(_distribution(builds, "rhel7", "RUN yum install -y ed"), "--force=fakeroot")
    assert builds.read("etc/yum.repos.d/epel.repo") == "[epel]\nenabled=0\n"


def test_epel_that_is_there_is_left_alone(builds: Builds) -> None:
    dockerfile = _distribution(
        builds, "rhel8", "RUN printf '[epel]\\nenabled=1\\n' > /etc/yum.repos.d/own.repo", "RUN dnf -y install ed"
    )
    told = _told(builds.build(dockerfile, "--force=fakeroot"))
    assert "--force=fakeroot: init step 1: exit 0, step not needed" in told
    assert builds.read("etc/yum.repos.d/own.repo") == "[epel]\nenabled=1\n"
    assert _log(builds)[0] == "dnf --enablerepo=epel install -y fakeroot"


def test_sandboxes_of_package_managers_are_turned_off(builds: Builds) -> None:
    builds.build(_distribution(builds, "debderiv", "RUN apt-get install -y ed"), "--force=fakeroot")
    assert builds.read("etc/apt/apt.conf.d/no-sandbox") == 'APT::Sandbox::User "root";\n'
    builds.build(_distribution(builds, "arch", "RUN pacman -S ed"), "--force=fakeroot")
    assert builds.read("etc/pacman.conf") == "[options]\n#DownloadUser = alpm\n"


def test_steps_that_were_done_are_not_done_again(builds: Builds) -> None:
    """Also by an earlier build, whose RUN is in the cache."""
    dockerfile = _distribution(builds, "alpine", "RUN apk add one")
    builds.build(dockerfile, "--force=fakeroot")
    result = builds.build(f"{dockerfile}\nRUN apk add two\nRUN apk add three", "--force=fakeroot")
    assert marks(result) == "**.."
    assert [line for line in _told(result) if "init step" in line] == [
        "--force=fakeroot: init step 1: checking: $ command -v fakeroot > /dev/null",
        "--force=fakeroot: init step 1: exit 0, step not needed",
    ]
    assert _log(builds).count("apk add fakeroot") == 1
    assert marks(builds.build(f"{dockerfile}\nRUN apk add two\nRUN apk add three", "--force=fakeroot")) == "****"


def test_each_stage_is_an_image_of_its_own(builds: Builds) -> None:
    dockerfile = _distribution(builds, "alpine", "RUN apk add one", "FROM alpine", "RUN apk add two")
    told = _told(builds.build(dockerfile, "--force=fakeroot"))
    assert len([line for line in told if line.endswith("$ apk update && apk add fakeroot")]) == 2
    assert len([line for line in told if "will use" in line]) == 2
    assert told[-1] == "--force=fakeroot: modified 2 RUN instructions"


def test_a_command_without_keyword_is_not_changed(builds: Builds) -> None:
    result = builds.build(_distribution(builds, "alpine", "RUN echo yum > /log"), "--force=fakeroot")
    assert _told(result) == ["--force=fakeroot: will use: alpine: Alpine, any version"]
    assert _log(builds) == ["yum"]


def test_keywords_count_in_programs_of_the_dockerfile(builds: Builds) -> None:
    dockerfile = _distribution(builds, "alpine", "RUN <<EOF", "#!/bin/sh", "apk add ed", "EOF")
    assert _told(builds.build(dockerfile, "--force=fakeroot"))[-1] == "--force=fakeroot: modified 1 RUN instructions"
    assert _log(builds)[-2:] == ["fakeroot /ch/heredoc", "apk add ed"]


def test_an_image_of_no_known_distribution_is_an_error(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN true", "--force=fakeroot", check=False).expect(1)
    assert "error: --force=fakeroot not available (no suitable distribution found in the image)" in result.stderr
    assert "Dockerfile:2: RUN" in result.stderr
    assert re.search(r"^hint: use --force=seccomp; suitable are: Fedora 24\+; RHEL 7", result.stderr, re.MULTILINE)
    failed = builds.build("FROM base\nRUN true", "--force=fakeroot", "--json", check=False).expect(1)
    assert failed.json_lines()[-1]["code"] == "build.force-unavailable"


def test_an_image_without_run_needs_no_distribution(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1", "--force=fakeroot")


def test_a_step_that_fails_ends_the_build_and_leaves_nothing(builds: Builds) -> None:
    builds.write("apk", "#!/bin/sh\nexit 7\n", mode=0o755)
    dockerfile = _distribution(builds, "alpine", "COPY apk /bin/", "RUN apk add ed")
    result = builds.build(dockerfile, "--force=fakeroot", check=False).expect(1)
    assert "error: build failed: --force=fakeroot: init step 1 exited with 7\n" in result.stderr
    assert "Dockerfile:3: RUN.F apk add ed" in result.stderr
    assert "hint: install fakeroot in the base image" in result.stderr
    assert "image+latest" not in builds.names()


def test_a_command_that_fails_takes_the_preparation_with_it(builds: Builds) -> None:
    dockerfile = _distribution(builds, "alpine", "RUN apk add ed && false")
    builds.build(dockerfile, "--force=fakeroot", check=False).expect(1)
    told = _told(builds.build(dockerfile.replace(" && false", ""), "--force=fakeroot"))
    assert "--force=fakeroot: init step 1: $ apk update && apk add fakeroot" in told


def test_what_comes_along_with_fakeroot_may_need_privilege(builds: Builds) -> None:
    """In Fedora it brings util-linux, which has files of another group, and there is no fakeroot yet to help."""
    builds.write(
        "apk", "#!/bin/sh\ncp /stub/fakeroot /bin/fakeroot\ntouch /write\nchown 0:5 /write || exit 4\n", mode=0o755
    )
    dockerfile = _distribution(builds, "alpine", "COPY apk /bin/", "RUN touch /log && apk add x")
    failed = builds.build(dockerfile, "--force=fakeroot", check=False).expect(1)
    # The RUN itself was reached, where the stub of fakeroot pretends nothing.
    assert "RUN command exited with 4" in failed.stderr


def test_preparing_has_the_network_and_no_secrets(builds: Builds) -> None:
    """What is told to one command is for that command only, and without network nothing could be installed."""
    builds.write(
        "apk",
        '#!/bin/sh\necho "$TOKEN $(readlink /proc/self/ns/net)"\ncp /stub/fakeroot /bin/fakeroot\n',
        mode=0o755,
    )
    run = "RUN --network=none --mount=type=secret,id=token,env=TOKEN touch /log; apk add x"
    dockerfile = _distribution(builds, "alpine", "COPY apk /bin/", run)
    secret = builds.write("token", "hush")
    said = builds.build(dockerfile, "--force=fakeroot", f"--secret=id=token,src={secret}").stdout.splitlines()
    host = os.readlink("/proc/self/ns/net")
    assert said[:2] == [f" {host}"] * 2
    assert said[2].startswith("hush ")
    assert not said[2].endswith(host)


def test_the_preparation_is_part_of_the_run_that_needed_it(builds: Builds) -> None:
    """Everything is one state: what hits has the program, and with another mode nothing hits."""
    dockerfile = _distribution(builds, "alpine", "RUN apk add one")
    builds.build(dockerfile, "--force=fakeroot")
    builds.chimage.run("delete", "image")
    assert marks(builds.build(dockerfile, "--force=fakeroot")) == "**"
    assert builds.read("bin/fakeroot") == FAKEROOT
    assert marks(builds.build(dockerfile, tag="other")) == "*."
    assert not (builds.image("other+latest") / "bin/fakeroot").exists()


@pytest.mark.parametrize("runner", ["ch-run", "bwrap"])
def test_the_other_runners_do_the_same(builds: Builds, runner: str) -> None:
    if not has_program(runner):
        pytest.skip(f"{runner} is not installed")
    dockerfile = _distribution(builds, "alpine", "RUN apk add ed")
    builds.build(dockerfile, "--force=fakeroot", f"--runner={runner}")
    assert _log(builds) == [*CALLS["alpine"], "fakeroot /bin/sh -c apk add ed", "apk add ed"]


def test_the_distribution_may_come_with_the_build(builds: Builds) -> None:
    _distribution(builds, "alpine")
    builds.build("FROM base\nCOPY tree /\nRUN apk add ed", "--force=fakeroot")
    assert _log(builds)[-1] == "apk add ed"


# Options


def test_force_cmd_does_not_go_with_fakeroot(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN true", "--force=fakeroot", "--force-cmd=a,b", check=False).expect(2)
    assert "--force-cmd implies --force=seccomp" in result.stderr


def test_older_names_of_options(builds: Builds) -> None:
    assert "  2. RUN.N true" in announced(builds.build("FROM base\nRUN true", "--no-fakeroot"))
    assert "  2. RUN.S true" in announced(builds.build("FROM base\nRUN true", "--force", "--no-force-detect"))


def test_a_mode_that_is_not_there(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN true", "--force=magic", check=False).expect(2)
    assert "hint: use one of: seccomp, fakeroot, none" in result.stderr


# Hints


@pytest.mark.parametrize(
    ("options", "command", "hint"),
    [
        (["--force=none"], "touch /f && chown 12:34 /f", "“chown” needs privilege for chown(2): try --force=seccomp"),
        (["--force=none", "--no-force-detect"], "touch /f && chown 12:34 /f", None),
        (["--force=none"], "false", "if it failed for lack of privilege, try --force=seccomp"),
        ([], "false", None),
        ([], "mount -t tmpfs /nonesuch /mnt; false", "which root emulation cannot pretend: show it to RUN with --bind"),
        (["--force=none"], "chown 12 /; nonesuch", "127 mostly means that a command was not found in the image"),
    ],
)
def test_a_failure_for_lack_of_privilege_is_told(
    builds: Builds, options: list[str], command: str, hint: str | None
) -> None:
    lines = builds.build(f"FROM base\nRUN {command}", *options, check=False).expect(1).stderr.splitlines()
    hints = [line for line in lines if line.startswith("hint: ")]
    assert len(hints) == (hint is not None)
    assert hint is None or hint in hints[0]


def test_what_was_captured_is_looked_at(builds: Builds) -> None:
    """A script hides the command, but not what it prints."""
    builds.write("install.sh", "#!/bin/sh\ntouch /f\nchown 12:34 /f || exit 3\n", mode=0o755)
    dockerfile = "FROM base\nCOPY install.sh /\nRUN /install.sh"
    error = builds.build(dockerfile, "--force=none", "--json", check=False).expect(1).json_lines()[-1]
    assert (
        error["hint"] == "it looks as if privilege was missing for chown(2): try --force=seccomp, which pretends "
        "that it works"
    )
    error = builds.build("FROM base\nRUN chown; exit 3", "--force=none", "--json", check=False).json_lines()[-1]
    assert error["hint"] is None
