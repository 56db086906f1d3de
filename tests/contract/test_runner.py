"""What every runner promises. One suite for all; programs that are not installed are skipped."""

import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, RunnerError
from chimage_core.fs.remove import remove_tree
from chimage_core.runner.chrun import BwrapRunner, ChRunRunner
from chimage_core.runner.mount_kinds import Draft, MemoryFile, Mount, Tmpfs
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import (
    Bind,
    Emulation,
    Overlay,
    Runner,
    RunRequest,
    RunResult,
)
from tests.support.busybox import make_busybox_rootfs, missing_busybox

pytestmark = [
    pytest.mark.userns,
    pytest.mark.skipif(missing_busybox() is not None, reason=missing_busybox() or ""),
]

KINDS = ("python", "python without PID namespace", "ch-run", "bwrap")
ADDED_BY_PROGRAM = {"ch-run": {"CH_RUNNING"}, "bwrap": {"PWD"}}


def make_runner(kind: str) -> Runner:
    if kind.startswith("python"):
        return NamespaceRunner(pid_namespace=kind == "python")
    program = shutil.which(kind)
    if program is None:
        pytest.skip(f"{kind} is not installed")
    return ChRunRunner(program) if kind == "ch-run" else BwrapRunner(program)


@pytest.fixture(scope="module", params=KINDS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    ours = NamespaceRunner()
    try:
        abilities = ours.probe(str(tmp_path_factory.mktemp("probe")))
    finally:
        ours.close()
    if not abilities.namespaces:
        pytest.skip(f"no user namespaces here: {abilities.problem}")
    runner = make_runner(request.param)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_busybox_rootfs(str(tmp_path_factory.mktemp("image") / "busybox")))


