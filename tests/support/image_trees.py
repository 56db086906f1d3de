"""Random image directories with everything a file can be, and a description of one that two can be compared by."""

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from chimage_core.fs import xattr

NAMES = (
    b"a", b"b", b"file", b"dir", b"with space", b"new\nline", b"\xff\xfe", b"%", b"%41", b"-x", b"=", b"x=y",
    b".git", b".Git", b".gitmodules", b".gitattributes", b".gitignore", b".git ", b"git~1", b"GITMOD~1", b"gi7eba~1",
    b".mailmap",
    b"a\\.git\\b", b".g\xe2\x80\x8cit", b"\xe2\x80\x8c.git", b"..a", b"a.lock", b"...", b"z" * 200, b"\xc3\xa4",
)  # fmt: skip
"""Names that are ordinary for Linux; Git, HFS+ or NTFS have rules for most of them."""

TIMES = (0, 1, -1, -1_500_000_000, 1_700_000_000_123_456_789, 2**32 * 10**9 + 7, 1_234_567_890 * 10**9)
MODES = (0o644, 0o755, 0o000, 0o4755, 0o2750, 0o600, 0o444, 0o1777, 0o111, 0o7777)
DIRECTORY_MODES = (0o000, 0o555, 0o2755, 0o700, 0o1777, 0o311)
_HOLE = 128 << 10
_BLOCK = 512
"""Bytes in the unit of `st_blocks`."""
_KINDS = {stat.S_IFREG: "f", stat.S_IFLNK: "l", stat.S_IFDIR: "d", stat.S_IFIFO: "p"}


@dataclass(frozen=True, slots=True)
class Described:
    """Everything an image keeps of one entry."""

    kind: str
    mode: int
    mtime: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    names: tuple[bytes, ...]
    """All paths of the same inode."""
    is_sparse: bool
    """It takes less than half of the disk space that its size suggests."""


def make_tree(root: str, random: Random, entries: int = 40) -> None:
    """Make a random tree as the directory `root`."""
    os.mkdir(root)
    change_tree(root, random, entries)


def change_tree(root: str, random: Random, steps: int) -> None:
    """Change a tree at random places, in place, through every kind of change."""
    top = os.fsencode(root)
    with unlocked(root):
        for _ in range(steps):
            _change(top, random)
        for directory, _, _ in os.walk(top):
            if random.random() < 0.3:
                _set_metadata(directory, random)
    for directory, _, _ in os.walk(top, topdown=False):
        # One that cannot be opened cannot be told from others: a root directory is then made anew, which takes longer.
        modes = [mode for mode in DIRECTORY_MODES if directory != top or mode & 0o500 == 0o500]
        if random.random() < 0.15:
            os.chmod(directory, random.choice(modes))


def describe(root: str) -> dict[bytes, Described]:
    """Return everything that is below a directory, and itself as the empty path."""
    top = os.fsencode(root)
    modes: dict[bytes, int] = {}
    inodes: dict[int, list[bytes]] = {}
    with unlocked(root, modes):
        paths = [top]
        for directory, folders, files in os.walk(top):
            paths += [directory + b"/" + name for name in (*folders, *files)]
        for path in paths:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                inodes.setdefault(status.st_ino, []).append(path[len(top) + 1 :])
        return {path[len(top) + 1 :]: _describe(path, modes, inodes) for path in paths}


def disk_blocks(root: str) -> dict[bytes, int]:
    """Return, by path, how many blocks the regular files below a directory take."""
    top = os.fsencode(root)
    with unlocked(root, {}):
        return {
            path[len(top) + 1 :]: os.lstat(path).st_blocks
            for path in _others(top, files_only=True)
            if stat.S_ISREG(os.lstat(path).st_mode)
        }


@contextlib.contextmanager
def unlocked(root: str, modes: dict[bytes, int] | None = None) -> Iterator[None]:
    """Give us all permissions on the directories of a tree for a while."""
    changed: list[tuple[bytes, int]] = []
    pending = [os.fsencode(root)]
    while pending:
        directory = pending.pop()
        mode = stat.S_IMODE(os.lstat(directory).st_mode)
        if modes is not None:
            modes[directory] = mode
        if mode & 0o700 != 0o700:
            os.chmod(directory, mode | 0o700)
            changed.append((directory, mode))
        with os.scandir(directory) as listing:
            pending += [entry.path for entry in listing if entry.is_dir(follow_symlinks=False)]
    try:
        yield
    finally:
        for directory, mode in reversed(changed):
            if modes is not None and os.path.isdir(directory):
                os.chmod(directory, mode)


