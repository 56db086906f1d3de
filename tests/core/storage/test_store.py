"""The storage directory as a whole."""

import itertools
import os
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
from chimage_core.errors import FileError, StorageBusy, StorageInvalid, StorageVersion
from chimage_core.events import Notice, Warned
from chimage_core.fs import xattr
from chimage_core.ops.reset import reset as reset_storage
from chimage_core.settings import Settings
from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.store import VERSION, prepare, reset, validate
from tests.support.host import needs_program
from tests.support.image_trees import default_acl
from tests.support.recorder import Recorder

ROOT = Path(__file__).parents[3]
CH_IMAGE = "/usr/bin/ch-image"

Action = Callable[[], None]


def content(path: str | Path) -> dict[str, bytes | None]:
    """Return everything below a directory; None for directories."""
    found: dict[str, bytes | None] = {}
    for entry in sorted(Path(path).rglob("*")):
        found[str(entry)] = None if entry.is_dir() else entry.read_bytes()
    return found


def add_image(layout: Layout) -> None:
    images = Images(layout)
    os.makedirs(os.path.join(images.workplace("foo+latest").root, "ch"))
    images.publish("foo+latest")


def test_storage_directory_is_made(new_layout: Layout, locks: Locks, events: Recorder) -> None:
    prepare(new_layout, locks, emit=events)
    assert Path(new_layout.version).read_text() == f"chimage {VERSION}\n"
    assert all(os.path.isdir(path) for path in new_layout.directories)
    validate(new_layout)
    assert events == []


def test_images_inherit_no_acl_from_where_the_storage_directory_is(
    new_layout: Layout, locks: Locks, events: Recorder
) -> None:
    """Project directories of clusters give all that is made in them to a group; images are to be as they were made."""
    parent = os.path.dirname(new_layout.root)
    try:
        os.setxattr(parent, xattr.DEFAULT_ACL, default_acl())
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    prepare(new_layout, locks, emit=events)
    assert xattr.DEFAULT_ACL in os.listxattr(new_layout.root)
    for path in new_layout.directories:
        assert xattr.DEFAULT_ACL not in os.listxattr(path)


def test_existing_storage_directory_stays_as_it_is(layout: Layout, locks: Locks, events: Recorder) -> None:
    add_image(layout)
    before = content(layout.root)
    prepare(layout, locks, emit=events)
    assert content(layout.root) == before


@pytest.mark.parametrize("entries", [(), ("mnt",), (".tmp-0123456789abcdef",)])
def test_nearly_empty_directory_becomes_a_storage_directory(
    new_layout: Layout, locks: Locks, events: Recorder, entries: tuple[str, ...]
) -> None:
    """`mnt` is where ch-run mounts images; a temporary file is what a killed process leaves."""
    for name in entries:
        os.makedirs(os.path.join(new_layout.root, name))
    os.makedirs(new_layout.root, exist_ok=True)
    prepare(new_layout, locks, emit=events)
    validate(new_layout)
    assert set(entries) <= set(os.listdir(new_layout.root))


def test_directory_may_be_a_symbolic_link(tmp_path: Path, events: Recorder, locks: Locks) -> None:
    """Many sites link the default to a larger disk."""
    (tmp_path / "large").mkdir()
    (tmp_path / "link").symlink_to("large")
    layout = Layout(str(tmp_path / "link"))
    prepare(layout, locks, emit=events)
    assert (tmp_path / "large" / "version").exists()


@pytest.mark.parametrize("name", ["thesis.tex", "img", "cache", "version"])
def test_foreign_directory_is_refused_and_left_alone(
    new_layout: Layout, locks: Locks, events: Recorder, name: str
) -> None:
    precious = Path(new_layout.root, name)
    precious.parent.mkdir()
    precious.write_text("1\n")
    before = content(new_layout.root)
    actions: list[Action] = [lambda: prepare(new_layout, locks, emit=events), lambda: reset(new_layout)]
    for action in actions:
        with pytest.raises(StorageInvalid, match="not empty") as caught:
            action()
        assert "--storage" in (caught.value.hint or "")
    assert content(new_layout.root) == before


