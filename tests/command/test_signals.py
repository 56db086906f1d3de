"""Asked to stop: nothing is left running, the image is as it was, and the next command works."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks
from tests.support.processes import marked, mounts_below, wait_until_gone

pytestmark = pytest.mark.userns

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def wait_for(builds: Builds, process: subprocess.Popen[str], path: str) -> None:
    """Wait until a command in a container says by a file in the bound directory that it runs."""
    deadline = time.monotonic() + 30
    while not (builds.context / path).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_nothing_left(builds: Builds, marker: str) -> None:
    assert wait_until_gone(marker) == []
    storage = Path(builds.chimage.storage)
    assert mounts_below(storage) == []
    assert os.listdir(storage / "trash") == os.listdir(storage / "sessions") == []
    for side in os.scandir(storage / "img.d"):
        assert not {"upper", "work"} & set(os.listdir(side.path))


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("runner", ["python", "ch-run", "bwrap"])
def test_during_a_run(builds: Builds, number: signal.Signals, runner: str) -> None:
    if runner != "python" and not any(os.access(f"{folder}/{runner}", os.X_OK) for folder in ("/usr/bin", "/bin")):
        pytest.skip(f"{runner} is not installed")
    good = "FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two"
    builds.build(good)
    before = contents(builds.image())
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    builds.write(
        "Dockerfile", f"{good}\nRUN rm /one; (sleep 61 & exec sleep 62 {marker}x) & touch /mnt/0/runs; sleep 60"
    )
    options = ("--bind", f"{builds.context}:/mnt/0", "--build-arg", f"USER={marker}", "--runner", runner)
    with builds.chimage.start("build", "-t", "image", *options, builds.context) as process:
        wait_for(builds, process, "runs")
        assert marked(marker)
        began = time.monotonic()
        process.send_signal(number)
        _, stderr = process.communicate()
    assert process.returncode == SIGNALS[number], stderr
    assert time.monotonic() - began < 10
    assert "Traceback" not in stderr
    assert "error: cancelled" in stderr
    assert_nothing_left(builds, marker)
    assert contents(builds.image()) == before
    assert marks(builds.build(good)) == "***"
    assert contents(builds.image()) == before


def test_control_c_reaches_the_whole_group(builds: Builds) -> None:
    """A terminal sends SIGINT to every process of the group, not only to ours."""
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    builds.write("Dockerfile", "FROM base\nRUN trap '' INT; touch /mnt/0/runs; sleep 60; sleep 60")
    options = ("--bind", f"{builds.context}:/mnt/0", "--build-arg", f"USER={marker}")
    with builds.chimage.start("build", "-t", "image", *options, builds.context) as process:
        wait_for(builds, process, "runs")
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert_nothing_left(builds, marker)
    assert builds.names() == ["base:latest (amd64)"]


def test_while_waiting_for_a_lock(builds: Builds) -> None:
    builds.write("Dockerfile", "FROM base\nRUN touch /mnt/0/runs; sleep 60")
    options = ("--bind", f"{builds.context}:/mnt/0", "-t", "image")
    with builds.chimage.start("build", *options, builds.context) as holder:
        wait_for(builds, holder, "runs")
        with builds.chimage.start("build", *options, builds.context) as waiting:
            assert waiting.stderr is not None
            while "waiting for" not in waiting.stderr.readline():
                assert waiting.poll() is None
            waiting.send_signal(signal.SIGTERM)
            waiting.communicate()
        assert holder.poll() is None
        holder.terminate()
        holder.communicate()
    assert waiting.returncode == 143


def test_during_an_import(builds: Builds, tmp_path: Path) -> None:
    """At any time: the image is the old one or the new one."""
    tree = tmp_path / "tree"
    for number in range(60):
        (tree / f"d{number}").mkdir(parents=True)
        for file in range(30):
            (tree / f"d{number}/f{file}").write_text(f"{number} {file}")
    builds.chimage.run("import", tree, "base")
    (tree / "new").write_text("new")
    stopped = 0
    for delay in (0.08, 0.12, 0.16, 0.2, 0.3):
        with builds.chimage.start("import", tree, "base") as process:
            time.sleep(delay)
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate()
        assert process.returncode in (0, 143, -signal.SIGTERM), stderr
        assert "Traceback" not in stderr
        stopped += process.returncode == 143
        found = contents(builds.image("base+latest"))
        assert found["d59/f29"]
        storage = Path(builds.chimage.storage)
        assert os.listdir(storage / "work") == os.listdir(storage / "trash") == os.listdir(storage / "sessions") == []
    builds.chimage.run("import", tree, "base")
    assert builds.read("new", "base+latest") == "new"


def test_an_ignored_signal_stays_ignored(builds: Builds) -> None:
    """`nohup chimage build`: what is ignored when we start is to be ignored."""
    builds.write("Dockerfile", "FROM base\nRUN touch /mnt/0/runs; sleep 1")
    command = [
        "nohup",
        *builds.chimage.argv("build", "--bind", f"{builds.context}:/mnt/0", "-t", "image", builds.context),
    ]
    with subprocess.Popen(
        command,
        env=builds.chimage.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(builds, process, "runs")
        process.send_signal(signal.SIGHUP)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "grown in 2 instructions: image" in stderr


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_while_the_dockerfile_is_awaited(builds: Builds, number: signal.Signals) -> None:
    """As when it is typed at the terminal: one Ctrl-C has to be enough."""
    dockerfile = builds.context / "fifo"
    os.mkfifo(dockerfile)
    with builds.chimage.start("build", "-f", dockerfile, "-t", "image", builds.context) as process:
        writer = None
        deadline = time.monotonic() + 30
        while writer is None:
            assert time.monotonic() < deadline
            try:
                writer = os.open(dockerfile, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # Nobody reads yet.
                time.sleep(0.01)
        os.write(writer, b"FROM base\n")
        time.sleep(0.1)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
        os.close(writer)
    assert process.returncode == SIGNALS[number]
    assert stderr == "error: cancelled\n"