@pytest.fixture
def rootfs(image: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    shutil.copytree(image, tmp_path / "rootfs", symlinks=True)
    return tmp_path / "rootfs"


class Run:
    """Runs commands and keeps what they say."""

    def __init__(self, runner: Runner, rootfs: Path) -> None:
        self.runner = runner
        self.rootfs = rootfs
        self.said: dict[str, bytes] = {}
        self.result = RunResult(-1)

    def __call__(
        self,
        *argv: str,
        env: dict[str, str] | None = None,
        workdir: str = "/",
        mounts: tuple[Mount, ...] = (),
        emulation: Emulation = Emulation.SECCOMP,
        overlay: Overlay | None = None,
        cancel: CancelToken | None = None,
        on_output: Callable[[], None] = lambda: None,
        secret_env: dict[str, str] | None = None,
        is_offline: bool = False,
    ) -> str:
        """Return what the command writes to stdout; everything else is in `result` and `said`."""
        self.said = {"stdout": b"", "stderr": b""}

        def keep(stream: str, data: bytes) -> None:
            self.said[stream] += data
            on_output()

        request = RunRequest(
            rootfs=str(self.rootfs),
            argv=argv,
            env={"PATH": "/bin"} if env is None else env,
            workdir=workdir,
            mounts=mounts,
            emulation=emulation,
            overlay=overlay,
            output=keep,
            secret_env=secret_env or {},
            is_offline=is_offline,
        )
        self.result = self.runner.run(request, cancel or CancelToken())
        return self.said["stdout"].decode("utf-8", "surrogateescape")

    def sh(self, script: str, **more: object) -> str:
        """Run a shell command that has to succeed."""
        said = self("sh", "-ec", script, **more)  # type: ignore[arg-type]
        assert (self.result.status, self.said["stderr"]) == (0, b"")
        return said


@pytest.fixture
def run(runner: Runner, rootfs: Path) -> Run:
    return Run(runner, rootfs)


def processes_with(marker: str) -> list[str]:
    """The command lines of the processes that have `marker` in theirs."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


def listing(root: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, size and modification time of everything in a tree."""
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        # The size of a directory is the file system's business.
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        found[str(path.relative_to(root))] = (status.st_mode, size, status.st_mtime_ns)
    return found


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_exit_status_is_the_commands(run: Run, status: int) -> None:
    run("sh", "-c", f"exit {status}")
    assert run.result == RunResult(status)
    assert run.result.signal is None


def test_a_command_ended_by_a_signal_has_128_plus_its_number(run: Run) -> None:
    run("sh", "-c", "kill -USR1 $$")
    assert run.result.status == 128 + signal.SIGUSR1
    assert run.result.signal == signal.SIGUSR1


def test_the_environment_is_exactly_the_requested_one(run: Run) -> None:
    """What leaks in from the host would make builds differ from one machine to the next."""
    wanted = {
        "PATH": "/bin",
        "EMPTY": "",
        "SPACES AND": " $HOME 'x' \"y\" `z` \\ ",
        "LINES": "one\ntwo\n",
        "QUOTED": "'single'",
        "BYTES": os.fsdecode(b"\xff\xfe"),
    }
    said = run("cat", "/proc/self/environ", env=wanted)
    got = dict(entry.split("=", 1) for entry in said.split("\0")[:-1])
    for added in ADDED_BY_PROGRAM.get(run.runner.name, ()):
        got.pop(added, None)
    assert got == wanted


def test_a_huge_environment_arrives(run: Run) -> None:
    """More than a socket's buffer, as module systems and CI produce."""
    wanted = {"PATH": "/bin"} | {f"HUGE_{number}": "x" * 10_000 for number in range(80)}
    assert run("sh", "-c", "env | wc -c", env=wanted).strip() > "800000"
    assert run.result.status == 0


def test_arguments_arrive_byte_for_byte(run: Run) -> None:
    words = ("", " ", "a b", "$X", "'", '"', "\\", "\n", "-", "--", os.fsdecode(b"\xff"), "ü")
    said = run("cat", "/proc/self/cmdline", *words)
    assert run.said["stderr"]
    said = run("sh", "-c", 'for word do echo "<$word>"; done', "sh", *words)
    assert said == "".join(f"<{word}>\n" for word in words)


def test_the_command_starts_in_the_working_directory(run: Run) -> None:
    (run.rootfs / "a b").mkdir()
    assert run("pwd", workdir="/a b") == "/a b\n"


def test_a_working_directory_that_is_a_link_stays_inside_the_image(run: Run) -> None:
    (run.rootfs / "root/inside").touch()
    (run.rootfs / "link").symlink_to("/root")
    assert run("ls", workdir="/link") == "inside\n"


def test_a_missing_working_directory_is_an_error_that_names_it(run: Run) -> None:
    with pytest.raises(RunnerError, match="/not/there"):
        run("true", workdir="/not/there")


def test_the_command_is_searched_in_the_images_path(run: Run) -> None:
    (run.rootfs / "opt").mkdir()
    (run.rootfs / "opt/hello").write_text("#!/bin/sh\necho hello $*\n")
    (run.rootfs / "opt/hello").chmod(0o755)
    assert run("hello", "you", env={"PATH": "/nowhere:/opt:/bin"}) == "hello you\n"
    assert run("/opt/hello") == "hello\n"
    assert run("./hello", workdir="/opt") == "hello\n"


def test_a_command_can_come_from_a_bind(run: Run, tmp_path: Path) -> None:
    tool = tmp_path / "vendor/bin/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho tool\n")
    tool.chmod(0o755)
    bind = Bind(str(tmp_path / "vendor"), "/opt/vendor")
    assert run("tool", env={"PATH": "/opt/vendor/bin"}, mounts=(bind,)) == "tool\n"


@pytest.mark.parametrize("word", ["no-such-command", "/bin/no-such-command", "./no-such-command"])
def test_a_missing_command_has_status_127_and_a_reason(run: Run, word: str) -> None:
    run(word)
    assert run.result.status == 127
    assert word in (run.result.problem or "")


@pytest.mark.parametrize("word", ["/etc/passwd", "/etc", "plain"])
def test_what_cannot_be_executed_has_status_126_and_a_reason(run: Run, word: str) -> None:
    (run.rootfs / "opt").mkdir()
    (run.rootfs / "opt/plain").write_text("no mode bits")
    run(word, env={"PATH": "/bin:/opt"})
    assert run.result.status == 126
    assert "Permission denied" in (run.result.problem or "")


