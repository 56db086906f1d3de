"""The build cache in a Git repository: the `Cache` protocol over the modules beside this one.

Order of a commit: contents, trees and commit in packs, on the disk; then the reference of the state; then the stamp of
the place; then its stat cache. So a hit is never half a state, whenever the process is killed.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from chimage_core.cache import stamp as stamps
from chimage_core.cache.git import delta, graph, tidy
from chimage_core.cache.git.contents import Content, Reading, is_heavy, read_content, read_in_parallel
from chimage_core.cache.git.draft import Draft
from chimage_core.cache.git.materialize import Materializer
from chimage_core.cache.git.objects import (
    BLOB,
    COMMIT,
    DIRECTORY_MODE,
    FILE_MODE,
    TREE,
    Commit,
    decode_tree,
    encode_tree,
)
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.refs import DELETED, IMAGES, STATES, References, escape, unescape
from chimage_core.cache.git.repository import Repository
from chimage_core.cache.git.scan import Scanner
from chimage_core.cache.git.statcache import Record, StatCache, own_numbers
from chimage_core.cache.git.treebuild import Identity, build_tree, has_unseen_links
from chimage_core.cache.git.trees import ObjectSink, Trees
from chimage_core.cache.protocol import CacheGraph, CacheMode, CacheSummary, Snapshot, StepRecord
from chimage_core.cache.stamp import PlaceState, Stamp
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheBroken, NotInCache, file_errors
from chimage_core.events import Sink
from chimage_core.fs.atomic import exchange, temporary_directory
from chimage_core.fs.remove import remove_tree
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs import metadata as rootfs_metadata
from chimage_core.rootfs import overlay
from chimage_core.rootfs.changes import Changes, PathsChanged, UpperChanged
from chimage_core.rootfs.place import ImagePlace
from chimage_core.rootfs.touched import Touched, touch, touched_paths

_TOKEN = re.compile(r"[0-9a-f]{40}")
_DELTA_SHARE = 2
"""A delta is made if at most one in so many entries differs; else a new tree is made beside the old one."""
_DELTA_ALWAYS = 1000
_DRAFT_FILES = 2000
_DRAFT_BYTES = 64 << 20
"""Changed files to be read to find out what a changed directory holds; beyond that a new tree is cheaper."""


@dataclass(slots=True)
class _Base:
    """What a place last held, and how its files looked then."""

    commit: str
    state: str
    root: bytes
    """Its tree."""
    trees: Trees
    stats: StatCache
    is_watched: bool
    """Nobody but this process has touched the place since."""


class GitCache:
    """A build cache in a Git repository."""

    keeps_snapshots = True

    def __init__(
        self,
        repository: str,
        *,
        mode: CacheMode = CacheMode.ENABLED,
        emit: Sink,
        cancel: CancelToken,
        sync: bool = True,
        xattrs: bool = True,
        workers: int = 0,
        deflate: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the repository at this path. It is created when something is to be remembered.

        `sync`: a commit is on the disk when it returns. `workers`: processes for heavy work; 0: one per core, at most
        8. `deflate`: whole images are deflated (0.4 times the disk space, for 1.6 times the CPU time). Raises as
        `Repository` does.
        """
        self._repository = Repository(repository)
        self._mode = mode
        self._emit = emit
        self._cancel = cancel
        self._sync = sync
        self._xattrs = xattrs
        self._workers = workers or min(len(os.sched_getaffinity(0)), 8)
        self._deflate = deflate
        self._clock = clock
        self._stats: dict[str, StatCache] = {}
        self._watched: dict[str, str] = {}
        """By root directory, the commit it held when we were told that it is about to be changed."""
        self._open()

    def _open(self) -> None:
        self._store = ObjectStore(self._repository.objects)
        self._references = References(self._repository.path, sync=self._sync)

    # Looking up

    def find(self, state: StateID) -> Snapshot | None:
        """Return the snapshot of this state; never one in rebuild mode."""
        if self._mode is CacheMode.REBUILD:
            return None
        commit = self._references.get(STATES + state.hex)
        return None if commit is None else Snapshot(state, commit.hex())

    def head(self, name: str) -> Snapshot | None:
        """Return the snapshot of an image, or None."""
        commit = self._references.get(IMAGES + escape(name))
        return None if commit is None else self._snapshot(commit)

    def config(self, snapshot: Snapshot) -> ImageConfig:
        """Return the configuration of a snapshot. Raises NotInCache, CacheBroken."""
        data = self._store.read_kind(self._entry(snapshot.token, b"config.json"), BLOB)
        try:
            return ImageConfig.from_json(data, architecture="unknown")
        except ValueError as error:
            raise CacheBroken(f"configuration of state {snapshot.state.hex} is damaged: {error}") from error

    def held(self, place: ImagePlace) -> Snapshot | None:
        """Return the snapshot that the place is known to hold, or None."""
        stamp = self._stamp(place)
        if stamp is None or stamp.status is not PlaceState.CLEAN or not stamp.same_boot:
            return None
        return Snapshot(StateID.from_hex(stamp.state), stamp.commit)

    def names(self) -> tuple[str, ...]:
        """Return the names of the images that have a head, sorted."""
        return tuple(sorted(unescape(name.removeprefix(IMAGES)) for name in self._references.below(IMAGES)))

    # Image directories

    def restore(self, snapshot: Snapshot, place: ImagePlace) -> None:
        """Make the place hold exactly this snapshot; see the protocol."""
        if self.held(place) == snapshot:
            return
        target = self._root_tree(snapshot.token)
        self._watched.pop(place.root, None)
        if not self._restore_delta(snapshot, target, place):
            self._restore_whole(snapshot, target, place)

    def opening(self, place: ImagePlace) -> None:
        """Say that the place is about to be changed."""
        stamp = self._stamp(place)
        if stamp is None or stamp.status is not PlaceState.CLEAN:
            return
        if stamp.same_boot:
            self._watched[place.root] = stamp.commit
        stamps.write(place, replace(stamp, status=PlaceState.DIRTY))

    def commit(self, place: ImagePlace, record: StepRecord) -> Snapshot:
        """Remember what the place holds; see the protocol."""
        self._repository.create()
        base = None if record.parent is None else self._base(place)
        self._watched.pop(place.root, None)
        touched = self._take_changes(place, record.changes, base)
        with _writable(place.root):
            rootfs_metadata.write(place.root, record.config)
        if touched is not None:
            touch(touched, [os.fsencode(rootfs_metadata.DIRECTORY)])
        with self._pack() as pack:
            identity = Identity() if record.state is None else None
            scanner, root = self._read_changes(place, touched, base, record, pack, identity)
            state = record.state or _content_state(identity, record.config)
            commit = self._add_commit(pack, root, state, record)
            index = pack.finish()
        if index is not None:
            self._store.add_pack(index)
        self._record_state(state, commit)
        self._settle(place, Snapshot(state, commit.hex()), scanner, base)
        tidy.merge_small_packs(self._store, self._repository.packs, sync=self._sync)
        return Snapshot(state, commit.hex())

    # Images

    def publish(self, name: str, snapshot: Snapshot) -> None:
        """Make the snapshot the head of an image."""
        self._references.set(IMAGES + escape(name), bytes.fromhex(snapshot.token))

    def forget(self, name: str) -> None:
        """Take the head of an image away; `recover` can bring it back."""
        reference = IMAGES + escape(name)
        commit = self._references.get(reference)
        if commit is not None:
            # Nanoseconds, in a fixed width so that names sort by time.
            moment = f"{time.time_ns():020d}"
            self._references.set(f"{DELETED}{escape(name)}/{moment}", commit)
            self._references.delete(reference)

    def recover(self, name: str) -> Snapshot | None:
        """Make the last head of a deleted image its head again."""
        deleted = self._references.below(f"{DELETED}{escape(name)}/")
        if not deleted:
            return None
        newest = max(deleted)
        self._references.set(IMAGES + escape(name), deleted[newest])
        self._references.delete(newest)
        return self._snapshot(deleted[newest])

    # The cache as a whole

    def reset(self) -> None:
        """Forget everything. The caller holds the storage lock exclusively."""
        remove_tree(self._repository.path)
        self._repository = Repository(self._repository.path)
        self._stats.clear()
        self._watched.clear()
        self._open()

    def sweep(self) -> None:
        """Remove what killed processes left in the repository. The caller holds the storage lock exclusively."""
        tidy.sweep(self._repository.path)

    def summary(self) -> CacheSummary:
        """Return how much is in the cache."""
        files = disk_bytes = 0
        for directory, _, names in os.walk(self._repository.path):
            files += len(names)
            disk_bytes += sum(_disk_size(os.path.join(directory, name)) for name in names)
        nodes = self.graph().nodes
        return CacheSummary(
            named_images=len(self._references.below(IMAGES)),
            state_ids=len(self._references.below(STATES)),
            commits=len(nodes),
            files=files,
            disk_bytes=disk_bytes,
            large_files=0,
            large_bytes=0,
        )

    def graph(self) -> CacheGraph:
        """Return all snapshots."""
        return graph.read_graph(self._store, self._references)

    # Details of a commit

    def _take_changes(self, place: ImagePlace, changes: Changes, base: _Base | None) -> Touched | None:
        """Bring the changes into the directory; return what they touched, None for anything."""
        if isinstance(changes, UpperChanged):
            self._mark(place, base, PlaceState.MERGING)
            touched: Touched | None = overlay.merge(changes.upper, changes.work, place.root)
        else:
            self._mark(place, base, PlaceState.DIRTY)
            touched = touched_paths(changes.paths) if isinstance(changes, PathsChanged) else None
        return touched if base is not None and base.is_watched else None

    def _mark(self, place: ImagePlace, base: _Base | None, status: PlaceState) -> None:
        if base is None:
            stamps.forget(place)
        else:
            stamps.write(place, Stamp(status, self._repository.id, base.commit, base.state))

    def _read_changes(
        self,
        place: ImagePlace,
        touched: Touched | None,
        base: _Base | None,
        record: StepRecord,
        pack: PackWriter,
        identity: Identity | None,
    ) -> tuple[Scanner, bytes]:
        """Store what changed; return the scan and the tree of the root."""
        scanner = self._scan(place, touched, base, pack)
        # Who writes through one name of a file changes it under its other names, too.
        if isinstance(record.changes, PathsChanged) and touched is not None and has_unseen_links(scanner.changes):
            scanner = self._scan(place, None, base, pack)
        files = _pending_files(scanner)
        if is_heavy(files):
            reading = Reading(self._repository.objects, self._deflate, self._sync, self._workers, self._cancel)
            read_in_parallel(files, reading, self._store)
        else:
            _read_here(files, pack)
        root = build_tree(scanner.changes, None if base is None else base.trees, pack, identity)
        if root is None:
            if base is None:
                raise AssertionError("a scan without records finds at least the root")
            root = base.root
        return scanner, root

    def _scan(self, place: ImagePlace, touched: Touched | None, base: _Base | None, sink: ObjectSink) -> Scanner:
        scanner = Scanner(
            place.root,
            {} if base is None else base.stats.records,
            None if base is None else base.trees,
            sink,
            xattrs=self._xattrs,
            emit=self._emit,
            cancel=self._cancel,
        )
        if touched is None:
            scanner.everything()
        else:
            scanner.touched(touched)
        return scanner

    def _add_commit(self, pack: PackWriter, root: bytes, state: StateID, record: StepRecord) -> bytes:
        tree = encode_tree(
            [
                (FILE_MODE, b"config.json", pack.add(BLOB, record.config.to_json())),
                (FILE_MODE, b"large", pack.add(BLOB, b"")),
                (DIRECTORY_MODE, b"root", root),
            ]
        )
        parents = () if record.parent is None else (bytes.fromhex(record.parent.token),)
        commit = Commit(pack.add(TREE, tree), parents, int(self._clock()), record.text, state)
        return pack.add(COMMIT, commit.encode())

    def _record_state(self, state: StateID, commit: bytes) -> None:
        if self._mode is CacheMode.REBUILD:
            self._references.set(STATES + state.hex, commit)
        else:
            self._references.create(STATES + state.hex, commit)

    def _settle(self, place: ImagePlace, snapshot: Snapshot, scanner: Scanner, base: _Base | None) -> None:
        """Take note, beside the place, of what it holds now."""
        now = self._stamp_clean(place, snapshot)
        commit = bytes.fromhex(snapshot.token)
        with file_errors("write stat cache", place.side):
            if base is None:
                stats = self._stats[place.side] = StatCache(os.path.join(place.side, "stat"))
                stats.replace(commit, scanner.records, now)
            else:
                base.stats.update(commit, scanner.records, scanner.vanished(), now)

    def _stamp_clean(self, place: ImagePlace, snapshot: Snapshot) -> int:
        return stamps.write(place, Stamp(PlaceState.CLEAN, self._repository.id, snapshot.token, snapshot.state.hex))

    def _pack(self) -> PackWriter:
        return PackWriter(self._repository.packs, self._store.contains, deflated=False, sync=self._sync)

    # Details of a restore

    def _restore_delta(self, snapshot: Snapshot, target: bytes, place: ImagePlace) -> bool:
        """Change the directory in place, if what it holds is known and near enough."""
        base = self._base(place)
        if base is None:
            return False
        draft = Draft(self._store)
        scanner = self._scan(place, None, base, draft)
        files = _pending_files(scanner)
        if len(files) > _DRAFT_FILES or sum(content.size for _, content in files) > _DRAFT_BYTES:
            return False
        _read_here(files, draft)
        present = build_tree(scanner.changes, base.trees, draft) or base.root
        difference = delta.compare(draft, present, self._store, target)
        records = dict(base.stats.records)
        for path in scanner.vanished():
            del records[path]
        records.update(scanner.records)
        entries = sum(names.count(b"/") + 1 for _, names, _ in records.values())
        if difference.size > max(_DELTA_ALWAYS, entries // _DELTA_SHARE):
            return False
        self._mark(place, base, PlaceState.DIRTY)
        delta.apply(difference, place.root, records, self._materializer())
        now = self._stamp_clean(place, snapshot)
        with file_errors("write stat cache", place.side):
            base.stats.replace(bytes.fromhex(snapshot.token), records, now)
        return True

    def _restore_whole(self, snapshot: Snapshot, target: bytes, place: ImagePlace) -> None:
        """Make a new directory and let it take the place of the old one."""
        with file_errors("make image directory", place.root):
            os.makedirs(place.side, exist_ok=True)
            os.makedirs(os.path.dirname(place.root), exist_ok=True)
        with temporary_directory(place.side, "tree-") as temporary:
            new = os.path.join(temporary, "root")
            os.mkdir(new, 0o700)
            records = self._materializer().make(target, new)
            stamps.forget(place)
            with file_errors("replace image directory", place.root):
                records[b""] = _move(new, place.root, records[b""])
            now = self._stamp_clean(place, snapshot)
            stats = self._stats[place.side] = StatCache(os.path.join(place.side, "stat"))
            stats.replace(bytes.fromhex(snapshot.token), records, now)

    def _materializer(self) -> Materializer:
        return Materializer(self._repository.objects, self._store, self._xattrs, self._workers, self._cancel)

    # What is known

    def _stamp(self, place: ImagePlace) -> Stamp | None:
        """Return what is known of a place, if it is about this repository."""
        stamp = stamps.read(place)
        return stamp if stamp is not None and stamp.commit and stamp.cache == self._repository.id else None

    def _base(self, place: ImagePlace) -> _Base | None:
        """Return what a place last held, if that is still in the cache."""
        stamp = self._stamp(place)
        if stamp is None or (stamp.status is not PlaceState.CLEAN and not stamp.same_boot):
            return None
        try:
            root = self._root_tree(stamp.commit)
        except NotInCache:
            return None
        stats = self._stats.setdefault(place.side, StatCache(os.path.join(place.side, "stat")))
        commit = bytes.fromhex(stamp.commit)
        if stats.commit != commit:
            stats.load()
            if stats.commit != commit:
                stats.replace(commit, {}, 0)
        is_watched = stamp.same_boot and (
            stamp.status is PlaceState.CLEAN or self._watched.get(place.root) == stamp.commit
        )
        return _Base(stamp.commit, stamp.state, root, Trees(self._store, root), stats, is_watched)

    def _snapshot(self, commit: bytes) -> Snapshot:
        return Snapshot(Commit.decode(self._store.read_kind(commit, COMMIT)).state, commit.hex())

    def _root_tree(self, token: str) -> bytes:
        return self._entry(token, b"root")

    def _entry(self, token: str, name: bytes) -> bytes:
        """Return an object of a commit's own tree by its name there."""
        if not _TOKEN.fullmatch(token):
            raise NotInCache(f"no snapshot of this build cache: {token}")
        commit = Commit.decode(self._store.read_kind(bytes.fromhex(token), COMMIT))
        for _, entry_name, entry in decode_tree(self._store.read_kind(commit.tree, TREE)):
            if entry_name == name:
                return entry
        raise CacheBroken(f"commit {token} in the build cache has no {name.decode()}")


def _pending_files(scanner: Scanner) -> list[tuple[bytes, Content]]:
    return [
        (scanner.full_path(directory, found), found.content)
        for directory, found in scanner.pending
        if found.content is not None
    ]


def _read_here(files: list[tuple[bytes, Content]], sink: ObjectSink) -> None:
    for path, content in files:
        with file_errors("read file", os.fsdecode(path)):
            read_content(path, content, sink)


def _content_state(identity: Identity | None, config: ImageConfig) -> StateID:
    if identity is None:
        raise AssertionError("a state ID is given or made of the content")
    return StateID.root(b"content\0" + identity.value() + config.to_json())


@contextlib.contextmanager
def _writable(root: str) -> Iterator[None]:
    """Give us all permissions on a root directory for a while: a RUN may have taken them."""
    mode = stat.S_IMODE(os.lstat(root).st_mode)
    if mode & 0o700 == 0o700:
        yield
        return
    os.chmod(root, mode | 0o700)
    try:
        yield
    finally:
        os.chmod(root, mode)


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


def _disk_size(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
