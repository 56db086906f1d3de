"""Make the Git tree of an image from what a scan found and from the tree of the last commit."""

import hashlib
import re
from collections.abc import Iterable

from chimage_core.cache.git import metadata
from chimage_core.cache.git.differences import Change, Found
from chimage_core.cache.git.trees import Directory, ObjectSink, Trees, join, store_directory

_LINKS_KEY = re.compile(rb" links=([0-9]{1,18})")
_LARGE = re.compile(rb" big=([0-9a-f]{40}):[0-9]+")
"""A large file that was read. Where its content is kept is no part of what it is."""
_TIMES = re.compile(rb"(?m)^([dflp][0-7]{4}) -?[0-9]+ ")
_CONFIGURATION = b"ch"
"""Directory in the root of every image that holds our notes about it, made anew at every import."""


class Identity:
    """What an imported tree is, apart from when: names, types, modes, attributes, contents.

    Times are no part of it, because unpacking the same archive makes directories and our own files anew. So importing
    it again gives the same state.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def add(self, path: bytes, directory: Directory) -> None:
        """Take note of a directory, after all its subdirectories."""
        lines = b"\n".join([directory.own, *[directory.lines[name] for name in sorted(directory.lines)]])
        digest = hashlib.sha256(_LARGE.sub(b"", _TIMES.sub(rb"\1 ", lines)))
        for name in sorted(directory.contents):
            large = _LARGE.search(directory.lines[name])
            digest.update(bytes.fromhex(large[1].decode()) if large else directory.contents[name])
        for name in sorted(directory.folders):
            if path or name != _CONFIGURATION:
                digest.update(b"\0" + name + b"\0" + self._known.pop(join(path, name)))
        self._known[path] = digest.digest()

    def value(self) -> bytes:
        """Return the identity of the whole tree, 32 bytes."""
        return self._known[b""]


def build_tree(
    changes: dict[bytes, Change], base: Trees | None, sink: ObjectSink, identity: Identity | None = None
) -> bytes | None:
    """Write the trees of changed directories and of those above; return the tree of the root.

    None if nothing changed. Contents must have been read. `identity` is only for a tree without a base.
    """
    if not changes:
        return None
    highest = _number_links(changes, base)
    for path in list(changes):
        while path:
            path = path.rpartition(b"/")[0]
            if path in changes:
                break
            changes[path] = Change()
    trees: dict[bytes, bytes] = {}
    for path in sorted(changes, key=_depth, reverse=True):
        change = changes[path]
        directory = _apply(path, change, None if base is None else base.get(path), trees)
        if not path:
            directory.own = _with_links(directory.own, highest)
        trees[path] = store_directory(sink, directory)
        if base is not None:
            base.remember(trees[path], directory)
        if identity is not None:
            identity.add(path, directory)
        if path:
            parent, _, name = path.rpartition(b"/")
            changes[parent].folders.add(name)
    return trees[b""]


def _depth(path: bytes) -> int:
    return path.count(b"/") if path else -1


def _apply(path: bytes, change: Change, old: Directory | None, trees: dict[bytes, bytes]) -> Directory:
    if old is None:
        directory = Directory(own=change.own or b"")
    elif change.is_complete:
        directory = Directory(own=change.own or old.own)
    else:
        own = change.own or old.own
        directory = Directory(own, dict(old.lines), dict(old.contents), dict(old.folders))
    for name in change.removed:
        _drop(directory, name)
    for name, found in change.found.items():
        directory.folders.pop(name, None)
        directory.lines[name] = found.line()
        if found.content is None:
            directory.contents.pop(name, None)
        else:
            directory.contents[name] = found.content.name
    for name in change.folders:
        tree = trees.get(join(path, name)) or (None if old is None else old.folders.get(name))
        assert tree is not None, "a directory that did not change was there before"
        _drop(directory, name)
        directory.folders[name] = tree
    return directory


def _drop(directory: Directory, name: bytes) -> None:
    directory.lines.pop(name, None)
    directory.contents.pop(name, None)
    directory.folders.pop(name, None)


def _link_groups(changes: dict[bytes, Change]) -> dict[int, list[tuple[bytes, Found]]]:
    """Return the entries that have or had several names, by inode."""
    groups: dict[int, list[tuple[bytes, Found]]] = {}
    for path, change in changes.items():
        for found in change.found.values():
            if found.links > 1 or found.same_inode:
                groups.setdefault(found.inode, []).append((path, found))
    return groups


def _number_links(changes: dict[bytes, Change], base: Trees | None) -> int:
    """Give hard links their group numbers; return the highest number of the image.

    A number stays with an inode: who sees the same inode under the same name as before keeps it, also as the last of
    its group, since the others may be where nobody looked. Whoever has a new inode and shares it gets a new number.
    """
    root = None if base is None else base.get(b"")
    match = None if root is None else _LINKS_KEY.search(root.own)
    highest = int(match[1]) if match else 0
    groups = sorted(_sorted_members(_link_groups(changes).values()), key=lambda group: group[0][0])
    for group in groups:
        number = next((known for _, path, found in group if (known := _known_number(base, path, found))), None)
        if number is None and len(group) > 1:
            highest += 1
            number = highest
        if number is not None:
            for _, _, found in group:
                found.keys.insert(0, b"hl=%d" % number)
    return highest


def _sorted_members(groups: Iterable[list[tuple[bytes, Found]]]) -> list[list[tuple[bytes, bytes, Found]]]:
    return [
        sorted(((join(path, found.name), path, found) for path, found in group), key=lambda member: member[0])
        for group in groups
    ]


def _known_number(base: Trees | None, path: bytes, found: Found) -> int | None:
    if base is None or not found.same_inode:
        return None
    directory = base.get(path)
    line = None if directory is None else directory.lines.get(found.name)
    return None if line is None else metadata.link_number(line)


def _with_links(own: bytes, highest: int) -> bytes:
    own = _LINKS_KEY.sub(b"", own)
    return own + b" links=%d" % highest if highest else own
