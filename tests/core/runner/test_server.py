"""The fork server seen from outside: what it keeps from images, and that nothing survives anybody's death."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import RunnerError
from chimage_core.runner import server as server_module
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import Bind, Overlay, RunRequest
from tests.support.busybox import make_busybox_rootfs, missing_busybox

SERVER = server_module.__file__
ROOT = Path(SERVER).parents[2]
pytestmark = [
    pytest.mark.userns,
    pytest.mark.skipif(missing_busybox() is not None, reason=missing_busybox() or ""),
]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return Path(make_busybox_rootfs(str(tmp_path / "rootfs")))


@pytest.fixture
def runner() -> Iterator[NamespaceRunner]:
    runner = NamespaceRunner()
    yield runner
    runner.close()


def run(runner: NamespaceRunner, rootfs: Path, script: str, **more: object) -> tuple[int, str]:
    said = b""

    def keep(stream: str, data: bytes) -> None:
        nonlocal said
        said += data

    request = RunRequest(
        rootfs=str(rootfs),
        argv=("sh", "-c", script),
        env={"PATH": "/bin"},
        output=keep,
        **more,  # type: ignore[arg-type]
    )
    return runner.run(request, CancelToken()).status, said.decode()


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def processes_with(marker: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if marker.encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_server_loads_nothing_of_ours_but_its_own_modules() -> None:
    """It starts at the first RUN of every build, and goes into images: it must stay small and self-contained."""
    script = "import chimage_core.runner.server, sys; print(*sorted(n for n in sys.modules))"
    loaded = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    modules = loaded.stdout.split()
    names = {
        "attach",
        "inner",
        "job",
        "keeper",
        "mounts",
        "network",
        "points",
        "seccomp",
        "server",
        "syscalls",
        "trials",
    }
    expected = {"chimage_core", "chimage_core.runner"} | {f"chimage_core.runner.{name}" for name in names}
    assert {name for name in modules if name.startswith("chimage")} == expected
    assert not {"dataclasses", "typing", "subprocess", "pathlib"} & set(modules)


def test_no_python_code_of_an_image_is_ever_loaded(runner: NamespaceRunner, rootfs: Path) -> None:
    """The image has a module wherever Python might look, and the process inside has to report an error."""
    places = {rootfs / "usr/lib/python3", rootfs / str(ROOT)[1:], *(rootfs / path[1:] for path in sys.path if path)}
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name in ("warnings", "encodings", "codecs", "traceback", "linecache", "shutil", "idna"):
            (place / f"{name}.py").write_text("open('/loaded', 'w')\n")
    for argv in (("no-such",), ("/etc/passwd",), ("sh", "-c", "exit 3")):
        request = RunRequest(rootfs=str(rootfs), argv=argv, env={"PATH": "/bin"})
        runner.run(request, CancelToken())
    with pytest.raises(RunnerError):
        runner.run(RunRequest(rootfs=str(rootfs), argv=("sh",), env={}, workdir="/none"), CancelToken())
    assert not (rootfs / "loaded").exists()


def test_our_environment_cannot_be_read_inside(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 1 is a fork of ours; the caller's variables may hold a registry password."""
    monkeypatch.setenv("CH_IMAGE_PASSWORD", "sesame-open")
    runner = NamespaceRunner()
    try:
        status, said = run(runner, rootfs, "cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'")
    finally:
        runner.close()
    assert status == 0
    assert "sesame" not in said
    assert "PATH=/bin" in said


def test_process_1_holds_no_directory_of_the_host(runner: NamespaceRunner, rootfs: Path, tmp_path: Path) -> None:
    """Through /proc/1/fd a command could otherwise walk out of the image."""
    bind = Bind(str(tmp_path), "/opt/made/for/it")
    status, said = run(runner, rootfs, "cd /proc/1/fd; for x in *; do [ -d $x ] && echo $x; done; true", mounts=(bind,))
    assert (status, said) == (0, "")


