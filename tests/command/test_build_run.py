"""`build`: RUN, its environment, its forms, and root emulation."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.builds import Builds, announced, contents, marks
from tests.support.host import has_program, needs_program
from tests.support.image_trees import default_acl

pytestmark = pytest.mark.userns

RUNNERS = (
    "python",
    pytest.param("ch-run", marks=needs_program("ch-run")),
    pytest.param("bwrap", marks=needs_program("bwrap")),
)


# Forms


def test_the_exec_form_needs_no_shell(builds: Builds) -> None:
    shutil.copy("/bin/busybox", builds.context / "busybox")
    builds.build('FROM scratch\nCOPY busybox /busybox\nRUN ["/busybox", "touch", "a b", "$0", "*"]')
    assert {"a b", "$0", "*"} <= set(os.listdir(builds.image()))


def test_the_exec_form_with_blanks_before_its_commas(builds: Builds) -> None:
    """ch-image runs it as a shell command."""
    assert builds.build('FROM base\nRUN [ "echo" , "a;b" ]').stdout == "a;b\n"


def test_continued_lines_are_one_command(builds: Builds) -> None:
    assert builds.build("FROM base\nRUN echo a && \\\n  # a comment\n  echo b \\\n  c").stdout == "a\nb c\n"


def test_a_here_document_is_a_script(builds: Builds) -> None:
    builds.build(
        "FROM base\nRUN <<END\nset -e\nfor i in 1 2; do\n  echo $i\ndone > /out\nEND\n"
        "RUN cat <<A >/a; cat <<'B' >/b\n$PATH\nA\n$PATH\nB"
    )
    assert builds.read("out") == "1\n2\n"
    assert builds.read("a").startswith("/ch/bin:")
    assert builds.read("b") == "$PATH\n"


def test_a_here_document_can_be_a_program_of_its_own(builds: Builds) -> None:
    before = set(os.listdir(builds.image("base+latest") / "ch"))
    builds.build("FROM base\nRUN <<END\n#!/bin/cat\nsecond line\nEND")
    result = builds.build("FROM base\nRUN <<END\n#!/bin/cat\nsecond line\nEND", "--rebuild")
    assert result.stdout == "#!/bin/cat\nsecond line\n"
    assert set(os.listdir(builds.image() / "ch")) == before


# What a command finds


def test_a_command_is_root_in_its_working_directory_with_nothing_to_read(builds: Builds) -> None:
    result = builds.build("FROM base\nWORKDIR /w\nRUN id -u; id -g; pwd; cat")
    assert result.stdout == "0\n0\n/w\n"


def test_a_command_is_process_two_of_its_own_world(builds: Builds) -> None:
    """Nothing that it leaves running survives, and it sees nobody else's processes."""
    result = builds.build("FROM base\nRUN ls /proc | grep -c '^[0-9]'; test $$ -lt 10; sleep 1000 & echo left")
    assert int(result.stdout.split()[0]) < 8
    assert result.stdout.endswith("left\n")


def test_tmp_is_that_of_the_image(builds: Builds, tmp_path: Path) -> None:
    """Else what was copied to /tmp would be invisible, and what is written there would leak to the host."""
    builds.write("f", "f\n")
    marker = f"chimage-test-{os.getpid()}-{tmp_path.name}"
    builds.build(f"FROM base\nCOPY f /tmp/\nRUN cat /tmp/f > /seen && touch /tmp/{marker}")
    assert builds.read("seen") == "f\n"
    assert (builds.image() / "tmp" / marker).exists()
    assert not Path("/tmp", marker).exists()


