"""Find what changed in an image directory since its last commit.

The whole tree is compared with the stat cache, or only what a step is known to have touched. The outcome is, per
directory, which entries differ; contents are not read here but listed, for `contents` to read them in parallel. The
exception are files behind permissions that even their owner has to lift first: they are read at once, since the
permissions are put back before the scan goes on.

The directory belongs to us and nobody writes to it meanwhile (its name is locked), so paths are safe to use.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from operator import attrgetter, itemgetter

from chimage_core.cache.git import metadata, statcache
from chimage_core.cache.git.contents import Content, content_of, read_content
from chimage_core.cache.git.copying import Copied, adopt
from chimage_core.cache.git.differences import Change, Found
from chimage_core.cache.git.large import LARGE
from chimage_core.cache.git.objects import BLOB
from chimage_core.cache.git.statcache import (
    DIRECTORY_NUMBERS,
    ENTRY,
    Record,
    numbers_of,
    own_numbers,
    pack_numbers,
)
from chimage_core.cache.git.trees import ObjectSink, Trees, beneath, join
from chimage_core.cancel import CancelToken
from chimage_core.errors import file_errors
from chimage_core.fs import xattr
from chimage_core.rootfs.touched import Touched

_NAME = attrgetter("name")
_DIRECTORY = pack_numbers(DIRECTORY_NUMBERS)
_LETTERS = {stat.S_IFREG: b"f", stat.S_IFLNK: b"l", stat.S_IFIFO: b"p"}

Claim = Callable[[Content, bytes, os.stat_result, bytes], None]
"""Decides whether the content of a file is kept as a large one: content, path in the image, status, and what the last
content of that path is called among the large files, if it is there."""
Visit = tuple[bytes, os.stat_result, Touched]
"""A directory that was there before: its path, its status, and what was touched in it."""


class _Nested:
    """Contexts, each inside the one before; without the recursion that directories of any depth would need."""

    def __init__(self) -> None:
        self._contexts: list[contextlib.AbstractContextManager[None]] = []

    def __enter__(self) -> "_Nested":
        return self

    def __exit__(self, *_: object) -> None:
        while self._contexts:
            self.leave()

    def enter(self, context: contextlib.AbstractContextManager[None]) -> None:
        """Enter a context inside all others."""
        context.__enter__()
        self._contexts.append(context)

    def leave(self) -> None:
        """Leave the context that was entered last."""
        self._contexts.pop().__exit__(None, None, None)


class Scanner:
    """One scan. Its results are in the public fields."""

    def __init__(
        self,
        root: str,
        records: dict[bytes, Record],
        base: Trees | None,
        sink: ObjectSink,
        *,
        claim: Claim,
        linked: Callable[[], set[tuple[int, int]]],
        copied: Callable[[bytes], Copied | None] | None = None,
        xattrs: bool,
        cancel: CancelToken,
    ) -> None:
        """Compare `root` with the stat records and the tree of its last commit. What is read at once goes to `sink`.

        `claim` is called for the content of every big file that is left to be read; `linked` tells device and inode of
        the files that are large ones at the same time; `copied`, what is known of the content of a file with these
        numbers (of `statcache`).
        """
        self.changes: dict[bytes, Change] = {}
        """By path; only directories in which something may differ."""
        self.records: dict[bytes, Record] = {}
        """New records of directories that changed."""
        self.pending: list[tuple[bytes, Found]] = []
        """Files to be read, with the paths of their directories."""
        self.sockets: list[str] = []
        """Full paths of new sockets. They are treated as if they were not there, since nobody could answer on them."""
        self.devices: list[str] = []
        """Full paths of new devices, also passed over."""
        self._root = os.fsencode(root) + b"/"
        self._old = records
        self._base = base
        self._sink = sink
        self._claim = claim
        self._ask_linked = linked
        self._copied = copied
        self._xattrs = xattrs
        self._cancel = cancel
        self._is_privileged = os.geteuid() == 0
        self._behind_permissions = 0
        self._gone: set[bytes] = set()
        """Directories that were there and are no longer; what was below them is not listed."""

    def everything(self) -> None:
        """Compare the whole tree. Raises FileError, CacheError (a file that changes meanwhile), Cancelled."""
        with file_errors("read image", os.fsdecode(self._root)):
            self._walk(b"", os.lstat(self._root), is_new=self._base is None)
            self._complete_links()

    def touched(self, touched: Touched) -> None:
        """Compare only what was touched. Raises as `everything` does."""
        with file_errors("read image", os.fsdecode(self._root)):
            self._visit(b"", os.lstat(self._root), touched)

    def unseen_links(self) -> set[int]:
        """Return the inodes of found entries that have more names than were found."""
        names: dict[int, int] = {}
        for change in self.changes.values():
            for found in change.found.values():
                if found.links > 1:
                    names[found.inode] = names.get(found.inode, found.links) - 1
        return {inode for inode, missing in names.items() if missing}

    def vanished(self) -> list[bytes]:
        """Return the paths of directories that have a record but are gone."""
        return beneath(self._old, self._gone) if self._gone else []

    def full_path(self, directory: bytes, found: Found) -> bytes:
        """Return where an entry is."""
        return self._root + join(directory, found.name)

    def _complete_links(self) -> None:
        """Look at the unchanged names, too, of files that also have a new one.

        Mostly a file's names change together, since a new link changes the ctime. Not if the directory of one moved.
        """
        inodes = self.unseen_links()
        if not inodes:
            return
        for path in self._old.keys() - set(self.vanished()):
            record = self.records.get(path, self._old[path])
            if inodes.isdisjoint(statcache.inodes(record)):
                continue
            change = self.changes.setdefault(path, Change())
            with self._reachable(path):
                for name, numbers in statcache.entries(record).items():
                    if statcache.inode(numbers) in inodes and name not in change.found:
                        status = os.lstat(self._root + join(path, name))
                        self._examine(path, change, name, status, pack_numbers(numbers_of(status)), numbers)

    def _walk(self, path: bytes, status: os.stat_result, *, is_new: bool) -> None:
        """Compare a directory and all below it; one that `is_new` was not there at the last commit."""
        pending: list[tuple[bytes, os.stat_result | None, bool]] = [(path, status, is_new)]
        with _Nested() as opened:
            while pending:
                self._cancel.check()
                path, there, is_new = pending.pop()
                if there is None:  # All below was compared.
                    opened.leave()
                    self._renew_own_numbers(path)
                    continue
                if not self._is_open(there):
                    opened.enter(self._opened(self._root + path, there))
                    pending.append((path, None, False))
                pending += self._compare(path, there, is_new)

    def _compare(self, path: bytes, status: os.stat_result, is_new: bool) -> list[tuple[bytes, os.stat_result, bool]]:
        """Compare one directory with its record; return its subdirectories. This is the hot loop of a scan.

        If the stat cache was lost once, there can be a record of a directory that is gone, since nothing is known of
        the one that held it. So a record of what is new is none: the same files may have moved away and come back.
        """
        with os.scandir(self._root + path) as listing:
            entries = sorted(listing, key=_NAME)
        numbers: list[int] = []
        folders = []
        for entry in entries:
            entry_status = entry.stat(follow_symlinks=False)
            mode = entry_status.st_mode
            if mode & 0o170000 == 0o040000:
                folders.append((entry.name, entry_status))
                numbers += DIRECTORY_NUMBERS
            else:
                numbers += (entry_status.st_ino, entry_status.st_ctime_ns, entry_status.st_size, mode)
        record = own_numbers(status), b"/".join([entry.name for entry in entries]), pack_numbers(numbers)
        old = None if is_new else self._old.get(path)
        if record == old:
            return [(join(path, name), folder_status, False) for name, folder_status in folders]
        self._compare_entries(path, status, old, record, entries)
        fresh = self.changes[path].folders
        return [(join(path, name), folder_status, name in fresh) for name, folder_status in folders]

    def _compare_entries(
        self,
        path: bytes,
        status: os.stat_result,
        old: Record | None,
        record: Record,
        entries: "list[os.DirEntry[bytes]]",
    ) -> None:
        before = {} if old is None else statcache.entries(old)
        change = self.changes[path] = Change(is_complete=old is None)
        if old is None or old[0] != record[0]:
            change.own = self._own_line(path, status)
        self.records[path] = record
        for position, entry in enumerate(entries):
            numbers = record[2][ENTRY * position : ENTRY * position + ENTRY]
            was = before.pop(entry.name, None)
            if numbers == was:
                continue
            if numbers == _DIRECTORY:
                change.folders.add(entry.name)
                continue
            if was == _DIRECTORY:
                self._gone.add(join(path, entry.name))
            entry_status = entry.stat(follow_symlinks=False)
            if was is None or not self._is_only_linked(entry_status, numbers, was):
                self._examine(path, change, entry.name, entry_status, numbers, was)
        change.removed.update(before)
        self._gone.update([join(path, name) for name, was in before.items() if was == _DIRECTORY])

    def _visit(self, path: bytes, status: os.stat_result, touched: Touched) -> None:
        """Compare what was touched in a directory that was there before, and below it."""
        pending: list[tuple[bytes, os.stat_result | None, Touched]] = [(path, status, touched)]
        with _Nested() as opened:
            while pending:
                path, there, touched = pending.pop()
                if there is None:  # All below was visited.
                    opened.leave()
                    self._renew_own_numbers(path)
                    continue
                if not self._is_open(there):
                    opened.enter(self._opened(self._root + path, there))
                    pending.append((path, None, {}))
                pending += self._visit_entries(path, there, touched)

    def _visit_entries(self, path: bytes, status: os.stat_result, touched: Touched) -> list[Visit]:
        """Compare what was touched in one directory; return the subdirectories to be visited."""
        old = self._old.get(path)
        listing = {} if old is None else statcache.entries(old)
        own = own_numbers(status)
        change = self.changes[path] = Change()
        visits: list[Visit] = []
        if old is None or old[0] != own:
            change.own = self._own_line(path, status)
        for name, below in sorted(touched.items()):
            self._cancel.check()
            was = listing.pop(name, None)
            numbers = self._visit_entry(path, change, name, below, was, visits)
            if numbers is not None:
                listing[name] = numbers
            if was == _DIRECTORY and numbers != _DIRECTORY:
                self._gone.add(join(path, name))
        if old is not None:
            self.records[path] = statcache.make_record(own, {**listing, **self._restated(path, change)})
        return visits

    def _visit_entry(
        self,
        path: bytes,
        change: Change,
        name: bytes,
        below: Touched | None,
        was: bytes | None,
        visits: list[Visit],
    ) -> bytes | None:
        """Look at one touched entry; return its numbers, or None if it is gone. Directories to visit go to `visits`."""
        child = join(path, name)
        try:
            status = os.lstat(self._root + child)
        except (FileNotFoundError, NotADirectoryError):
            change.removed.add(name)
            return None
        if stat.S_ISDIR(status.st_mode):
            change.folders.add(name)
            is_new = self._base is None or self._base.get(child) is None
            if below is None or is_new:
                self._walk(child, status, is_new=is_new)
            else:
                visits.append((child, status, below))
            return _DIRECTORY
        numbers = pack_numbers(numbers_of(status))
        if numbers != was and (was is None or not self._is_only_linked(status, numbers, was)):
            self._examine(path, change, name, status, numbers, was)
        return numbers

    def _is_only_linked(self, status: os.stat_result, numbers: bytes, was: bytes) -> bool:
        """Return whether a file has another ctime only because images share it: each one that comes changes that."""
        return (
            status.st_size >= LARGE
            and status.st_nlink > 1
            and statcache.differ_in_ctime(numbers, was)
            and (status.st_dev, status.st_ino) in self._linked
        )

    @cached_property
    def _linked(self) -> set[tuple[int, int]]:
        return self._ask_linked()

    def _examine(
        self,
        path: bytes,
        change: Change,
        name: bytes,
        status: os.stat_result,
        numbers: bytes,
        was: bytes | None,
    ) -> None:
        """Take note of an entry that may differ, and is not a directory."""
        kind = _LETTERS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            full = self._root + join(path, name)
            change.removed.add(name)
            (self.sockets if stat.S_ISSOCK(status.st_mode) else self.devices).append(os.fsdecode(full))
            return
        same_inode = was is not None and was[:8] == numbers[:8]
        mode = stat.S_IMODE(status.st_mode)
        found = Found(name, kind, mode, status.st_mtime_ns, [], status.st_ino, status.st_nlink, same_inode)
        change.found[name] = found
        if kind == b"f":
            found.content = content_of(status)
            copied = None if self._copied is None else self._copied(numbers)
            if copied is not None and self._is_taken_over(path, found, status, copied):
                return
        full = self._root + join(path, name)
        if kind == b"l":
            target = os.readlink(full)
            found.content = Content(len(target), name=self._sink.add(BLOB, target))
            return
        if kind == b"p":
            found.keys = self._xattr_keys(full)
            return
        assert found.content is not None
        if mode & stat.S_IRUSR or self._is_privileged:
            found.keys = self._xattr_keys(full)
            if self._behind_permissions:
                read_content(full, found.content, self._sink)
            else:
                if status.st_size >= LARGE:
                    self._claim_large(path, found, status)
                self.pending.append((path, found))
            return
        with self._opened(full, status):
            found.keys = self._xattr_keys(full)
            read_content(full, found.content, self._sink)
        self.restate([(path, name)])

    def _is_taken_over(self, path: bytes, found: Found, status: os.stat_result, copied: Copied) -> bool:
        """Take over what is known of a copied file; return False if it has to be read nevertheless."""
        content = found.content
        assert content is not None, "a regular file has a content"
        if status.st_size >= LARGE and not self._behind_permissions:
            self._claim_large(path, found, status)
            if content.large:  # Declared: what it holds does not matter.
                return False
        if copied.is_large and not content.is_candidate:
            return False
        if copied.has_attributes:
            if not (found.mode & stat.S_IRUSR or self._is_privileged):
                return False
            found.keys = self._xattr_keys(self._root + join(path, found.name))
        adopt(copied, content)
        if content.large:
            self.pending.append((path, found))
        return True

    def _claim_large(self, path: bytes, found: Found, status: os.stat_result) -> None:
        directory = None if self._base is None else self._base.get(path)
        line = b"" if directory is None else directory.lines.get(found.name, b"")
        assert found.content is not None
        self._claim(found.content, join(path, found.name), status, metadata.large_name(line))

    def restate(self, files: Iterable[tuple[bytes, bytes]]) -> None:
        """Put the numbers of files into the records of their directories again: we have changed their ctimes.

        A file is given by the path of its directory and its name. Raises OSError.
        """
        for path, group in itertools.groupby(files, itemgetter(0)):
            renewed = {name: pack_numbers(numbers_of(os.lstat(self._root + join(path, name)))) for _, name in group}
            record = self.records.get(path)
            if record is not None:
                self.records[path] = statcache.make_record(record[0], {**statcache.entries(record), **renewed})

    def _restated(self, path: bytes, change: Change) -> dict[bytes, bytes]:
        """Return the numbers of files that `_examine` had to make readable."""
        if self._is_privileged:
            return {}
        return {
            name: pack_numbers(numbers_of(os.lstat(self._root + join(path, name))))
            for name, found in change.found.items()
            if found.kind == b"f" and not found.mode & stat.S_IRUSR
        }

    def _renew_own_numbers(self, path: bytes) -> None:
        record = self.records.get(path) or self._old.get(path)
        if record is not None:
            self.records[path] = (own_numbers(os.lstat(self._root + path)), record[1], record[2])

    def _own_line(self, path: bytes, status: os.stat_result) -> bytes:
        keys = self._xattr_keys(self._root + path)
        return metadata.line(b"d", stat.S_IMODE(status.st_mode), status.st_mtime_ns, b".", keys)

    def _xattr_keys(self, full: bytes) -> list[bytes]:
        if not self._xattrs:
            return []
        attributes = xattr.read(full)
        return metadata.xattr_keys(attributes) if attributes else []

    def _is_open(self, status: os.stat_result) -> bool:
        return self._is_privileged or status.st_mode & 0o500 == 0o500

    @contextlib.contextmanager
    def _reachable(self, path: bytes) -> Iterator[None]:
        """Give us permission to read a directory and all above it; take it back at the end."""
        parts = path.split(b"/") if path else []
        above = [b"/".join(parts[:count]) for count in range(len(parts) + 1)]
        with contextlib.ExitStack() as stack:
            for directory in above:
                status = os.lstat(self._root + directory)
                if not self._is_open(status):
                    stack.callback(self._renew_own_numbers, directory)
                    stack.enter_context(self._opened(self._root + directory, status))
            yield

    @contextlib.contextmanager
    def _opened(self, full: bytes, status: os.stat_result) -> Iterator[None]:
        """Give us permission to read a file or directory of ours; take it back at the end."""
        mode = stat.S_IMODE(status.st_mode)
        self._behind_permissions += 1
        os.chmod(full, mode | 0o500)
        try:
            yield
        finally:
            os.chmod(full, mode)
            self._behind_permissions -= 1