def test_the_one_shot_command_runs_something_with_our_terminal(rootfs: Path) -> None:
    command = [sys.executable, "-I", "-S", SERVER, str(rootfs), "--", "sh", "-c", "cat; id -u; exit 4"]
    done = subprocess.run(command, input="hello\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "hello\n0\n", "")


def test_the_one_shot_command_explains_its_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", SERVER]
    missing = subprocess.run([*command, str(tmp_path / "no"), "--", "x"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert f"{tmp_path}/no: No such file or directory" in missing.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_it_works_from_a_directory_that_cannot_be_written(rootfs: Path, tmp_path: Path) -> None:
    """As installed by an administrator."""
    package = tmp_path / "installed"
    shutil.copytree(ROOT / "chimage_core", package / "chimage_core", ignore=shutil.ignore_patterns("__pycache__"))
    for directory in [package, *package.rglob("*")]:
        directory.chmod(0o555 if directory.is_dir() else 0o444)
    server = package / "chimage_core/runner/server.py"
    command = [sys.executable, "-I", "-S", str(server), str(rootfs), "--", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for directory in [package, *package.rglob("*")]:
            directory.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_died_is_replaced(runner: NamespaceRunner, rootfs: Path) -> None:
    run(runner, rootfs, "true")
    (server,) = [pid for pid in processes_with(SERVER) if parent_of(pid) == os.getpid()]
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: "\nState:\tZ" in Path(f"/proc/{server}/status").read_text())
    assert run(runner, rootfs, "echo again") == (0, "again\n")


def test_the_death_of_the_keeper_ends_the_container_and_is_an_error(runner: NamespaceRunner, rootfs: Path) -> None:
    """As the kernel does when memory runs out."""
    marker = f"61.{os.getpid()}{time.monotonic_ns()}"

    def kill_the_keeper(stream: str, data: bytes) -> None:
        command = processes_with(marker)[0]
        inside = command
        while SERVER.encode() not in Path(f"/proc/{inside}/cmdline").read_bytes():
            inside = parent_of(inside)
        os.kill(parent_of(inside), signal.SIGKILL)

    request = RunRequest(
        rootfs=str(rootfs),
        argv=("sh", "-c", f"sleep {marker} & echo started; wait"),
        env={"PATH": "/bin"},
        output=kill_the_keeper,
    )
    with pytest.raises(RunnerError, match="unexpectedly"):
        runner.run(request, CancelToken())
    wait_until(lambda: not processes_with(marker))


CLIENT = """
import sys
from chimage_core.cancel import CancelToken
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import Bind, RunRequest
rootfs, source, marker, pid_namespace = sys.argv[1:]
request = RunRequest(
    rootfs=rootfs,
    argv=("sh", "-c", f"trap '' TERM INT HUP; setsid sleep {marker} & echo started; sleep {marker}; sleep {marker}"),
    env={"PATH": "/bin"},
    mounts=(Bind(source, "/opt/bound"),),
)
NamespaceRunner(pid_namespace=pid_namespace == "True").run(request, CancelToken())
"""


@pytest.mark.parametrize("pid_namespace", [True, False])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_client_that_is_killed(
    rootfs: Path, tmp_path: Path, number: signal.Signals, pid_namespace: bool
) -> None:
    """Not a process, not a mount point in the image."""
    (tmp_path / "source").mkdir()
    before = sorted(os.listdir(rootfs))
    marker = f"61.{os.getpid()}{time.monotonic_ns()}"
    command = [sys.executable, "-c", CLIENT, str(rootfs), str(tmp_path / "source"), marker, str(pid_namespace)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert client.stdout is not None
    with client, client.stdout:
        assert client.stdout.readline() == b"started\n"
        assert (rootfs / "opt").exists()
        client.send_signal(number)
        client.wait()
    wait_until(lambda: not processes_with(marker))
    wait_until(lambda: sorted(os.listdir(rootfs)) == before)
    wait_until(lambda: not [pid for pid in processes_with(SERVER) if parent_of(pid) == client.pid])


def test_a_signal_to_the_whole_group_does_not_touch_the_server(rootfs: Path) -> None:
    """Ctrl-C and batch systems send it to everybody; what it means is for the client to say."""
    script = f"""
import os, signal
from chimage_core.cancel import CancelToken
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import RunRequest
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, lambda *_: None)
def disturb(stream, data):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.killpg(0, number)
runner = NamespaceRunner()
for _ in range(2):
    request = RunRequest(rootfs={str(rootfs)!r}, argv=("sh", "-c", "echo; sleep 0.2; exit 5"), env={{"PATH": "/bin"}},
                         output=disturb)
    print(runner.run(request, CancelToken()).status)
runner.close()
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, start_new_session=True)
    assert (done.stdout, done.stderr) == ("5\n5\n", "")


@pytest.mark.parametrize("has_overlay", [False, True])
def test_without_a_new_proc_it_goes_on_without_a_pid_namespace(rootfs: Path, tmp_path: Path, has_overlay: bool) -> None:
    """Container engines hide parts of /proc; the kernel then refuses a /proc that would show them.

    The second try finds what the first one left of its overlay.
    """
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (Debian package util-linux)")
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    script = f"""
import sys
from chimage_core.cancel import CancelToken
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import Overlay, RunRequest
runner = NamespaceRunner()
found = runner.probe({str(tmp_path)!r})
if {has_overlay} and not found.overlay:
    sys.exit("no overlay")
overlay = Overlay({str(tmp_path / "upper")!r}, {str(tmp_path / "work")!r}) if {has_overlay} else None
print(found.namespaces, found.pid_namespace)
request = RunRequest(rootfs={str(rootfs)!r}, argv=("sh", "-c", "echo $$ >/tmp/pid; test -e /proc/self/stat; exit 6"),
                     env={{"PATH": "/bin"}}, overlay=overlay)
print(runner.run(request, CancelToken()).status)
runner.close()
"""
    hide = 'mount -t tmpfs none /proc/sys && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", hide, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.stderr == "no overlay\n":
        pytest.skip("no overlay in nested namespaces here")
    assert (done.stdout, done.stderr) == ("True False\n6\n", "")
    assert int(((tmp_path / "upper" if has_overlay else rootfs) / "tmp/pid").read_text()) > 2


def test_refused_namespaces_are_an_error_with_advice(rootfs: Path) -> None:
    """The sysctl is per user namespace, so a test can set it for itself."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (Debian package util-linux)")
    script = f"""
from chimage_core.cancel import CancelToken
from chimage_core.errors import RunnerError
from chimage_core.runner.choose import choose
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import RunRequest
runner = NamespaceRunner()
try:
    runner.run(RunRequest(rootfs={str(rootfs)!r}, argv=("true",), env={{}}), CancelToken())
except RunnerError as error:
    print(error.message, "|", error.hint)
runner.close()
try:
    choose("auto", "/", path="/nowhere")
except RunnerError as error:
    print(error.message, "|", error.hint)
"""
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", forbid, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""
    direct, chosen = done.stdout.splitlines()
    assert "user namespace" in direct
    assert "user.max_user_namespaces is 0" in direct
    assert "neither ch-run nor bwrap" in chosen
    assert "user.max_user_namespaces is 0" in chosen


@pytest.mark.root
def test_root_without_the_needed_capability_gets_advice(rootfs: Path) -> None:
    """A user namespace that maps the real root needs CAP_SETFCAP since Linux 5.12."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (Debian package util-linux)")
    script = f"""
from chimage_core.cancel import CancelToken
from chimage_core.errors import RunnerError
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import RunRequest
runner = NamespaceRunner()
try:
    print(runner.run(RunRequest(rootfs={str(rootfs)!r}, argv=("true",), env={{"PATH": "/bin"}}), CancelToken()).status)
except RunnerError as error:
    print(error.message, "|", error.hint)
runner.close()
"""
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""
    assert "CAP_SETFCAP" in done.stdout


def test_an_interactive_shell_has_the_terminal_and_gives_it_back(rootfs: Path) -> None:
    """After a shell with job control, we must be able to read from the terminal again."""
    script = f"""
import os, sys
from chimage_core.cancel import CancelToken
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.protocol import RunRequest
runner = NamespaceRunner()
environment = {{"PATH": "/bin", "PS1": "image> "}}
request = RunRequest(rootfs={str(rootfs)!r}, argv=("sh", "-i"), env=environment, interactive=True)
print("status", runner.run(request, CancelToken()).status, flush=True)
runner.close()
print("foreground", os.tcgetpgrp(0) == os.getpgrp(), "read", sys.stdin.readline(), flush=True)
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", script])
    said = b""

    def expect(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += os.read(terminal, 4096)

    expect(b"image> ")
    os.write(terminal, b"tty; sleep 0.01; (exit 7)\n")
    expect(b"/dev/pts/")
    os.write(terminal, b"exit 7\n")
    expect(b"status 7")
    os.write(terminal, b"mine\n")
    expect(b"foreground True read mine")
    os.close(terminal)
    os.waitpid(pid, 0)


def test_close_kills_what_still_runs(runner: NamespaceRunner, rootfs: Path) -> None:
    """An application that ends must not wait for its builds' sleeping commands."""
    marker = f"61.{os.getpid()}{time.monotonic_ns()}"
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run(runner, rootfs, f"sleep {marker}")[0]))
    thread.start()
    wait_until(lambda: processes_with(marker))
    runner.close()
    thread.join(10)
    assert statuses == [128 + signal.SIGKILL]
    assert processes_with(marker) == []


def test_a_name_that_is_no_directory_is_an_error_that_names_it(runner: NamespaceRunner, rootfs: Path) -> None:
    with pytest.raises(RunnerError, match="/etc/passwd: Not a directory"):
        run(runner, rootfs / "etc/passwd", "true")


def test_a_bind_below_another_that_lacks_the_target_is_an_error(
    runner: NamespaceRunner, rootfs: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    binds = (Bind(str(tmp_path / "a"), "/opt"), Bind(str(tmp_path / "a"), "/opt/below"))
    with pytest.raises(RunnerError, match="/opt/below: another mount hides this path"):
        run(runner, rootfs, "true", mounts=binds)
    assert not (rootfs / "opt").exists()


def test_a_bind_on_the_root_is_an_error(runner: NamespaceRunner, rootfs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="root of the image"):
        run(runner, rootfs, "true", mounts=(Bind(str(tmp_path), "/etc/.."),))


def test_an_overlay_that_cannot_be_mounted_is_an_error_that_names_it(
    runner: NamespaceRunner, rootfs: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(RunnerError, match=str(tmp_path / "upper")):
        run(runner, rootfs, "true", overlay=Overlay(str(tmp_path / "upper"), str(tmp_path / "work")))