def charliecloud(path: str) -> None:
    """Make a storage directory as Charliecloud's ch-image does; by that program itself, if it is here and works."""
    environment = {"USER": "x", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    if os.path.exists(CH_IMAGE):
        subprocess.run([CH_IMAGE, "-s", path, "list"], env=environment, capture_output=True, check=False)
    if not os.path.exists(os.path.join(path, "version")):
        for name in ("bucache", "bularge", "dlcache", "img", "ulcache"):
            os.makedirs(os.path.join(path, name))
        Path(path, "version").write_text("7\n")
        Path(path, "lock").touch()


def test_storage_directory_of_charliecloud_is_refused_and_left_alone(
    new_layout: Layout, locks: Locks, events: Recorder
) -> None:
    """Both programs have the same default path, and neither understands the other's format."""
    charliecloud(new_layout.root)
    os.makedirs(os.path.join(new_layout.root, "img", "alpine", "bin"))
    before = content(new_layout.root)
    actions: list[Action] = [
        lambda: prepare(new_layout, locks, emit=events),
        lambda: reset(new_layout),
        lambda: validate(new_layout),
    ]
    for action in actions:
        with pytest.raises(StorageInvalid, match="Charliecloud") as caught:
            action()
        assert "--storage" in (caught.value.hint or "")
    assert content(new_layout.root) == before


def test_first_version_of_charliecloud_is_recognised_too(new_layout: Layout, locks: Locks, events: Recorder) -> None:
    """It had no version file."""
    for name in ("img", "dlcache"):
        os.makedirs(os.path.join(new_layout.root, name))
    with pytest.raises(StorageInvalid, match="Charliecloud"):
        prepare(new_layout, locks, emit=events)


def test_missing_storage_directory_is_not_valid(new_layout: Layout) -> None:
    for action in (validate, reset):
        with pytest.raises(StorageInvalid, match="no storage directory"):
            action(new_layout)
    assert not os.path.exists(new_layout.root)


def test_missing_parent_is_told(tmp_path: Path, locks: Locks, events: Recorder) -> None:
    """A mistyped path should not become a tree of directories."""
    layout = Layout(str(tmp_path / "no" / "such" / "storage"))
    with pytest.raises(FileError, match="create storage directory") as caught:
        prepare(layout, locks, emit=events)
    assert str(tmp_path / "no" / "such") in (caught.value.hint or "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("below", [False, True])
def test_file_in_place_of_the_directory_is_told(tmp_path: Path, locks: Locks, events: Recorder, below: bool) -> None:
    (tmp_path / "file").write_text("precious")
    layout = Layout(str(tmp_path / "file" / "below") if below else str(tmp_path / "file"))
    with pytest.raises(StorageInvalid, match="not a directory"):
        prepare(layout, locks, emit=events)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_missing_permission_is_told(tmp_path: Path, locks: Locks, events: Recorder, mode: int) -> None:
    for path in (tmp_path / "parent" / "storage", tmp_path / "storage"):
        directory = path.parent if path.parent != tmp_path else path
        directory.mkdir(mode=mode)
        with pytest.raises(FileError, match="Permission denied") as caught:
            prepare(Layout(str(path)), locks, emit=events)
        assert caught.value.path.startswith(str(tmp_path))
        directory.chmod(0o700)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free block."""
    mount = tmp_path / "tiny"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=100,mode=777", "tiny", str(mount)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("cannot mount a tmpfs")
    (mount / "filler").write_bytes(b"x" * 4096)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.root
def test_full_disk_is_told_and_leaves_something_acceptable(tiny: Path, locks: Locks, events: Recorder) -> None:
    layout = Layout(str(tiny / "storage"))
    with pytest.raises(FileError, match="No space left"):
        prepare(layout, locks, emit=events)
    (tiny / "filler").unlink()
    prepare(layout, locks, emit=events)
    validate(layout)


PREPARE = """
import sys
from chimage_core.cancel import CancelToken
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.store import prepare, validate
layout = Layout(sys.argv[1])
locks = Locks(layout, ["x"], emit=print, cancel=CancelToken())
sys.stdin.read()
prepare(layout, locks, emit=print, old=Layout(sys.argv[2]) if sys.argv[2:] else None)
validate(layout)
with locks.storage():
    pass
"""


def race(count: int, *arguments: str) -> list[str]:
    """Prepare the same directory in several processes at the same time; return what they say."""
    argv = [sys.executable, "-c", PREPARE, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    children = [subprocess.Popen(argv, **pipes) for _ in range(count)]  # type: ignore[call-overload]
    time.sleep(0.5)
    for child in children:
        child.stdin.close()
    output = [child.stdout.read() for child in children]
    for child in children:
        child.stdout.close()
    assert [child.wait() for child in children] == [0] * count
    return output


def test_several_processes_may_make_it_at_once(new_layout: Layout) -> None:
    """A batch job starts a build on every core at the same second."""
    assert race(8, new_layout.root) == [""] * 8
    validate(new_layout)
    assert not [name for name in os.listdir(new_layout.root) if name.startswith(".")]


@needs_program("strace")
def test_what_a_killed_creation_leaves_is_accepted(new_layout: Layout, locks: Locks, events: Recorder) -> None:
    """The process is killed at each of its system calls in turn that changes the file system."""
    argv = [sys.executable, "-c", PREPARE, new_layout.root]
    for count in itertools.count(1):
        strace = ["strace", "-qq", "-e", "trace=mkdir,rename,write", "-o", "/dev/null"]
        child = subprocess.run(
            [*strace, f"--inject=mkdir,rename,write:signal=KILL:when={count}", *argv],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if b"ptrace" in child.stderr:
            pytest.skip("processes may not be traced here")
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        prepare(new_layout, locks, emit=events)
        validate(new_layout)
        shutil.rmtree(new_layout.root)
    assert count > len(new_layout.directories)


@pytest.mark.parametrize("step", range(4))
def test_half_made_directory_is_accepted(new_layout: Layout, locks: Locks, events: Recorder, step: int) -> None:
    """What kill -9 leaves after each step: nothing, an empty directory, a temporary file, our mark alone."""
    if step >= 1:
        os.mkdir(new_layout.root)
    if step >= 2:
        Path(new_layout.root, ".tmp-0123").write_text("chima")
    if step >= 3:
        Path(new_layout.version).write_text(f"chimage {VERSION}\n")
    prepare(new_layout, locks, emit=events)
    validate(new_layout)
    assert all(os.path.isdir(path) for path in new_layout.directories)


@pytest.mark.parametrize("version", [VERSION + 1, 0])
def test_other_version_is_refused_until_reset(layout: Layout, locks: Locks, events: Recorder, version: int) -> None:
    Path(layout.version).write_text(f"chimage {version}\n")
    actions: list[Action] = [lambda: prepare(layout, locks, emit=events), lambda: validate(layout)]
    for action in actions:
        with pytest.raises(StorageVersion, match=f"version {version}") as caught:
            action()
        assert "reset" in (caught.value.hint or "")
    reset(layout)
    validate(layout)


def test_older_version_is_upgraded_by_one_process_while_others_wait(
    layout: Layout, locks: Locks, events: Recorder
) -> None:
    Path(layout.version).write_text(f"chimage {VERSION - 1}\n")
    upgraded: list[str] = []

    def upgrade(found: Layout) -> None:
        other = Locks(found, ["x"], emit=events, cancel=CancelToken(), timeout=0)
        with pytest.raises(StorageBusy), other.storage():
            pass
        upgraded.append(found.root)

    threads = [
        threading.Thread(
            target=prepare, args=(layout, locks), kwargs={"emit": events, "upgrades": {VERSION - 1: upgrade}}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert upgraded == [layout.root]
    assert events.of(Notice)
    validate(layout)


def test_reset_deletes_images_and_caches_but_neither_jobs_nor_what_is_not_ours(layout: Layout) -> None:
    add_image(layout)
    for path in (layout.git, layout.large, os.path.join(layout.mounts, "x"), os.path.join(layout.jobs, "1")):
        os.makedirs(path)
    Path(layout.blobs, "sha256").touch()
    Path(layout.root, "mnt").mkdir()
    os.chmod(os.path.join(layout.images, "foo+latest", "ch"), 0o000)
    reset(layout)
    validate(layout)
    for path in (layout.images, layout.sides, layout.cache, layout.blobs, layout.mounts, layout.works, layout.trash):
        assert os.listdir(path) == []
    assert os.listdir(layout.jobs) == ["1"]
    assert os.path.isdir(os.path.join(layout.root, "mnt"))


def test_reset_follows_no_link(layout: Layout, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    os.rmdir(layout.images)
    os.symlink(precious, layout.images)
    reset(layout)
    assert (precious / "file").exists()
    assert not os.path.islink(layout.images)


@pytest.fixture
def old(tmp_path: Path, events: Recorder) -> Layout:
    """A storage directory at the old default path, with an image."""
    (tmp_path / "user").mkdir()
    layout = Layout(str(tmp_path / "user" / "ch-image"))
    prepare(layout, Locks(layout, ["x"], emit=events, cancel=CancelToken()), emit=events)
    add_image(layout)
    return layout


def test_storage_directory_at_the_old_default_is_moved(
    old: Layout, new_layout: Layout, locks: Locks, events: Recorder
) -> None:
    prepare(new_layout, locks, emit=events, old=old)
    assert not os.path.exists(old.root)
    assert Images(new_layout).names() == ("foo+latest",)
    assert new_layout.root in events.one(Notice).text
    events.clear()
    prepare(new_layout, locks, emit=events, old=old)
    assert events == []


def test_several_processes_may_move_it_at_once(old: Layout, new_layout: Layout) -> None:
    said = race(4, new_layout.root, old.root)
    assert sum("moved storage directory" in text for text in said) == 1
    assert Images(new_layout).names() == ("foo+latest",)


def test_old_default_is_left_alone_if_there_is_a_new_one(
    old: Layout, layout: Layout, locks: Locks, events: Recorder
) -> None:
    prepare(layout, locks, emit=events, old=old)
    assert Images(old).names() == ("foo+latest",)
    assert Images(layout).names() == ()
    assert old.root in events.one(Warned).text


def test_old_default_in_use_is_waited_for(old: Layout, new_layout: Layout, events: Recorder) -> None:
    locks = Locks(new_layout, ["x"], emit=events, cancel=CancelToken(), timeout=0)
    with locks.elsewhere(old).storage(), pytest.raises(StorageBusy):
        prepare(new_layout, locks, emit=events, old=old)
    assert Images(old).names() == ("foo+latest",)


def test_directory_of_charliecloud_at_the_old_default_is_left_alone(
    tmp_path: Path, new_layout: Layout, locks: Locks, events: Recorder
) -> None:
    old = Layout(str(tmp_path / "old"))
    charliecloud(old.root)
    before = content(old.root)
    prepare(new_layout, locks, emit=events, old=old)
    assert content(old.root) == before
    assert events == []


@pytest.mark.root
def test_default_directory_of_another_user_is_refused(new_layout: Layout, locks: Locks, events: Recorder) -> None:
    """/var/tmp is writable for all: who makes our directory first could make us delete our own files."""
    none = Layout("/nonexistent")
    os.mkdir(new_layout.root)
    os.chown(new_layout.root, 12345, 12345)
    with pytest.raises(StorageInvalid, match="12345"):
        prepare(new_layout, locks, emit=events, old=none)
    os.rename(new_layout.root, f"{new_layout.root}.real")
    os.symlink(f"{new_layout.root}.real", new_layout.root)
    with pytest.raises(StorageInvalid, match="12345"):
        prepare(new_layout, locks, emit=events, old=none)
    prepare(new_layout, locks, emit=events)


@pytest.mark.root
def test_default_directory_of_another_user_is_not_reset(layout: Layout, events: Recorder) -> None:
    settings = Settings.resolve({"storage": layout.root}, {})._replace(old_storage="/nonexistent")
    os.chown(layout.root, 12345, 12345)
    before = content(layout.root)
    with pytest.raises(StorageInvalid, match="12345"):
        reset_storage(settings, ["chimage", "reset"], emit=events, cancel=CancelToken())
    assert content(layout.root) == before


@pytest.mark.root
def test_directory_of_another_user_is_not_written_even_by_root(layout: Layout, locks: Locks) -> None:
    """What root makes there, its owner could neither lock nor delete."""
    os.chown(layout.root, 12345, -1)
    with pytest.raises(StorageInvalid, match=r"belongs to user 12345"):
        prepare(layout, locks, emit=Recorder())
