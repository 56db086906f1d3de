"""Take from image directories what the repository has lost of them.

A directory is recorded once more, and what is still there is not stored again. Whether a big file is one of the large
files or a blob was decided when it was recorded first; now it becomes whatever is missing.
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from chimage_core.cache.git.contents import Content, Reading, is_heavy, read_in_parallel
from chimage_core.cache.git.differences import Found
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.large import LARGE, declared_name, refer
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.recording import pending_files, read_here
from chimage_core.cache.git.scan import Scanner
from chimage_core.cache.git.soundness import Examined
from chimage_core.cache.git.treebuild import build_tree
from chimage_core.cache.git.trees import join
from chimage_core.rootfs.place import ImagePlace


class Missing(NamedTuple):
    """What snapshots need and nobody has, as far as is known: below a directory that is missing may be more."""

    objects: frozenset[str]
    """Hexadecimal."""
    large: dict[bytes, int]
    """Sizes, by what `big=` names."""

    @classmethod
    def of(cls, commits: Iterable[Examined]) -> "Missing":
        """Return what is missing in these snapshots."""
        problems = {problem for examined in commits for problem in examined.problems}
        return cls(
            frozenset(problem.subject for problem in problems if problem.size is None),
            {os.fsencode(problem.subject): problem.size for problem in problems if problem.size is not None},
        )


def read_again(engine: Engine, place: ImagePlace, missing: Missing) -> None:
    """Put into the repository what it lacks of an image directory. Raises FileError, CacheError, Cancelled."""
    options, store = engine.options, engine.store
    chooser = _Chooser(engine, missing)
    with PackWriter(engine.repository.packs, store.contains, deflated=False, sync=options.sync) as pack:
        scanner = Scanner(
            place.root,
            {},
            None,
            pack,
            claim=chooser.claim,
            linked=engine.large.linked,
            xattrs=options.xattrs,
            cancel=options.cancel,
        )
        scanner.everything()
        files = pending_files(scanner)
        if is_heavy(files):
            reading = Reading(engine.repository.objects, options.deflate, options.sync, options.workers, options.cancel)
            read_in_parallel(files, reading, store)
        else:
            read_here(files, pack)
        for directory, found in scanner.pending:
            chooser.store(scanner.full_path(directory, found), join(directory, found.name), found, pack)
        build_tree(scanner.changes, None, pack)
        index = pack.finish()
    if index is not None:
        store.add_pack(index)


class _Chooser:
    """Decides which big files are large files."""

    def __init__(self, engine: Engine, missing: Missing) -> None:
        self._engine = engine
        self._missing = missing

    def claim(self, content: Content, path: bytes, status: os.stat_result, was: bytes) -> None:
        """Mark a content: known without being read, or to be named before it is decided."""
        if status.st_size < LARGE or not status.st_mode & stat.S_IRUSR:
            return
        declared = declared_name(path, status)
        if self._is_large(declared):
            content.large = declared
        else:
            content.is_candidate = True

    def store(self, full: bytes, path: bytes, found: Found, pack: PackWriter) -> None:
        """Store a content that has a name now, and is not stored yet."""
        content = found.content
        if content is None or not content.large:
            return
        if self._is_large(content.large):
            self._engine.large.keep(full, path, found)
            self._engine.large.sync()
            refer(content, pack)
            return
        content.large = b""
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            content.name = pack.add_file(descriptor, content.size)
        finally:
            os.close(descriptor)

    def _is_large(self, name: bytes) -> bool:
        if os.fsdecode(name) in self._missing.objects:
            return False
        return name in self._missing.large or self._engine.large.holds(name)