def _describe(path: bytes, modes: dict[bytes, int], inodes: dict[int, list[bytes]]) -> Described:
    status = os.lstat(path)
    content, is_sparse, attributes = b"", False, {}
    mode = modes.get(path, stat.S_IMODE(status.st_mode))
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "?")
    if kind == "f":
        with _readable(path, mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            attributes = xattr.read(path)
        is_sparse = status.st_size >= 1 << 20 and status.st_blocks * _BLOCK < status.st_size // 2
    elif kind == "l":
        content = os.readlink(path)
    elif kind in "dp":
        attributes = xattr.read(path)
    names = tuple(sorted(inodes.get(status.st_ino, [])))
    return Described(kind, mode, status.st_mtime_ns, content, tuple(attributes.items()), names, is_sparse)


@contextlib.contextmanager
def _readable(path: bytes, mode: int) -> Iterator[None]:
    """Lift permissions where that is needed, and only there: it changes the ctime, which is being watched."""
    if os.access(path, os.R_OK):
        yield
        return
    os.chmod(path, 0o600 | mode)
    try:
        yield
    finally:
        os.chmod(path, mode)


def _change(top: bytes, random: Random) -> None:
    directories = [directory for directory, _, _ in os.walk(top)]
    path = random.choice(directories) + b"/" + _name(random)
    kind = random.choice("fffffddllpshhrmmwwx")
    if kind in "fdlpsh":
        _remove(path)
    if kind == "d":
        os.mkdir(path)
    elif kind == "l":
        os.symlink(random.choice((b"a", b"../gone", b"/etc/passwd", b"\xff", b"x" * 300, os.path.basename(path))), path)
        os.utime(path, ns=(0, random.choice(TIMES)), follow_symlinks=False)
    elif kind == "p":
        os.mkfifo(path)
        _set_metadata(path, random)
    elif kind == "r":
        _remove(path)
    elif kind == "x" and os.path.isfile(path) and not os.path.islink(path):
        _set_metadata(path, random)
    elif kind in "fshmw":
        change: Callable[[bytes, bytes, Random], None] = {
            "f": _write, "s": _write_sparse, "h": _link, "m": _rename, "w": _overwrite
        }[kind]  # fmt: skip
        change(top, path, random)


def _name(random: Random) -> bytes:
    if random.random() < 0.9:
        return random.choice(NAMES)
    name = random.randbytes(random.choice((1, 2, 5))).replace(b"/", b"_").replace(b"\0", b"_")
    return name if name not in (b".", b"..") else b"_"


def _write(_: bytes, path: bytes, random: Random) -> None:
    contents = (b"", b"x", random.randbytes(3000), b"text " * 3000, b"same content", random.randbytes(300) * 6000)
    with open(path, "wb") as file:
        file.write(random.choices(contents, (4, 4, 4, 4, 4, 3))[0])
    _set_metadata(path, random)


def _write_sparse(__: bytes, path: bytes, random: Random) -> None:
    with open(path, "wb") as file:
        file.truncate(random.choice((1 << 20, 3 << 20, (4 << 20) + 1)))
        for _ in range(random.randrange(4)):
            file.seek(random.randrange(8) * _HOLE)
            file.write(random.randbytes(100))
    _set_metadata(path, random)


def _set_metadata(path: bytes, random: Random) -> None:
    os.chmod(path, 0o700)
    if random.random() < 0.3:
        attributes = {"user.test": random.randbytes(5), "user.a=b %": b""}
        if random.random() < 0.5:
            attributes["system.posix_acl_access"] = default_acl()
        if os.path.isdir(path) and random.random() < 0.5:
            attributes[xattr.DEFAULT_ACL] = default_acl()
        xattr.write(path, attributes, exact=True)
    if not os.path.isdir(path):
        os.chmod(path, random.choice(MODES))
    os.utime(path, ns=(0, random.choice(TIMES)))


def _others(top: bytes, *, files_only: bool) -> list[bytes]:
    """Return the paths of all entries, or of all that are no directories."""
    return [
        directory + b"/" + name
        for directory, folders, names in os.walk(top)
        for name in (*(() if files_only else folders), *names)
    ]


def _link(top: bytes, path: bytes, random: Random) -> None:
    others = _others(top, files_only=True)
    if others:
        os.link(random.choice(others), path, follow_symlinks=False)


def _overwrite(top: bytes, _: bytes, random: Random) -> None:
    """Change a file in place, through any of its names, and put its time back as if nothing had been."""
    files = [path for path in _others(top, files_only=True) if stat.S_ISREG(os.lstat(path).st_mode)]
    if not files:
        return
    path = random.choice(files)
    status = os.lstat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(random.choice((0, status.st_size // 2, status.st_size)))
        file.write(random.randbytes(3))
    os.chmod(path, stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(0, status.st_mtime_ns))


def _rename(top: bytes, path: bytes, random: Random) -> None:
    others = _others(top, files_only=False)
    if not others:
        return
    source = random.choice(others)
    if path.startswith(source):
        return
    _remove(path)
    if os.path.lexists(source):
        with contextlib.suppress(OSError):  # EXDEV: an overlay does not move directories of its lower layer.
            os.rename(source, path)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        for directory, folders, names in os.walk(path, topdown=False):
            for name in names:
                os.unlink(directory + b"/" + name)
            for name in folders:
                full = directory + b"/" + name
                (os.unlink if os.path.islink(full) else os.rmdir)(full)
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def default_acl() -> bytes:
    """Return an ACL that gives user 12345 all permissions: acl(5), <linux/posix_acl_xattr.h>."""
    entries = [(0x01, 7, -1), (0x02, 7, 12345), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
