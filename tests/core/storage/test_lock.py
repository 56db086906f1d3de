"""Locks, held by real processes."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, FileError, StorageBusy
from chimage_core.events.locks import LockAwaited
from chimage_core.storage.holder import Holder
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.lockfile import FlockFile, LinkFile, LockFile
from tests.support.recorder import Recorder

ROOT = Path(__file__).parents[3]

# Takes a lock, says so, and keeps it until its standard input ends.
HOLD = """
import sys
from chimage_core.storage import lockfile
from chimage_core.storage.holder import Holder
kind, path, exclusive = sys.argv[1:]
lock = getattr(lockfile, kind)(path)
assert lock.acquire(Holder.this_process(["chimage", "build", "-t", "foo"]), exclusive=exclusive == "True")
print("held", flush=True)
sys.stdin.read()
lock.release()
"""

Opener = Callable[[str], LockFile]


@contextmanager
def held(kind: str, path: str, *, exclusive: bool) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock."""
    argv = [sys.executable, "-c", HOLD, kind, path, str(exclusive)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def me() -> Holder:
    return Holder.this_process(["chimage", "test"])


@pytest.fixture(params=["FlockFile", "LinkFile"])
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of lock file has to keep the same promises."""
    return str(request.param)


@pytest.fixture
def opened(kind: str) -> Opener:
    return FlockFile if kind == "FlockFile" else LinkFile


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.mark.parametrize(
    ("theirs", "ours", "possible"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
)
def test_exclusive_lock_excludes_and_shared_lock_does_not(
    kind: str, opened: Opener, path: str, theirs: bool, ours: bool, possible: bool
) -> None:
    with held(kind, path, exclusive=theirs):
        lock = opened(path)
        assert lock.acquire(me(), exclusive=ours) == possible
        lock.release()


@pytest.mark.parametrize("exclusive", [True, False])
def test_killed_holder_frees_its_lock(kind: str, opened: Opener, path: str, exclusive: bool) -> None:
    """Nobody must have to delete lock files by hand after kill -9."""
    with held(kind, path, exclusive=exclusive) as child:
        child.kill()
        child.wait()
        lock = opened(path)
        assert lock.acquire(me(), exclusive=True)
        lock.release()


def test_lock_can_be_taken_again_after_release(opened: Opener, path: str) -> None:
    lock = opened(path)
    for exclusive in (True, False, True):
        assert lock.acquire(me(), exclusive=exclusive)
        lock.release()


def test_holders_are_told(kind: str, opened: Opener, path: str) -> None:
    with held(kind, path, exclusive=False) as one, held(kind, path, exclusive=False) as other:
        holders = opened(path).holders()
        assert {holder.pid for holder in holders} == {one.pid, other.pid}
        assert {holder.command for holder in holders} == {"chimage build -t foo"}
        assert {holder.host for holder in holders} == {os.uname().nodename}


def test_waiting_for_an_exclusive_link_lock_keeps_new_shared_ones_out(path: str) -> None:
    """Or gc would wait for ever while builds overlap."""
    first, writer, second = LinkFile(path), LinkFile(path), LinkFile(path)
    assert first.acquire(me(), exclusive=False)
    assert not writer.acquire(me(), exclusive=True)
    assert not second.acquire(me(), exclusive=False)
    first.release()
    assert writer.acquire(me(), exclusive=True)
    writer.release()
    assert second.acquire(me(), exclusive=False)
    second.release()
    assert os.listdir(os.path.dirname(path)) == []


def test_link_lock_of_an_unreachable_process_is_respected(path: str) -> None:
    """A process of another host or container cannot be seen, but may well be alive."""
    Path(f"{path}~x").write_bytes(me()._replace(host="elsewhere", pid=1).to_line())
    assert not LinkFile(path).acquire(me(), exclusive=True)
    Path(f"{path}~x").write_bytes(me()._replace(namespace="pid:[1]", pid=2**22).to_line())
    assert not LinkFile(path).acquire(me(), exclusive=True)


@pytest.mark.parametrize("gone", [{"boot": "another boot"}, {"started": 1}, {"pid": 2**22}])
def test_link_lock_of_a_process_that_is_surely_gone_is_broken(path: str, gone: dict[str, object]) -> None:
    """Not even a new process of the same number makes it look alive."""
    dead = me()._replace(**gone)  # type: ignore[arg-type]
    assert dead.is_gone()
    for mark in ("~x", "~sabcd", "~b"):
        Path(path + mark).write_bytes(dead.to_line())
    lock = LinkFile(path)
    assert any(lock.acquire(me(), exclusive=True) for _ in range(5))
    lock.release()
    assert os.listdir(os.path.dirname(path)) == []


COUNT = """
import sys, time
from chimage_core.storage import lockfile
from chimage_core.storage.holder import Holder
kind, path, counter = sys.argv[1:]
for _ in range(30):
    lock = getattr(lockfile, kind)(path)
    while not lock.acquire(Holder.this_process(["x"]), exclusive=True):
        time.sleep(0.001)
    with open(counter) as file:
        value = int(file.read())
    with open(counter, "w") as file:
        file.write(str(value + 1))
    lock.release()
"""


def test_only_one_process_at_a_time_is_in_the_lock(kind: str, path: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    argv = [sys.executable, "-c", COUNT, kind, path, str(counter)]
    children = [subprocess.Popen(argv, cwd=ROOT) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert counter.read_text() == "120"


def test_lock_files_of_shared_holders_do_not_grow_without_end(path: str) -> None:
    for _ in range(300):
        lock = FlockFile(path)
        assert lock.acquire(me(), exclusive=False)
        lock.release()
    assert os.path.getsize(path) < 20_000


def test_half_written_holder_is_nobody(path: str) -> None:
    Path(path).write_bytes(me().to_line()[:-10] + b"\n\xff\n[]\n{}\n" + me().to_line())
    assert len(FlockFile(path).holders()) == 1


def test_holder_is_one_printable_short_line() -> None:
    """It goes to terminals of other users."""
    text = str(Holder.this_process(["chimage", "x\n\x1b[31m" * 1000]))
    assert text.isprintable()
    assert len(text) < 400


def test_who_waits_says_for_whom_and_then_goes_on(layout: Layout, locks: Locks, events: Recorder) -> None:
    with held("FlockFile", layout.name_lock("foo+1"), exclusive=True) as child:
        assert child.stdin is not None
        release = threading.Timer(0.2, child.stdin.close)
        release.start()
        with locks.images(write=["foo+1"]):
            pass
    event = events.one(LockAwaited)
    assert event.lock == "image foo+1"
    assert f"pid {child.pid} on " in event.holder
    assert "chimage build -t foo" in event.holder


def test_nothing_is_said_if_nobody_has_to_wait(locks: Locks, layout: Layout, events: Recorder) -> None:
    with locks.storage(), locks.images(write=["foo+1"], read=["bar+1"]):
        pass
    assert events == []


def test_timeout_of_0_fails_at_once(layout: Layout, events: Recorder) -> None:
    locks = Locks(layout, ["x"], emit=events, cancel=CancelToken(), timeout=0)
    with held("FlockFile", layout.lock, exclusive=True) as child:
        start = time.monotonic()
        with pytest.raises(StorageBusy) as caught, locks.storage():
            pass
        assert time.monotonic() - start < 1
    assert f"pid {child.pid}" in caught.value.message
    assert "--lock-timeout" in (caught.value.hint or "")
    assert events == []


def test_timeout_limits_the_waiting(layout: Layout, events: Recorder) -> None:
    locks = Locks(layout, ["x"], emit=events, cancel=CancelToken(), timeout=0.3)
    with held("FlockFile", layout.lock, exclusive=False):
        with locks.storage():
            pass
        start = time.monotonic()
        with pytest.raises(StorageBusy), locks.storage(exclusive=True):
            pass
        assert 0.3 <= time.monotonic() - start < 5


def test_waiting_can_be_cancelled(layout: Layout, events: Recorder) -> None:
    cancel = CancelToken()
    locks = Locks(layout, ["x"], emit=events, cancel=cancel)
    with held("FlockFile", layout.lock, exclusive=True):
        threading.Timer(0.2, cancel.cancel, [signal.SIGTERM]).start()
        with pytest.raises(Cancelled) as caught, locks.storage():
            pass
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_without_locking_nobody_waits(layout: Layout, events: Recorder) -> None:
    locks = Locks(layout, ["x"], emit=events, cancel=CancelToken(), timeout=0, enabled=False)
    with (
        held("FlockFile", layout.lock, exclusive=True),
        locks.storage(exclusive=True),
        locks.images(write=["foo+1"]),
    ):
        pass
    assert os.listdir(layout.locks) == []


def test_name_to_be_written_and_read_is_locked_once(locks: Locks, layout: Layout, events: Recorder) -> None:
    """A build FROM its own earlier result must not wait for itself."""
    with locks.images(write=["foo+1", "bar+1"], read=["foo+1"]):
        other = Locks(layout, ["x"], emit=events, cancel=CancelToken(), timeout=0)
        with pytest.raises(StorageBusy), other.images(read=["foo+1"]):
            pass
    with locks.images(write=["foo+1"]):
        pass


CROSSING = """
import sys
from chimage_core.cancel import CancelToken
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
locks = Locks(Layout(sys.argv[1]), ["x"], emit=lambda event: None, cancel=CancelToken(), timeout=30)
for _ in range(20):
    with locks.storage(), locks.images(write=sys.argv[2:]):
        pass
"""


def test_commands_that_need_the_same_names_in_other_orders_do_not_wait_in_a_circle(layout: Layout) -> None:
    orders = [["a+1", "b+1", "c+1"], ["c+1", "a+1"], ["b+1", "c+1"]]
    children = [subprocess.Popen([sys.executable, "-c", CROSSING, layout.root, *order], cwd=ROOT) for order in orders]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]


def test_failed_work_gives_its_locks_back(locks: Locks, layout: Layout) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), locks.storage(exclusive=True), locks.images(write=["foo+1"]):
            raise RuntimeError
    with locks.storage(exclusive=True):
        pass


def test_lock_file_survives_its_use(locks: Locks, layout: Layout) -> None:
    """Somebody may have opened it and be about to lock it: a new file would be another lock."""
    with locks.storage(exclusive=True):
        inode = os.stat(layout.lock).st_ino
    with locks.storage():
        assert os.stat(layout.lock).st_ino == inode


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_cannot_be_written_is_told(locks: Locks, layout: Layout) -> None:
    os.chmod(layout.locks, 0o500)
    with pytest.raises(FileError, match="lock image foo") as caught, locks.images(write=["foo+1"]):
        pass
    assert "writable" in (caught.value.hint or "")


FLOCK_NUMBER = {"x86_64": 73, "aarch64": 32}.get(platform.machine())

WITHOUT_FLOCK = """
import ctypes, errno, os, struct, sys
number, layout_root = int(sys.argv[1]), sys.argv[2]
load_number, refuse, allow = (0x20, 0, 0, 0), (0x06, 0, 0, 0x00050000 | errno.ENOSYS), (0x06, 0, 0, 0x7FFF0000)
instructions = [load_number, (0x15, 0, 1, number), refuse, allow]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in instructions))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(header)) == 0, ctypes.get_errno()
from chimage_core.cancel import CancelToken
from chimage_core.errors import StorageBusy
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
locks = Locks(Layout(layout_root), ["x"], emit=lambda event: None, cancel=CancelToken(), timeout=0)
with locks.storage():
    print(*sorted(name[:6] for name in os.listdir(layout_root) if name.startswith("lock~")))
    try:
        with locks.storage(exclusive=True):
            print("both")
    except StorageBusy:
        print("busy")
"""


@pytest.mark.skipif(FLOCK_NUMBER is None, reason="system call number of flock not known here")
def test_file_system_without_flock_still_has_locks(layout: Layout) -> None:
    """As on some Lustre and NFS mounts; here the kernel is told to refuse flock(2)."""
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    argv = [sys.executable, "-c", WITHOUT_FLOCK, str(FLOCK_NUMBER), layout.root]
    output = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert output.split() == ["lock~s", "busy"]
    assert not [name for name in os.listdir(layout.root) if "~" in name]