@pytest.mark.parametrize("runner", RUNNERS)
def test_shared_memory_is_the_command_s_own(builds: Builds, runner: str) -> None:
    """All programs of the host keep data there, and a RUN that cleans up must not get at it."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm to write to")
    mine = Path("/dev/shm", f"chimage-test-{os.getpid()}")
    mine.touch()
    try:
        result = builds.build("FROM base\nRUN ls -A /dev/shm; touch /dev/shm/x; ls /dev/shm", f"--runner={runner}")
    finally:
        mine.unlink()
    assert result.stdout == "x\n"
    assert not Path("/dev/shm/x").exists()


def test_the_files_of_the_network_are_the_host_s_but_not_kept(builds: Builds) -> None:
    builds.build("FROM base\nRUN cat /etc/resolv.conf > /seen")
    assert builds.read("seen") == Path("/etc/resolv.conf").read_text()
    assert builds.read("etc/resolv.conf") == "# resolv.conf of the image\n"


def test_devices_work(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo x > /dev/null && head -c 4 /dev/urandom | wc -c > /n && ls /dev/fd > /dev/zero")
    assert builds.read("n") == "4\n"


def test_the_image_is_writable_and_every_kind_of_change_is_kept(builds: Builds) -> None:
    builds.build(
        "FROM base\nRUN rm /etc/passwd && mv /etc/group /grp && ln -s x /link && mkfifo /fifo && mkdir /d && touch /d/f"
        " && chmod 600 /bin/busybox && rmdir /usr && echo x > /usr && ln /grp /grp2"
    )
    image = builds.image()
    assert not (image / "etc/passwd").exists()
    assert not (image / "etc/group").exists()
    assert builds.read("grp").startswith("root:")
    assert os.readlink(image / "link") == "x"
    assert (image / "fifo").is_fifo()
    assert (image / "d/f").exists()
    assert (image / "bin/busybox").stat().st_mode & 0o777 == 0o600
    assert builds.read("usr") == "x\n"
    assert (image / "grp2").samefile(image / "grp")
    before = contents(image)
    builds.chimage.run("delete", "image")
    builds.build((builds.context / "Dockerfile").read_text())
    assert contents(builds.image()) == before


# Binds


def test_a_bind_shows_a_directory_of_the_host_and_leaves_no_trace(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_text("from the host\n")
    builds.build("FROM base\nRUN cat /mnt/0/f > /seen; echo back > /mnt/0/g", "--bind", f"{tmp_path}/data:/mnt/0")
    assert builds.read("seen") == "from the host\n"
    assert os.listdir(builds.image() / "mnt/0") == []
    assert (tmp_path / "data/g").read_text() == "back\n"


def test_a_bind_without_target_has_the_same_path(builds: Builds, tmp_path: Path) -> None:
    if str(tmp_path).startswith("/dev/"):
        pytest.skip("the temporary directory is below /dev, which is the host's already")
    data = tmp_path / "data"
    data.mkdir()
    (data / "f").write_text("x\n")
    assert builds.build(f"FROM base\nRUN cat {data}/f", "-b", str(data)).stdout == "x\n"


def test_a_bind_of_what_is_not_there_is_a_usage_error(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN true", "--bind", "/no/such/path:/mnt/0", check=False).expect(2)
    assert "/no/such/path" in result.stderr


# Root emulation


def test_privileged_calls_pretend_success(builds: Builds) -> None:
    builds.build("FROM base\nRUN touch /f && chown 12:34 /f && mknod /null c 1 3 && chgrp 7 /f")
    assert (builds.image() / "f").stat().st_uid == os.getuid()


def test_without_emulation_they_fail(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN touch /f && chown 12:34 /f", "--force=none", check=False).expect(1)
    assert "  2. RUN.N touch /f && chown 12:34 /f" in announced(result)
    assert "--force=seccomp" in result.stderr


def test_the_emulation_is_part_of_the_cache_key(builds: Builds) -> None:
    """What was built without emulation may differ from what is built with it."""
    builds.build("FROM base\nRUN true", "--force=none")
    assert marks(builds.build("FROM base\nRUN true")) == "*."


@pytest.mark.parametrize("options", [(), ("--force",), ("--force=seccomp",)])
def test_hooks_change_apt_get_and_are_counted(builds: Builds, options: tuple[str, ...]) -> None:
    builds.write("apt-get", '#!/bin/sh\necho "$@"\n', mode=0o755)
    dockerfile = "FROM base\nCOPY apt-get /bin/\nRUN apt-get update\nRUN echo nothing\nRUN true; apt-get -y install x"
    result = builds.build(dockerfile, *options)
    assert result.stdout == ("-o APT::Sandbox::User=root update\nnothing\n-o APT::Sandbox::User=root -y install x\n")
    assert result.stderr.splitlines()[-2:] == [
        "--force=seccomp: modified 2 RUN instructions",
        "grown in 5 instructions: image",
    ]


def test_no_count_if_nothing_was_modified(builds: Builds) -> None:
    assert "modified" not in builds.build("FROM base\nRUN true").stderr


def test_force_cmd_replaces_the_hooks(builds: Builds) -> None:
    for name in ("foo", "apt-get"):
        builds.write(name, f'#!/bin/sh\necho {name} "$@"\n', mode=0o755)
    dockerfile = "FROM base\nCOPY foo apt-get /bin/\nRUN foo -c; apt-get update"
    result = builds.build(dockerfile, r"--force-cmd=foo,-a,--bar=b\,z")
    assert result.stdout == "foo -a --bar=b,z -c\napt-get update\n"
    assert "--force=seccomp: modified 1 RUN instructions" in result.stderr


def test_force_cmd_does_not_go_with_no_emulation(builds: Builds) -> None:
    builds.build("FROM base\nRUN true", "--force=none", "--force-cmd=a,b", check=False).expect(2)


@pytest.mark.parametrize("value", ["foo", ",b", ""])
def test_a_bad_force_cmd_is_a_usage_error(builds: Builds, value: str) -> None:
    result = builds.build("FROM base\nRUN true", f"--force-cmd={value}", check=False).expect(2)
    assert "CMD,ARG1[,ARG2...]" in result.stderr


# Runners


@pytest.mark.parametrize("runner", RUNNERS)
def test_all_runners_make_the_same_image(builds: Builds, runner: str) -> None:
    dockerfile = (
        "FROM base\nENV A=1\nWORKDIR /w\nRUN echo $A $(id -u) > f; rm /etc/hosts; chown 7:7 f\nRUN mkdir d; touch d/f"
    )
    builds.build(dockerfile, tag="usual")
    builds.build(dockerfile, "--rebuild", f"--runner={runner}")
    assert contents(builds.image()) == contents(builds.image("usual+latest"))


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_failing_command_fails_with_every_runner(builds: Builds, runner: str) -> None:
    result = builds.build("FROM base\nRUN touch /half; exit 23", f"--runner={runner}", check=False).expect(1)
    assert "exited with 23" in result.stderr


def test_a_runner_that_is_not_there_is_an_error_even_if_nothing_runs(builds: Builds) -> None:
    result = builds.build("FROM base\nENV A=1", "--runner=docker", check=False).expect(2)
    assert "docker" in result.stderr
    if not has_program("bwrap"):
        builds.build("FROM base\nRUN true", "--runner=bwrap", check=False).expect(1)


@pytest.mark.parametrize(
    ("instruction", "hint"),
    [
        ("RUN nonesuch", "127 mostly means that a command was not found in the image"),
        ("RUN kill -9 $$", "137 mostly means that signal 9 (SIGKILL) ended a command"),
        ("RUN exit 200", None),
        ('RUN ["/nonesuch"]', None),
        ('SHELL ["/nonesuch", "-c"]\nRUN true', None),
    ],
)
def test_the_hint_of_a_failure_fits(builds: Builds, instruction: str, hint: str | None) -> None:
    lines = builds.build(f"FROM base\n{instruction}", check=False).expect(1).stderr.splitlines()
    assert [line for line in lines if line.startswith("hint: ")] == ([] if hint is None else [f"hint: {hint}"])


def test_a_failure_repeats_only_the_begin_of_a_long_command(builds: Builds) -> None:
    result = builds.build(f"FROM base\nRUN false {'x' * 100_000}", check=False).expect(1)
    assert len(result.stderr) < 102_000


def test_an_empty_program_is_refused(builds: Builds) -> None:
    assert "RUN: the program is empty" in builds.build('FROM base\nRUN [""]', check=False).expect(1).stderr


def test_an_acl_of_the_root_directory_survives(builds: Builds) -> None:
    """It names a user whom nobody knows in the user namespace of RUN."""
    try:
        os.setxattr(builds.image("base+latest"), "system.posix_acl_access", default_acl())
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    builds.chimage.run("import", builds.image("base+latest").rename(builds.context / "root"), "other")
    builds.build("FROM other\nRUN chmod 700 /etc; touch /x")
    assert os.getxattr(builds.image(), "system.posix_acl_access") == default_acl()
