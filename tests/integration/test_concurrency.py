"""Several commands at once in one storage directory."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import BASE, Builds, contents, marks
from tests.support.cli import Chimage
from tests.support.host import has_program
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

PATIENCE = 60
"""Seconds after which what should happen counts as not happening."""

WAIT = "touch /mnt/0/{here}; until test -e /mnt/0/{go}; do sleep 0.05; done"


def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def building(builds: Builds, name: str, *, tag: str, options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """Build an image whose RUN says by the file NAME.here that it runs, and ends when there is NAME.go."""
    dockerfile = builds.write(
        f"Dockerfile.{name}", f"FROM {BASE}\nRUN {WAIT.format(here=f'{name}.here', go=f'{name}.go')}\n"
    )
    bind = f"{builds.context}:/mnt/0"
    arguments = ("build", "-t", tag, "-f", str(dockerfile), "--bind", bind, *options, str(builds.context))
    with builds.chimage.start(*arguments) as process:
        try:
            yield process
        finally:
            (builds.context / f"{name}.go").touch()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


def runs(builds: Builds, name: str) -> Callable[[], bool]:
    return (builds.context / f"{name}.here").exists


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return the line of standard error that holds a text."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"never said: {text}")


def test_two_builds_of_different_images_run_at_the_same_time(builds: Builds) -> None:
    """Both are inside their RUN before either ends; `list` and the rest that only looks wait for nobody."""
    with building(builds, "one", tag="one") as one, building(builds, "two", tag="two") as two:
        eventually(lambda: runs(builds, "one")() and runs(builds, "two")())
        assert builds.names() == ["base:latest (amd64)"]
        for command in (
            ["list", "-l"],
            ["list", "base"],
            ["build-cache"],
            ["build-cache", "--tree"],
            ["gestalt", "bucache"],
        ):
            builds.chimage.run(*command, "--lock-timeout=0")
        assert one.poll() is None
        assert two.poll() is None
        (builds.context / "one.go").touch()
        assert one.wait(PATIENCE) == 0
        assert two.poll() is None
        assert builds.names() == ["base:latest (amd64)", "one:latest (amd64)"]
        (builds.context / "two.go").touch()
        assert two.wait(PATIENCE) == 0
    assert builds.names() == ["base:latest (amd64)", "one:latest (amd64)", "two:latest (amd64)"]


def test_an_image_being_rebuilt_stays_listed(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    with building(builds, "x", tag="image"):
        eventually(runs(builds, "x"))
        assert builds.names() == ["base:latest (amd64)", "image:latest (amd64)"]


def test_of_two_builds_of_the_same_name_the_second_waits_and_says_for_whom(builds: Builds) -> None:
    with building(builds, "first", tag="image") as first:
        eventually(runs(builds, "first"))
        with building(builds, "second", tag="image:latest") as second:
            line = read_until(second, "waiting for")
            assert f"in use by pid {first.pid} on {os.uname().nodename} since 2" in line
            assert re.search("waiting for image image.*chimage build -t image -f", line)
            assert not runs(builds, "second")()
            (builds.context / "first.go").touch()
            assert first.wait(PATIENCE) == 0
            eventually(runs(builds, "second"))
            (builds.context / "second.go").touch()
            assert second.wait(PATIENCE) == 0
    assert builds.names() == ["base:latest (amd64)", "image:latest (amd64)"]


@pytest.mark.parametrize("timeout", ["0", "0.5"])
def test_who_does_not_want_to_wait_is_told_who_has_it(builds: Builds, timeout: str, busybox: Path) -> None:
    with building(builds, "x", tag="image") as holder:
        eventually(runs(builds, "x"))
        for command in (
            ["build", "-t", "image", builds.context, "-f", "-"],
            ["import", busybox, "image"],
            ["delete", "image"],
        ):
            began = time.monotonic()
            result = builds.chimage.run(f"--lock-timeout={timeout}", *command, stdin="FROM base", check=False).expect(1)
            assert time.monotonic() - began < 5 + float(timeout)
            assert f"in use by pid {holder.pid} on" in result.stderr
            assert "hint:" in result.stderr
        for command in (["reset"], ["build-cache", "--reset"]):
            result = builds.chimage.run(f"--lock-timeout={timeout}", *command, check=False).expect(1)
            assert f"pid {holder.pid} on" in result.stderr
        assert holder.poll() is None


def test_without_locks_nobody_waits(builds: Builds) -> None:
    with building(builds, "x", tag="image"):
        eventually(runs(builds, "x"))
        builds.chimage.run("--no-lock", "delete", "base")
    assert "base:latest (amd64)" not in builds.names()


def test_building_on_an_image_while_it_is_rebuilt(builds: Builds) -> None:
    """It is a snapshot in the cache that one builds on, not the directory."""
    builds.build("FROM base\nRUN echo old > /v", tag="parent")
    with building(builds, "x", tag="parent"):
        eventually(runs(builds, "x"))
        builds.build("FROM parent\nRUN cp /v /w", "--lock-timeout=0", tag="child")
    assert builds.read("w", "child+latest") == "old\n"


def test_the_same_instruction_in_two_builds_at_once(builds: Builds) -> None:
    """Both carry it out; one result is remembered; both images are whole."""
    text = f"FROM base\nRUN {WAIT.format(here='$USER.here', go='go')}; echo same > /same\nRUN echo after > /after"
    dockerfile = builds.write("Dockerfile.same", text)
    arguments = ["build", "-f", str(dockerfile), "--bind", f"{builds.context}:/mnt/0", str(builds.context)]
    with (
        builds.chimage.start(*arguments, "-t", "a", "--build-arg=USER=a") as a,
        builds.chimage.start(*arguments, "-t", "b", "--build-arg=USER=b") as b,
    ):
        eventually(lambda: runs(builds, "a")() and runs(builds, "b")())
        (builds.context / "go").touch()
        assert (a.wait(PATIENCE), b.wait(PATIENCE)) == (0, 0)
    assert contents(builds.image("a+latest")) == contents(builds.image("b+latest"))
    assert marks(builds.chimage.run(*arguments, "-t", "c")) == "***"


def test_a_build_hits_what_another_has_done_so_far(builds: Builds) -> None:
    """A state is shared as soon as it is committed, not when its build is finished, or whatever becomes of that."""
    steps = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN echo 2 > /two\n"
    wait = f"RUN {WAIT.format(here='first.here', go='first.go')}\n"
    options = ("--bind", f"{builds.context}:/mnt/0", str(builds.context))
    dockerfile = builds.write("Dockerfile.first", steps + wait + "RUN false\n")
    with builds.chimage.start("build", "-t", "first", "-f", str(dockerfile), *options) as first:
        eventually(runs(builds, "first"))
        assert marks(builds.build(steps + "RUN echo 3 > /three", tag="second")) == "***."
        assert marks(builds.build(steps, tag="third")) == "***"
        assert builds.read("id", "second+latest") == builds.read("id", "third+latest")
        assert first.poll() is None
        (builds.context / "first.go").touch()
        assert first.wait(PATIENCE) == 1
    assert marks(builds.build(steps + wait, "--bind", f"{builds.context}:/mnt/0", tag="fourth")) == "****"


def test_many_at_once_in_a_storage_directory_that_none_of_them_has_made(
    chimage: Chimage, busybox: Path, tmp_path: Path
) -> None:
    """They race for the directory, the repository, the same objects and states; and one deletes meanwhile."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "FROM base{n}\nRUN echo same > /same\nRUN i={n}; for f in $(seq 50); do echo $i > /f$f; done\n"
    )
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(chimage.start("import", busybox, f"base{number}", "--json")) for number in range(5)
        ]
        for process in started:
            _, stderr = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, stderr
    with contextlib.ExitStack() as stack:
        for number in range(5):
            context = tmp_path / f"c{number}"
            context.mkdir()
            (context / "Dockerfile").write_text(dockerfile.read_text().replace("{n}", str(number % 2)))
            started[number] = stack.enter_context(chimage.start("build", "-t", f"image{number}", context))
        started.append(stack.enter_context(chimage.start("delete", "base4")))
        for process in started:
            _, stderr = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, stderr
    images = {number: contents(Path(chimage.storage, f"img/image{number}+latest")) for number in range(5)}
    for number, found in images.items():
        assert Path(chimage.storage, f"img/image{number}+latest/f50").read_text() == f"{number % 2}\n"
        assert found == images[number % 2]
    if has_program("git"):
        assert fsck(chimage.storage) == ""
    for directory in ("work", "trash", "sessions"):
        assert os.listdir(Path(chimage.storage, directory)) == []
