"""Git objects as bytes: their identities, trees and commits.

Source: gitformat-pack(5), git-fsck(1), and "Git Internals" of the Git book.
"""

import hashlib
import re
from typing import NamedTuple

from chimage_core.cache.state import StateID
from chimage_core.errors import CacheBroken

COMMIT, TREE, BLOB = 1, 2, 3
"""Object types as packs number them."""

KIND_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", 4: b"tag"}

DIRECTORY_MODE, SYMLINK_MODE, FILE_MODE, PROGRAM_MODE = b"40000", b"120000", b"100644", b"100755"

_ENTRY = re.compile(rb"([0-7]+) ([^\0/]+)\0(.{20})", re.DOTALL)
_IDENTITY = b"chimage <chimage@localhost>"
_TRAILERS = re.compile(rb"\n\nState-ID: ([0-9a-f]{64})\nFormat: ([0-9]+)\n\Z")


def sha1(data: bytes | memoryview = b"") -> "hashlib._Hash":
    """Return a SHA-1 in progress. It names objects and protects nothing, so FIPS mode must not refuse it."""
    return hashlib.sha1(data, usedforsecurity=False)


def header(kind: int, size: int) -> bytes:
    """Return what Git puts before an object's content when it computes the object's name."""
    return b"%s %d\0" % (KIND_NAMES[kind], size)


def identify(kind: int, data: bytes | memoryview) -> bytes:
    """Return the name of an object, 20 bytes."""
    digest = sha1(header(kind, len(data)))
    digest.update(data)
    return digest.digest()


def encode_tree(entries: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """Return a tree object from (mode, name, object) in any order."""
    ordered = sorted(entries, key=_tree_order)
    return b"".join([b"%s %s\0%s" % entry for entry in ordered])


def decode_tree(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return the entries of a tree object. Raises CacheBroken."""
    entries: list[tuple[bytes, bytes, bytes]] = _ENTRY.findall(data)
    # Together they are as long as the whole only if there is nothing between them.
    if sum([len(mode) + len(name) + 22 for mode, name, _ in entries]) != len(data):
        raise CacheBroken("a tree object in the build cache is malformed")
    return entries


def _tree_order(entry: tuple[bytes, bytes, bytes]) -> bytes:
    mode, name, _ = entry
    return name + b"/" if mode == DIRECTORY_MODE else name


class Commit(NamedTuple):
    """A commit object of ours."""

    tree: bytes
    parents: tuple[bytes, ...]
    time: int
    """Seconds since the epoch."""
    text: str
    state: StateID

    def encode(self) -> bytes:
        """Return the object's content."""
        lines = [b"tree %s" % self.tree.hex().encode()]
        lines += [b"parent %s" % parent.hex().encode() for parent in self.parents]
        stamp = b"%s %d +0000" % (_IDENTITY, self.time)
        lines += [b"author " + stamp, b"committer " + stamp]
        # A NUL would cut the message off for Git.
        text = self.text.encode("utf-8", "surrogateescape").replace(b"\0", b"\\0").strip(b"\n")
        trailers = b"State-ID: %s\nFormat: 1\n" % self.state.hex.encode()
        return b"%s\n\n%s\n\n%s" % (b"\n".join(lines), text, trailers)

    @classmethod
    def decode(cls, data: bytes) -> "Commit":
        """Read the object's content. Raises CacheBroken for a commit that is not of our format."""
        head, _, message = data.partition(b"\n\n")
        trailers = _TRAILERS.search(b"\n" + message)
        if trailers is None or trailers[2] != b"1":
            raise CacheBroken("a commit in the build cache has no State-ID, or a format that this version cannot read")
        tree, parents, time = b"", [], 0
        try:
            for line in head.split(b"\n"):
                key, _, value = line.partition(b" ")
                if key == b"tree":
                    tree = bytes.fromhex(value.decode())
                elif key == b"parent":
                    parents.append(bytes.fromhex(value.decode()))
                elif key == b"committer":
                    time = int(value.rsplit(b" ", 2)[1])
        except (ValueError, IndexError) as error:
            raise CacheBroken("a commit in the build cache is malformed") from error
        if len(tree) != 20:
            raise CacheBroken("a commit in the build cache is malformed")
        text = message[: max(trailers.start() - 1, 0)].decode("utf-8", "surrogateescape")
        return cls(tree, tuple(parents), time, text, StateID.from_hex(trailers[1].decode()))
