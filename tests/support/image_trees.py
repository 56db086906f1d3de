"""Random image directories with everything a file can be, and a description of one that two can be compared by."""

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from chimage_core.fs import xattr

NAMES = (
    b"a", b"b", b"file", b"dir", b"with space", b"new\nline", b"\xff\xfe", b"%", b"%41", b"-x", b"=", b"x=y",
    b".git", b".Git", b".gitmodules", b".gitattributes", b".git ", b"git~1", b"GITMOD~1", b"gi7eba~1", b".mailmap",
    b"a\\.git\\b", b".g\xe2\x80\x8cit", b"\xe2\x80\x8c.git", b"..a", b"a.lock", b"...", b"z" * 200, b"\xc3\xa4",
)  # fmt: skip
"""Names that are ordinary for Linux; Git, HFS+ or NTFS have rules for most of them."""

TIMES = (0, 1, -1, -1_500_000_000, 1_700_000_000_123_456_789, 2**32 * 10**9 + 7, 1_234_567_890 * 10**9)
MODES = (0o644, 0o755, 0o000, 0o4755, 0o2750, 0o600, 0o444, 0o1777, 0o111)


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
        if directory != top and random.random() < 0.15:
            os.chmod(directory, random.choice((0o000, 0o555, 0o2755, 0o700)))


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
    kind, content, is_sparse, attributes = "?", b"", False, {}
    mode = modes.get(path, stat.S_IMODE(status.st_mode))
    if stat.S_ISREG(status.st_mode):
        os.chmod(path, 0o600 | mode)
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).digest()
        attributes = xattr.read(path)
        os.chmod(path, mode)
        kind = "f"
        is_sparse = status.st_size >= 1 << 20 and status.st_blocks * 512 < status.st_size // 2
    elif stat.S_ISLNK(status.st_mode):
        kind, content = "l", os.readlink(path)
    elif stat.S_ISDIR(status.st_mode):
        kind, attributes = "d", xattr.read(path)
    elif stat.S_ISFIFO(status.st_mode):
        kind = "p"
    names = tuple(sorted(inodes.get(status.st_ino, [])))
    return Described(kind, mode, status.st_mtime_ns, content, tuple(attributes.items()), names, is_sparse)


def _change(top: bytes, random: Random) -> None:
    directories = [directory for directory, _, _ in os.walk(top)]
    directory = random.choice(directories)
    path = directory + b"/" + random.choice(NAMES)
    kind = random.choice("fffffddllpshhrmmx")
    if kind in "fdlpsh":
        _remove(path)
    if kind == "f":
        _write(path, random)
    elif kind == "d":
        os.mkdir(path)
    elif kind == "l":
        os.symlink(random.choice((b"a", b"../gone", b"/etc/passwd", b"\xff", b"x" * 300)), path)
        os.utime(path, ns=(0, random.choice(TIMES)), follow_symlinks=False)
    elif kind == "p":
        os.mkfifo(path)
        os.chmod(path, 0o640)
    elif kind == "s":
        with open(path, "wb") as file:
            file.truncate(3 << 20)
            file.seek(1 << 20)
            file.write(random.randbytes(100))
    elif kind == "h":
        _link(top, path, random)
    elif kind == "r":
        _remove(path)
    elif kind == "m":
        _rename(top, path, random)
    elif os.path.isfile(path) and not os.path.islink(path):
        _set_metadata(path, random)


def _write(path: bytes, random: Random) -> None:
    with open(path, "wb") as file:
        file.write(random.choice((b"", b"x", random.randbytes(3000), b"text " * 3000, b"same content")))
    _set_metadata(path, random)


def _set_metadata(path: bytes, random: Random) -> None:
    os.chmod(path, 0o700)
    if random.random() < 0.3:
        xattr.write(path, {"user.test": random.randbytes(5), "user.a=b %": b""}, exact=True)
    if not os.path.isdir(path):
        os.chmod(path, random.choice(MODES))
    os.utime(path, ns=(0, random.choice(TIMES)))


def _link(top: bytes, path: bytes, random: Random) -> None:
    files = [
        directory + b"/" + name
        for directory, _, names in os.walk(top)
        for name in names
        if os.path.isfile(directory + b"/" + name) and not os.path.islink(directory + b"/" + name)
    ]
    if files:
        os.link(random.choice(files), path)


def _rename(top: bytes, path: bytes, random: Random) -> None:
    others = [directory + b"/" + name for directory, folders, names in os.walk(top) for name in (*folders, *names)]
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
