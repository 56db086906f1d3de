"""Turn an image directory from one tree into another by changing only what differs."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from chimage_core.cache.git import metadata, statcache
from chimage_core.cache.git.materialize import Filled, Materializer, finish_directory, make_late
from chimage_core.cache.git.statcache import DIRECTORY_NUMBERS, Record, numbers_of, pack_numbers
from chimage_core.cache.git.trees import Directory, ObjectReader, beneath, join, load_directory, walk
from chimage_core.errors import file_errors
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.xattr import AttributeWriter, remove_default_acl

_DIRECTORY = pack_numbers(DIRECTORY_NUMBERS)


@dataclass(slots=True)
class _Visit:
    """A directory that is in both trees, and differs."""

    path: bytes
    own: bytes
    removed: list[bytes] = field(default_factory=list)
    """Names to remove, also of what is then made anew."""
    made: list[tuple[bytes, bytes, bytes | None]] = field(default_factory=list)
    """Name, line and content of entries to make."""
    altered: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Name and line of files that only get other metadata."""
    folders: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Name and tree of directories to make."""


@dataclass(slots=True)
class Delta:
    """What has to be done to get from one tree to another."""

    target: bytes
    visits: list[_Visit] = field(default_factory=list)
    """Parents first."""
    size: int = 0
    """Entries to change; a whole directory counts as one."""


def compare(source_store: ObjectReader, source: bytes, store: ObjectReader, target: bytes) -> Delta:
    """Return the difference between two root trees."""
    delta = Delta(target)
    pending = [(b"", source, target)]
    while pending:
        path, source_tree, target_tree = pending.pop()
        if source_tree == target_tree:
            continue
        old, new = load_directory(source_store, source_tree), load_directory(store, target_tree)
        visit = _compare_directory(path, old, new)
        delta.visits.append(visit)
        delta.size += len(visit.removed) + len(visit.made) + len(visit.altered) + len(visit.folders)
        for name in old.folders.keys() & new.folders.keys():
            pending.append((join(path, name), old.folders[name], new.folders[name]))
    return delta


def apply(delta: Delta, root: str, records: dict[bytes, Record], maker: Materializer) -> None:
    """Change the directory `root`, which holds the source tree, and its stat records, in place.

    Raises FileError, CacheBroken, Cancelled; the directory is then somewhere between.
    """
    top = os.fsencode(root) + b"/"
    with file_errors("write image", root):
        anchors, closed = _link_anchors(delta, maker.store)
        visits = sorted([*delta.visits, *closed], key=lambda visit: visit.path)
        for visit in visits:
            maker.cancel.check()
            _open_up(top + visit.path, maker.xattrs)
        _remove(delta, top, records)
        first = {number: top + path for number, path in anchors.items()}
        filled = []
        for visit in delta.visits:
            maker.cancel.check()
            filled += _make(visit, top, records, maker, first)
        # Only now, since a link may lead from one new directory into another, and that may be closed.
        for folder in filled:
            records.update(maker.finish(folder))
        for visit in reversed(visits):
            own = finish_directory(top + visit.path, visit.own, maker.xattrs, exact=True)
            _, names, numbers = records[visit.path]
            records[visit.path] = own, names, numbers


def _compare_directory(path: bytes, old: Directory, new: Directory) -> _Visit:
    visit = _Visit(path, new.own)
    for name in sorted(old.lines.keys() | old.folders.keys()):
        if name in old.folders:
            if name not in new.folders:
                visit.removed.append(name)
        elif old.lines[name] != new.lines.get(name) or old.contents.get(name) != new.contents.get(name):
            if _only_metadata_differs(name, old, new):
                visit.altered.append((name, new.lines[name]))
            else:
                visit.removed.append(name)
    gone = set(visit.removed)
    visit.made = [
        (name, line, new.contents.get(name))
        for name, line in new.lines.items()
        if name in gone or name not in old.lines
    ]
    visit.folders = [(name, tree) for name, tree in new.folders.items() if name not in old.folders]
    return visit


def _only_metadata_differs(name: bytes, old: Directory, new: Directory) -> bool:
    one, other = old.lines[name], new.lines.get(name)
    return (
        other is not None
        and one[:1] == other[:1] == b"f"
        and old.contents[name] == new.contents[name]
        # What is linked to others may not be changed where it is.
        and not any(key in line for key in (b" hl=", b" ext=", b" big=") for line in (one, other))
    )


def _open_up(full: bytes, xattrs: AttributeWriter) -> None:
    """Give us all permissions on a directory, and what is made in it none; it gets its own metadata at the end."""
    mode = stat.S_IMODE(os.lstat(full).st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(full, mode | 0o700)
    if xattrs.is_on:
        remove_default_acl(full)


def _remove(delta: Delta, top: bytes, records: dict[bytes, Record]) -> None:
    gone: set[bytes] = set()
    for visit in delta.visits:
        listing = statcache.entries(records[visit.path])
        for name in visit.removed:
            child = join(visit.path, name)
            if listing.pop(name, None) == _DIRECTORY:
                gone.add(child)
                remove_tree(os.fsdecode(top + child))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(top + child)
        records[visit.path] = statcache.make_record(b"", listing)
    if gone:
        for path in beneath(records, gone):
            del records[path]


def _link_anchors(delta: Delta, store: ObjectReader) -> tuple[dict[int, bytes], list[_Visit]]:
    """Return, by hard link group of the target tree, a member that is there already and stays.

    Also the directories above these that are not searchable for their owner: they have to be opened, too.
    """
    made = {join(visit.path, name) for visit in delta.visits for name, _, _ in visit.made}
    has_links = any(b" hl=" in line for visit in delta.visits for _, line, _ in visit.made)
    folders = {join(visit.path, name) for visit in delta.visits for name, _ in visit.folders}
    if not has_links and not folders:
        return {}, []
    anchors: dict[int, bytes] = {}
    owns: dict[bytes, bytes] = {}
    for path, directory in walk(store, delta.target, folders):
        owns[path] = directory.own
        for name, line in directory.lines.items():
            number = metadata.link_number(line)
            full = join(path, name)
            if number is not None and full not in made:
                anchors.setdefault(number, full)
    above = {path for anchor in anchors.values() for path in _ancestors(anchor)}
    above.difference_update(visit.path for visit in delta.visits)
    return anchors, [_Visit(path, owns[path]) for path in above if not metadata.mode_of(owns[path]) & stat.S_IXUSR]


def _ancestors(path: bytes) -> Iterator[bytes]:
    """Give the directories above an entry, down from its own to the root."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _make(
    visit: _Visit, top: bytes, records: dict[bytes, Record], maker: Materializer, first: dict[int, bytes]
) -> list[Filled]:
    """Make and alter the entries of a directory; return the new subdirectories, which are to be finished."""
    filled = []
    listing = statcache.entries(records[visit.path])
    for name, line, content in visit.made:
        make_late(maker, top[:-1], visit.path, metadata.parse_line(line), content, first)
        listing[name] = pack_numbers(numbers_of(os.lstat(top + join(visit.path, name))))
    for name, line in visit.altered:
        listing[name] = pack_numbers(numbers_of(_alter(top + join(visit.path, name), line, maker.xattrs)))
    for name, tree in visit.folders:
        child = join(visit.path, name)
        os.mkdir(top + child, 0o700)
        filled.append(maker.fill(tree, os.fsdecode(top[:-1]), first, child))
        listing[name] = _DIRECTORY
    records[visit.path] = statcache.make_record(b"", listing)
    return filled


def _alter(full: bytes, line: bytes, xattrs: AttributeWriter) -> os.stat_result:
    """Give a file other metadata."""
    entry = metadata.parse_line(line)
    if xattrs.is_on:
        os.chmod(full, 0o600)
        xattrs.write(full, entry.xattrs, exact=True)
    os.chmod(full, entry.mode)
    os.utime(full, ns=(entry.mtime, entry.mtime))
    return os.lstat(full)
