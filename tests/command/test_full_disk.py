"""`build` on a full disk: what failed is told, nothing half-made stays, and the next try is not doomed."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.builds import Builds

pytestmark = pytest.mark.userns

SIZE = "14m"


def on_a_small_disk(builds: Builds, busybox: Path, dockerfiles: list[str]) -> list[tuple[int, str]]:
    """Build each Dockerfile as the same image, in a storage directory on a disk of SIZE, and check it at the end.

    Return the exit statuses and what was said.
    """
    disk = builds.context.parent / "disk"
    disk.mkdir()
    storage = disk / "storage"
    lines = [
        f"mount -t tmpfs -o size={SIZE} none {disk} || exit 99",
        shlex.join(builds.chimage.argv("-q", "-s", storage, "import", busybox, "base")),
    ]
    for number, dockerfile in enumerate(dockerfiles):
        path = builds.write(f"{number}.dockerfile", dockerfile)
        command = builds.chimage.argv("-s", storage, "build", "-t", "image", "-f", path, builds.context)
        lines.append(f"{shlex.join(command)} > {path}.said 2>&1; echo $?")
    lines.append(f"{shlex.join(builds.chimage.argv('-s', storage, 'build-cache', '--check'))} >&2; echo $?")
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", "\n".join(lines)],
        env=builds.chimage.environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 99:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr}")
    *statuses, check = map(int, done.stdout.split())
    assert check == 0, done.stderr
    said = [(builds.context / f"{number}.dockerfile.said").read_text() for number in range(len(dockerfiles))]
    return list(zip(statuses, said, strict=True))


def test_what_a_run_has_filled_is_free_for_the_next_build(builds: Builds, busybox: Path) -> None:
    builds.write("big").write_bytes(os.urandom(4 << 20))
    (fills, told), (copies, _) = on_a_small_disk(
        builds,
        busybox,
        ["FROM base\nRUN cat /dev/urandom > /x; rm /x; cat /dev/urandom > /y", "FROM base\nCOPY big /big"],
    )
    assert fills == 1
    assert "hint: the file system is full: " in told
    assert copies == 0


def test_what_a_failed_run_left_is_in_nobodys_way(builds: Builds, busybox: Path) -> None:
    """It leaves more room than makes it be given up at once, and too little for the next build."""
    builds.write("big").write_bytes(os.urandom(4 << 20))
    (fails, told), (copies, _) = on_a_small_disk(
        builds,
        busybox,
        ["FROM base\nRUN head -c 7000000 /dev/urandom > /x; false", "FROM base\nCOPY big /big\nCOPY big /other"],
    )
    assert fails == 1
    assert "is full" not in told
    assert copies == 0


def test_instructions_that_find_no_room_say_so(builds: Builds, busybox: Path) -> None:
    builds.write("big").write_bytes(os.urandom(9 << 20))
    done = on_a_small_disk(builds, busybox, ["FROM base\nCOPY big /a\nCOPY big /b", "FROM base\nRUN echo > /x"])
    assert [status for status, _ in done] == [1, 0]
    assert "No space left on device\n  " in done[0][1]
    assert "Traceback" not in done[0][1]
