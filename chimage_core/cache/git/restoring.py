"""Make a place hold a snapshot: by changing what differs, or by a new directory that takes the place of the old one."""

import os
import stat

from chimage_core.cache import stamp as stamps
from chimage_core.cache.git import delta
from chimage_core.cache.git.draft import Draft
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.materialize import Materializer
from chimage_core.cache.git.places import Places
from chimage_core.cache.git.recording import draft_contents, pending_files, scan
from chimage_core.cache.git.statcache import Record, own_numbers
from chimage_core.cache.git.treebuild import build_tree
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.stamp import PlaceState
from chimage_core.errors import CacheError, FileError, file_errors
from chimage_core.fs.atomic import TEMPORARY_PREFIX, exchange, temporary_directory
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.xattr import AttributeWriter, warn_left_out
from chimage_core.rootfs.place import ImagePlace

_TREE = "tree-"
_DELTA_SHARE = 2
"""A delta is made if at most one in so many entries differs; else a new tree is made beside the old one."""
_DELTA_ALWAYS = 1000
_DRAFT_FILES = 2000
_DRAFT_BYTES = 64 << 20
"""Changed files to be read to find out what a changed directory holds; beyond that a new tree is cheaper."""


def restore(engine: Engine, places: Places, snapshot: Snapshot, place: ImagePlace) -> None:
    """Make the place hold exactly this snapshot. Raises NotInCache, CacheBroken, FileError, Cancelled."""
    target = engine.root_tree(snapshot.token)
    try:
        is_done = _change(engine, places, snapshot, target, place)
    except (FileError, CacheError):
        # Whatever is there that we may not read or replace: a new directory does not depend on it. And what is wrong
        # with the snapshot will be wrong again.
        is_done = False
    if not is_done:
        _replace(engine, places, snapshot, target, place)


def _change(engine: Engine, places: Places, snapshot: Snapshot, target: bytes, place: ImagePlace) -> bool:
    """Change the directory in place, if what it holds is known and near enough."""
    base = places.base(place)
    if base is None:
        return False
    # Already the scan may have to lift permissions for a moment.
    places.mark(place, base, PlaceState.DIRTY)
    draft = Draft(engine.store)
    scanner = scan(engine, place, None, base, draft, likewise=True)
    if scanner.sockets or scanner.devices:
        return False
    files = pending_files(scanner)
    if len(files) > _DRAFT_FILES or sum(content.size for _, content in files) > _DRAFT_BYTES:
        return False
    draft_contents(scanner, draft)
    present = build_tree(scanner.changes, base.trees, draft) or base.root
    difference = delta.compare(draft, present, engine.store, target)
    records = dict(base.stats.records)
    for path in scanner.vanished():
        del records[path]
    records.update(scanner.records)
    entries = sum(names.count(b"/") + 1 for _, names, _ in records.values())
    if difference.size > max(_DELTA_ALWAYS, entries // _DELTA_SHARE):
        return False
    maker = _materializer(engine)
    delta.apply(difference, place.root, records, maker)
    places.settle(place, snapshot, records)
    warn_left_out(maker.xattrs.refused, engine.options.emit)
    return True


def _replace(engine: Engine, places: Places, snapshot: Snapshot, target: bytes, place: ImagePlace) -> None:
    """Make a new directory and let it take the place of the old one."""
    with file_errors("make image directory", place.root):
        os.makedirs(place.side, exist_ok=True)
        os.makedirs(os.path.dirname(place.root), exist_ok=True)
        for name in os.listdir(place.side):  # What killed processes left: we hold the lock of the name.
            if name.startswith(TEMPORARY_PREFIX + _TREE):
                remove_tree(os.path.join(place.side, name))
    with temporary_directory(place.side, _TREE) as temporary:
        new = os.path.join(temporary, "root")
        os.mkdir(new, 0o700)
        maker = _materializer(engine)
        records = maker.make(target, new)
        stamps.forget(place)
        with file_errors("replace image directory", place.root):
            records[b""] = _move(new, place.root, records[b""])
        places.settle(place, snapshot, records)
        warn_left_out(maker.xattrs.refused, engine.options.emit)


def _materializer(engine: Engine) -> Materializer:
    options = engine.options
    objects, xattrs = engine.repository.objects, AttributeWriter(is_on=options.xattrs)
    return Materializer(objects, engine.store, engine.large, xattrs, options.workers, options.cancel)


def _move(new: str, root: str, record: Record) -> Record:
    """Let a directory take the place of another, or of nothing; return its stat record.

    A directory can be moved only by who may write it, since its entry `..` changes.
    """
    mode = stat.S_IMODE(os.lstat(new).st_mode)
    os.chmod(new, 0o700)
    if os.path.lexists(root):
        if stat.S_ISDIR(os.lstat(root).st_mode):
            os.chmod(root, 0o700)
        exchange(new, root)
    else:
        os.rename(new, root)
    os.chmod(root, mode)
    return own_numbers(os.lstat(root)), record[1], record[2]