def test_tmp_is_the_images_own(run: Run) -> None:
    """COPY to /tmp must be visible to RUN, and RUN must not litter the host's."""
    (run.rootfs / "tmp/copied").write_text("here\n")
    assert run.sh("cat /tmp/copied; touch /tmp/made; ls /tmp") == "here\ncopied\nmade\n"
    assert (run.rootfs / "tmp/made").exists()


def test_stdin_is_empty(run: Run) -> None:
    assert run("cat") == ""
    assert run.result.status == 0


def test_output_streams_are_separate_and_whole(run: Run) -> None:
    run("sh", "-c", "seq 30000; seq 20000 >&2")
    assert run.said["stdout"].split() == [b"%d" % number for number in range(1, 30001)]
    assert run.said["stderr"].split() == [b"%d" % number for number in range(1, 20001)]


def test_output_arrives_while_the_command_runs(run: Run) -> None:
    """The command waits for what is made only when its output has come."""
    script = "echo waiting; until [ -e /tmp/go ]; do sleep 0.01; done; echo done"
    said = run("sh", "-c", script, on_output=(run.rootfs / "tmp/go").touch)
    assert said == "waiting\ndone\n"


def test_without_a_receiver_output_is_inherited(
    runner: Runner, rootfs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = RunRequest(rootfs=str(rootfs), argv=("sh", "-c", "echo out; echo err >&2"), env={"PATH": "/bin"})
    assert runner.run(request, CancelToken()).status == 0
    assert capfd.readouterr() == ("out\n", "err\n")


def test_no_descriptor_of_ours_reaches_the_command(run: Run) -> None:
    """An open directory of the host would be a way out of the image."""
    names = run("sh", "-c", "cd /proc/self/fd; for fd in *; do [ -e $fd ] && echo $fd; done")
    # The shell holds a copy of a descriptor of its own above 9, if anything.
    assert [name for name in names.split() if int(name) < 10] == ["0", "1", "2"]


def test_the_umask_is_022_whatever_ours_is(run: Run) -> None:
    before = os.umask(0o077)
    try:
        run.sh("touch /tmp/file; mkdir /tmp/dir")
    finally:
        os.umask(before)
    assert stat.S_IMODE((run.rootfs / "tmp/file").stat().st_mode) == 0o644
    assert stat.S_IMODE((run.rootfs / "tmp/dir").stat().st_mode) == 0o755


def test_the_command_appears_to_be_root(run: Run) -> None:
    assert run.sh("id -u; id -g; stat -c %u /bin/busybox").split() == ["0", "0", "0"]


def test_root_may_read_what_permissions_forbid(run: Run) -> None:
    assert run.sh("echo secret >/tmp/x; chmod 0 /tmp/x; cat /tmp/x") == "secret\n"


def test_chown_pretends_success(run: Run) -> None:
    run.sh("touch /tmp/x; chown 12:34 /tmp/x; chgrp 56 /tmp/x; chown -h 12 /tmp/x; chown -R nobody:nogroup /tmp")


def test_chown_fails_without_emulation(run: Run) -> None:
    run("sh", "-c", "touch /tmp/x; chown 12:34 /tmp/x", emulation=Emulation.NONE)
    assert run.result.status == 1
    assert b"chown" in run.said["stderr"]


def test_changing_user_and_group_pretends_success(run: Run) -> None:
    assert run.sh("su nobody -s /bin/sh -c 'echo went on'") == "went on\n"


def test_changing_user_fails_without_emulation(run: Run) -> None:
    run("su", "nobody", "-s", "/bin/sh", "-c", "echo went on", emulation=Emulation.NONE)
    assert (run.result.status, run.said["stdout"]) == (1, b"")


def test_devices_are_only_pretended_but_a_fifo_is_made(run: Run) -> None:
    """FIFOs need no privilege; a build that makes one wants it."""
    run.sh("mknod /tmp/null c 1 3; mknod /tmp/disk b 8 0; mknod /tmp/fifo p; mkfifo /tmp/fifo2")
    assert sorted(os.listdir(run.rootfs / "tmp")) == ["fifo", "fifo2"]
    assert stat.S_ISFIFO((run.rootfs / "tmp/fifo").stat().st_mode)


def test_devices_fail_without_emulation(run: Run) -> None:
    run("mknod", "/tmp/null", "c", "1", "3", emulation=Emulation.NONE)
    assert run.result.status == 1


def test_device_files_and_proc_and_sys_work(run: Run) -> None:
    run.sh("echo x >/dev/null; test -d /proc/self; test -d /sys/kernel; head -c 1 /dev/zero >/tmp/zero")


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm to write to")
def test_the_hosts_shared_memory_is_out_of_reach(run: Run) -> None:
    """It is below /dev, which containers share: `RUN rm -rf /*` took the user's files there, storage and all."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mine:
        Path(mine, "data").write_text("mine")
        assert run.sh("ls -A /dev/shm") == ""
        run.sh(f"echo mine > /dev/shm/own && cat /dev/shm/own > /tmp/own && rm -r /dev/shm/* && test ! -e {mine}")
        assert Path(mine, "data").read_text() == "mine"
    assert (run.rootfs / "tmp/own").read_text() == "mine\n"
    assert not Path("/dev/shm/own").exists()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm to write to")
def test_shared_memory_of_the_host_can_be_bound(run: Run) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mine:
        Path(mine, "data").write_text("mine")
        assert run.sh("cat /dev/shm/data", mounts=(Bind(mine, "/dev/shm"),)) == "mine"


def test_a_directory_can_be_bound(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source, with ' odd \\ name"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("of the host\n")
    (run.rootfs / "mnt").mkdir()
    assert run.sh("cat /mnt/file; echo new >/mnt/sub/new", mounts=(Bind(str(source), "/mnt"),)) == "of the host\n"
    assert (source / "sub/new").read_text() == "new\n"
    assert list((run.rootfs / "mnt").iterdir()) == []


def test_a_colon_in_a_bind_works_or_is_refused(run: Run, tmp_path: Path) -> None:
    """ch-run has no way to write one; it must not take half of the name for the target."""
    (tmp_path / "with:colon").mkdir()
    bind = Bind(str(tmp_path / "with:colon"), "/mnt")
    if run.runner.name == "ch-run":
        with pytest.raises(RunnerError, match="with:colon"):
            run("touch", "/mnt/made", mounts=(bind,))
    else:
        run.sh("touch /mnt/made", mounts=(bind,))
        assert (tmp_path / "with:colon/made").exists()


def test_a_file_can_be_bound(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    (run.rootfs / "etc/file").write_text("of the image\n")
    said = run.sh("cat /etc/file", mounts=(Bind(str(tmp_path / "file"), "/etc/file"),))
    assert said == "of the host\n"
    assert (run.rootfs / "etc/file").read_text() == "of the image\n"


def test_a_missing_bind_target_is_made_and_removed(run: Run, tmp_path: Path) -> None:
    """Mount points made for us are no part of the image that is then committed."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("of the host\n")
    before = listing(run.rootfs)
    binds = (
        Bind(str(tmp_path / "source"), "/opt/deep/dir"),
        Bind(str(tmp_path / "source/file"), "/opt/deep/file"),
    )
    assert run.sh("cat /opt/deep/dir/file /opt/deep/file", mounts=binds) == "of the host\n" * 2
    assert listing(run.rootfs) == before


def test_a_made_directory_stays_if_the_command_puts_something_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    run.sh("touch /opt/kept", mounts=(Bind(str(tmp_path / "source"), "/opt/bound"),))
    assert os.listdir(run.rootfs / "opt") == ["kept"]


def test_a_missing_bind_source_is_an_error_that_names_it(run: Run) -> None:
    with pytest.raises(RunnerError, match="/not/on/the/host"):
        run("true", mounts=(Bind("/not/on/the/host", "/mnt"),))


@pytest.mark.parametrize("link", ["absolute", "climbing", "dangling"])
def test_a_link_in_the_image_cannot_lead_a_bind_outside(run: Run, tmp_path: Path, link: str) -> None:
    """Else an image could choose what of the host is covered, or where directories are made."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("bound\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    targets = {"absolute": outside, "climbing": "../" * 20 + str(outside)[1:], "dangling": tmp_path / "not-there"}
    target = str(targets[link])
    (run.rootfs / "link").symlink_to(target)
    run.sh("cat /link/file", mounts=(Bind(str(tmp_path / "source"), "/link"),))
    assert run.said["stdout"] == b"bound\n"
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "not-there").exists()


def refuses(run: Run, match: str, **request: object) -> bool:
    """Return whether this runner has no means for something; then it has to say so and run nothing."""
    if run.runner.name != "ch-run":
        return False
    with pytest.raises(RunnerError, match=match):
        run("touch", "/tmp/made", **request)  # type: ignore[arg-type]
    assert not (run.rootfs / "tmp/made").exists()
    return True


def test_a_read_only_bind_cannot_be_written_to(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source/sub").mkdir(parents=True)
    (tmp_path / "source/file").write_text("of the host\n")
    before = listing(tmp_path / "source"), listing(run.rootfs)
    mounts = (
        Bind(str(tmp_path / "source"), "/opt/dir", is_read_only=True),
        Bind(str(tmp_path / "source/file"), "/opt/file", is_read_only=True),
    )
    if refuses(run, "read-only", mounts=mounts):
        return
    script = """
        cat /opt/dir/file
        for f in dir/new dir/sub/new dir/file file; do (echo x >/opt/$f) 2>/dev/null && echo $f; done
        rm /opt/dir/file; chmod 777 /opt/dir; rmdir /opt/dir/sub
    """
    assert run("sh", "-c", script, mounts=mounts) == "of the host\n"
    assert run.said["stderr"].count(b"Read-only file system") == 3
    assert run.result.status != 0
    assert (listing(tmp_path / "source"), listing(run.rootfs)) == before


def test_memory_can_be_mounted_and_leaves_nothing(run: Run) -> None:
    before = listing(run.rootfs)
    mounts = (Tmpfs("/opt/scratch", size=1 << 20, mode=0o750), Tmpfs("/etc", is_read_only=True))
    if refuses(run, "memory", mounts=mounts):
        return
    script = """
        stat -c %a /opt/scratch; ls /etc; stat -f -c %T /opt/scratch
        echo x >/opt/scratch/x; cat /opt/scratch/x
        (echo >/etc/x) 2>/dev/null || echo read-only
        head -c 2000000 /dev/zero >/opt/scratch/big 2>/dev/null || echo full
    """
    assert run.sh(script, mounts=mounts) == "750\ntmpfs\nx\nread-only\nfull\n"
    assert listing(run.rootfs) == before


def test_a_file_in_memory_is_read_only_and_leaves_nothing(run: Run) -> None:
    before = listing(run.rootfs)
    content = bytes(range(256)) * 1000
    mounts = (MemoryFile("/run/secrets/one", content), MemoryFile("/opt/two", b"2", mode=0o444))
    if refuses(run, "memory", mounts=mounts):
        return
    script = """
        stat -c %a /run/secrets/one /opt/two; wc -c </run/secrets/one; cat /opt/two; echo
        (echo x >/opt/two) 2>/dev/null || echo read-only
        ls /run/secrets; cat /run/secrets/one
    """
    run.sh(script, mounts=mounts)
    assert run.said["stdout"] == b"400\n444\n256000\n2\nread-only\none\n" + content
    assert listing(run.rootfs) == before
    assert "255" not in repr(mounts)


def test_a_missing_target_within_memory_is_made_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    before = listing(run.rootfs)
    mounts = (
        Tmpfs("/opt/scratch"),
        Bind(str(tmp_path), "/opt/scratch/a/b"),
        MemoryFile("/opt/scratch/a/secret", b"secret\n"),
    )
    if refuses(run, "memory", mounts=mounts):
        return
    assert run.sh("cat /opt/scratch/a/b/file /opt/scratch/a/secret", mounts=mounts) == "of the host\nsecret\n"
    assert listing(run.rootfs) == before


@pytest.mark.parametrize("link", ["absolute", "climbing", "dangling"])
def test_a_link_in_the_image_cannot_lead_memory_outside(run: Run, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    targets = {"absolute": outside, "climbing": "../" * 20 + str(outside)[1:], "dangling": tmp_path / "not-there"}
    (run.rootfs / "run").symlink_to(str(targets[link]))
    before = listing(run.rootfs)
    mounts = (MemoryFile("/run/secrets/one", b"secret"), Tmpfs("/run/scratch"))
    if refuses(run, "memory", mounts=mounts):
        return
    assert run.sh("cat /run/secrets/one; touch /run/scratch/x", mounts=mounts) == "secret"
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "not-there").exists()
    assert listing(run.rootfs) == before


def test_secret_variables_arrive_and_are_shown_to_nobody(run: Run) -> None:
    value = f"tell-nobody-{os.getpid()}-{time.monotonic_ns()}"
    if refuses(run, "secret", secret_env={"TOKEN": value}):
        return
    seen: list[str] = []
    script = 'echo started; sleep 0.3; test -n "$TOKEN" && echo ${#TOKEN}'
    said = run("sh", "-c", script, secret_env={"TOKEN": value}, on_output=lambda: seen.extend(processes_with(value)))
    assert said == f"started\n{len(value)}\n"
    assert seen == []


def test_without_network_there_is_only_the_loopback(run: Run) -> None:
    if refuses(run, "network", is_offline=True):
        return
    script = """
        sed '1,2d; s/:.*//' /proc/net/dev; sed 1d /proc/net/route
        ping -c 1 127.0.0.1 | grep -o '[01] packets received'
    """
    assert run.sh(script, is_offline=True).split() == ["lo", "1", "packets", "received"]


def test_names_resolve_as_on_the_host(run: Run) -> None:
    """The network is the host's, so must be the names."""
    assert run("cat", "/etc/hosts") == Path("/etc/hosts").read_text()
    assert (run.rootfs / "etc/hosts").read_text() != Path("/etc/hosts").read_text()


def test_an_image_without_mount_points_runs_and_stays_without(run: Run) -> None:
    for name in ("proc", "dev", "sys", "var/tmp"):
        (run.rootfs / name).rmdir()
    for name in ("etc/hosts", "etc/resolv.conf"):
        (run.rootfs / name).unlink()
    before = listing(run.rootfs)
    run.sh("test -e /proc/self && cat /etc/hosts >/dev/null")
    assert listing(run.rootfs) == before


def test_running_changes_nothing_but_what_the_command_does(run: Run) -> None:
    before = listing(run.rootfs)
    run.sh("true")
    assert listing(run.rootfs) == before


def test_odd_characters_in_the_images_path_do_no_harm(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a,b=c d\\e'f\xff")
    run.rootfs = run.rootfs.rename(odd)
    assert run.sh("ls -d /bin") == "/bin\n"


def test_cancel_before_the_start_runs_nothing(run: Run) -> None:
    cancel = CancelToken()
    cancel.cancel(signal.SIGTERM)
    with pytest.raises(Cancelled) as raised:
        run("touch", "/tmp/made", cancel=cancel)
    assert raised.value.exit_code == 128 + signal.SIGTERM
    assert not (run.rootfs / "tmp/made").exists()


def test_cancel_asks_the_command_first(run: Run) -> None:
    cancel = CancelToken()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        run(
            "sh",
            "-c",
            "trap 'echo cleaned; exit 0' TERM; echo started; while :; do sleep 0.05; done",
            cancel=cancel,
            on_output=cancel.cancel,
        )
    assert run.said["stdout"] == b"started\ncleaned\n"
    assert time.monotonic() - start < 1.9


def test_cancel_kills_what_ignores_it_after_the_grace(run: Run) -> None:
    cancel = CancelToken()
    marker = f"60.{os.getpid()}{time.monotonic_ns()}"
    script = f"""
        trap '' TERM
        setsid sleep {marker} &
        setsid sh -c 'sleep {marker}; true' &
        sleep 0.1
        echo started
        sleep {marker}; sleep {marker}
    """
    start = time.monotonic()
    with pytest.raises(Cancelled):
        run("sh", "-c", script, cancel=cancel, on_output=cancel.cancel)
    assert processes_with(marker) == []
    assert 1.9 < time.monotonic() - start < 6


def test_what_a_finished_command_left_in_the_background_is_killed(run: Run) -> None:
    """It would go on writing into the image while that is committed."""
    marker = f"60.{os.getpid()}{time.monotonic_ns()}"
    run(
        "sh", "-c", f"setsid sh -c 'trap \"\" TERM HUP; sleep {marker}; true' >/dev/null 2>&1 & sleep {marker} & exit 7"
    )
    assert run.result.status == 7
    assert processes_with(marker) == []


def test_a_receiver_that_fails_ends_the_command(run: Run) -> None:
    marker = f"60.{os.getpid()}{time.monotonic_ns()}"

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("sh", "-c", f"echo started; sleep {marker}; true", on_output=fail)
    assert processes_with(marker) == []


def test_commands_run_at_the_same_time(runner: Runner, image: Path, tmp_path: Path) -> None:
    """Each waits for the others, so this ends only if they really overlap."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    results: list[int] = []

    def one(number: int, rootfs: Path) -> None:
        run = Run(runner, rootfs)
        script = f"touch /mnt/{number}; until [ $(ls /mnt | wc -l) = 4 ]; do sleep 0.01; done; exit {number}"
        (rootfs / "mnt").mkdir()
        run("sh", "-c", script, mounts=(Bind(str(meeting), "/mnt"),))
        results.append(run.result.status)

    copies = [tmp_path / f"copy{number}" for number in range(4)]
    for copy in copies:
        shutil.copytree(image, copy, symlinks=True)
    threads = [threading.Thread(target=one, args=(number, copy)) for number, copy in enumerate(copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [0, 1, 2, 3]


def test_close_can_be_called_twice_and_before_any_run(tmp_path: Path) -> None:
    for kind in ("python", "ch-run", "bwrap"):
        if kind == "python" or shutil.which(kind):
            runner = make_runner(kind)
            runner.close()
            runner.close()


class TestOverlay:
    """Only runners that say they can."""

    @pytest.fixture
    def overlay(self, runner: Runner, tmp_path: Path) -> Iterator[Overlay]:
        if not runner.can_overlay(str(tmp_path)):
            pytest.skip(f"{runner.name} cannot use overlays here")
        overlay = Overlay(str(tmp_path / "upper, : \\"), str(tmp_path / "work"))
        Path(overlay.upper).mkdir(0o700)
        Path(overlay.work).mkdir()
        yield overlay
        # It holds a directory without permissions, which would stay behind.
        remove_tree(overlay.work)

    def test_changes_go_to_the_upper_directory_only(self, run: Run, overlay: Overlay) -> None:
        (run.rootfs / "opt/old").mkdir(parents=True)
        (run.rootfs / "opt/old/file").touch()
        (run.rootfs / "opt/gone").touch()
        before = listing(run.rootfs)
        run.sh(
            "rm /opt/gone; rm -r /opt/old; mkdir /opt/old; echo new >/opt/old/new; chmod 600 /etc/passwd",
            overlay=overlay,
        )
        assert listing(run.rootfs) == before
        upper = Path(overlay.upper)
        assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == [
            "etc",
            "etc/passwd",
            "opt",
            "opt/gone",
            "opt/old",
            "opt/old/new",
        ]
        gone = (upper / "opt/gone").lstat()
        assert stat.S_ISCHR(gone.st_mode)
        assert gone.st_rdev == 0
        assert os.getxattr(upper / "opt/old", "user.overlay.opaque") == b"y"

    def test_a_second_command_sees_what_the_first_one_changed(self, run: Run, overlay: Overlay) -> None:
        """What prepares an image for root emulation, and the command itself, make one change."""
        before = listing(run.rootfs)
        run.sh("echo one > /root/first; rm /etc/passwd", overlay=overlay)
        assert run.sh("cat /root/first; test ! -e /etc/passwd; echo two > /second", overlay=overlay) == "one\n"
        assert listing(run.rootfs) == before
        assert sorted(os.listdir(overlay.upper)) == ["etc", "root", "second"]

    def test_the_root_directory_looks_as_in_the_image(self, run: Run, overlay: Overlay) -> None:
        """An overlay shows the upper directory's mode and time, and the command may look at, or change, them."""
        os.utime(run.rootfs, (1_000_000_000, 1_000_000_000))
        run.rootfs.chmod(0o751)
        assert run.sh("stat -c '%a %Y' /", overlay=overlay) == "751 1000000000\n"
        assert listing(Path(overlay.upper)) == {".": listing(run.rootfs)["."]}

    def test_mount_points_appear_neither_in_the_image_nor_in_the_changes(
        self, run: Run, overlay: Overlay, tmp_path: Path
    ) -> None:
        (tmp_path / "source").mkdir()
        (run.rootfs / "opt").mkdir()
        (run.rootfs / "opt/visible").touch()
        (run.rootfs / "proc").rmdir()
        (run.rootfs / "etc/hosts").unlink()
        os.utime(run.rootfs / "opt", (1_000_000_000, 1_000_000_000))
        before = listing(run.rootfs)
        bind = Bind(str(tmp_path / "source"), "/opt/a/b")
        said = run.sh("ls /opt; stat -c %Y /opt; touch /opt/a/b/host", overlay=overlay, mounts=(bind,))
        assert said == "a\nvisible\n1000000000\n"
        assert (tmp_path / "source/host").exists()
        assert listing(run.rootfs) == before
        assert list(Path(overlay.upper).rglob("*")) == []

    def test_changes_of_a_draft_go_elsewhere(self, run: Run, overlay: Overlay, tmp_path: Path) -> None:
        source, more = tmp_path / "source, : \\", Overlay(str(tmp_path / "draft"), str(tmp_path / "draft.work"))
        (source / "sub").mkdir(parents=True)
        (source / "sub/file").write_text("old\n")
        source.chmod(0o751)
        for path in more:
            Path(path).mkdir()
        before = listing(source), listing(run.rootfs)
        script = "stat -c %a /opt/x; echo new >>/opt/x/sub/file; cat /opt/x/sub/file; cat /opt/x/in; rm /opt/x/sub/file"
        mounts = (Draft(str(source), "/opt/x", more), MemoryFile("/opt/x/in", b"side\n"))
        assert run.sh(script, overlay=overlay, mounts=mounts) == "751\nold\nnew\nside\n"
        assert (listing(source), listing(run.rootfs)) == before
        assert list(Path(overlay.upper).rglob("*")) == []
        remove_tree(more.work)

    def test_whiteouts_hide_what_is_in_a_draft(self, run: Run, overlay: Overlay, tmp_path: Path) -> None:
        source, more = tmp_path / "source", Overlay(str(tmp_path / "draft"), str(tmp_path / "draft.work"))
        for path in (source, source / "hidden", *map(Path, more)):
            path.mkdir()
        (source / "hidden/file").touch()
        (source / "shown").touch()
        os.mknod(f"{more.upper}/hidden", stat.S_IFCHR)
        mounts = (Draft(str(source), "/opt/x", more, is_read_only=True),)
        assert run.sh("ls -A /opt/x; mkdir /opt/x/hidden 2>/dev/null || echo no", mounts=mounts) == "shown\nno\n"
        remove_tree(more.work)

    def test_a_failed_command_leaves_its_changes_to_look_at(self, run: Run, overlay: Overlay) -> None:
        run("sh", "-c", "echo half >/opt; exit 1", overlay=overlay)
        assert run.result.status == 1
        assert (Path(overlay.upper) / "opt").read_text() == "half\n"
