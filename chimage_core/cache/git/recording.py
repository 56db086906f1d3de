"""Remember what a place holds: a commit.

Order: contents, trees and commit, on the disk; then the reference of the state; then the stamp of the place; then its
stat cache. So a hit is never half a state, whenever the process is killed.
"""

import os
from functools import partial

from chimage_core.cache.git import tidy
from chimage_core.cache.git.contents import Content, Reading, is_heavy, read_content, read_in_parallel
from chimage_core.cache.git.copying import StoringCopier
from chimage_core.cache.git.draft import Draft
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.known import Known
from chimage_core.cache.git.large import refer
from chimage_core.cache.git.objects import BLOB, COMMIT, DIRECTORY_MODE, FILE_MODE, TREE, Commit, encode_tree
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.places import Base, Places
from chimage_core.cache.git.repository import SIZE_CLASSES
from chimage_core.cache.git.scan import Scanner
from chimage_core.cache.git.treebuild import Identity, build_tree
from chimage_core.cache.git.trees import ObjectSink, join
from chimage_core.cache.protocol import Snapshot, StepRecord
from chimage_core.cache.stamp import PlaceState
from chimage_core.cache.state import StateID
from chimage_core.errors import CacheError
from chimage_core.events import Sink, Warned
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs import metadata, overlay, permissions
from chimage_core.rootfs.changes import Changes, PathsChanged, UpperChanged
from chimage_core.rootfs.place import ImagePlace
from chimage_core.rootfs.touched import Touched, touch, touched_paths


def record(engine: Engine, places: Places, place: ImagePlace, step: StepRecord, *, replaces: bool) -> Snapshot:
    """Commit a place. `replaces`: the state points to this commit even if there is another one already.

    Raises FileError, CacheError, Cancelled; the place is then marked as changed.
    """
    engine.prepare()
    base = None if step.parent is None else places.base(place)
    touched = _take_changes(places, place, step.changes, base)
    with permissions.lifted(place.root):
        metadata.write(place.root, step.config)
    if touched is not None:
        touch(touched, [os.fsencode(metadata.DIRECTORY)])
    snapshot, scanner = _store(engine, place, step, touched, base)
    engine.remember(snapshot, replaces=replaces)
    if base is None:
        places.settle(place, snapshot, scanner.records)
    else:
        places.settle_changes(place, snapshot, base, scanner.records, scanner.vanished())
    # Bigger ones, which take longer, when the image is finished.
    tidy.merge_packs(engine.store, engine.repository.packs, sync=engine.options.sync, classes=SIZE_CLASSES[:1])
    return snapshot


def scan(
    engine: Engine,
    place: ImagePlace,
    touched: Touched | None,
    base: Base | None,
    sink: ObjectSink,
    *,
    likewise: bool = False,
    copier: StoringCopier | None = None,
) -> Scanner:
    """Compare a place with its base: what was touched, or (None) everything.

    `likewise`: what is a large file is so in the base, too. `copier` has stored contents of files already.
    """
    options = engine.options
    scanner = Scanner(
        place.root,
        {} if base is None else base.stats.records,
        None if base is None else base.trees,
        sink,
        claim=partial(engine.large.claim, likewise=likewise),
        linked=engine.large.linked,
        copied=None if copier is None else copier.find,
        xattrs=options.xattrs,
        cancel=options.cancel,
    )
    if touched is None:
        scanner.everything()
    else:
        scanner.touched(touched)
    return scanner


def pending_files(scanner: Scanner) -> list[tuple[bytes, Content]]:
    """Return the files that a scan left to be read, by full path; not those that are known without being read."""
    return [
        (scanner.full_path(directory, found), found.content)
        for directory, found in scanner.pending
        if found.content is not None and not found.content.large
    ]


def read_here(files: list[tuple[bytes, Content]], sink: ObjectSink) -> None:
    """Read files in this process."""
    for path, content in files:
        read_content(path, content, sink)


def draft_contents(scanner: Scanner, draft: Draft) -> None:
    """Find out what the files are that a scan left to be read, and store nothing."""
    read_here(pending_files(scanner), draft)
    for _, found in scanner.pending:
        if found.content is not None and found.content.large:
            refer(found.content, draft)


def _take_changes(places: Places, place: ImagePlace, changes: Changes, base: Base | None) -> Touched | None:
    """Bring the changes into the directory; return what they touched, None for anything."""
    if isinstance(changes, UpperChanged):
        places.mark(place, base, PlaceState.MERGING)
        touched: Touched | None = overlay.merge(changes.upper, changes.work, place.root)
    else:
        places.mark(place, base, PlaceState.DIRTY)
        touched = touched_paths(changes.paths) if isinstance(changes, PathsChanged) else None
    return touched if base is not None and base.is_watched else None


def _store(
    engine: Engine, place: ImagePlace, step: StepRecord, touched: Touched | None, base: Base | None
) -> tuple[Snapshot, Scanner]:
    """Write everything into packs."""
    packs, store = engine.repository.packs, engine.store
    identity = Identity() if step.state is None else None
    known = Known(store, _parent_name(step))
    with PackWriter(packs, known, deflated=False, sync=engine.options.sync) as pack:
        scanner = _scan_and_read(engine, place, step, touched, base, pack)
        root = build_tree(scanner.changes, None if base is None else base.trees, pack, identity)
        if root is None:
            assert base is not None, "a scan without records finds at least the root"
            root = base.root
        tree = _add_tree(pack, root, step.config)
        if step.expected is not None and _holds(engine, step.expected, tree):
            snapshot = step.expected
        else:
            state = step.state or _content_state(identity, step.config)
            snapshot = _add_commit(pack, tree, state, step, int(engine.options.clock()))
        index = pack.finish()
    if index is not None:
        store.add_pack(index)
    return snapshot, scanner


def _scan_and_read(
    engine: Engine, place: ImagePlace, step: StepRecord, touched: Touched | None, base: Base | None, pack: PackWriter
) -> Scanner:
    """Find what changed, and store the contents."""
    copier = _stored_by(engine, step.changes)
    scanner = scan(engine, place, touched, base, pack, copier=copier)
    # Who writes through one name of a file changes it under its other names, too. And if the stat cache was lost, only
    # all its names together tell that they are one file.
    if touched is not None and scanner.unseen_links():
        scanner = scan(engine, place, None, base, pack, copier=copier)
    _report(scanner, engine.options.emit)
    files = pending_files(scanner)
    if is_heavy(files):
        options = engine.options
        objects, parent = engine.repository.objects, _parent_name(step)
        reading = Reading(objects, options.deflate, options.sync, options.workers, options.cancel, parent)
        read_in_parallel(files, reading, engine.store)
    else:
        read_here(files, pack)
    _keep_large(engine, scanner, pack)
    return scanner


def _stored_by(engine: Engine, changes: Changes) -> StoringCopier | None:
    """Return what has copied files, if all that it stored is there."""
    copier = changes.copier if isinstance(changes, PathsChanged) else None
    if not isinstance(copier, StoringCopier) or not all(engine.store.add_pack(index) for index in copier.packs):
        return None
    return copier


def _keep_large(engine: Engine, scanner: Scanner, pack: PackWriter) -> None:
    """Put large files where they belong. That may change their ctimes."""
    for directory, found in scanner.pending:
        content = found.content
        if content is not None and content.large:
            engine.options.cancel.check()
            engine.large.keep(scanner.full_path(directory, found), join(directory, found.name), found)
            refer(content, pack)
    engine.large.sync()
    # Only now: each further link of a file changes the ctime of all.
    scanner.restate(
        (directory, found.name)
        for directory, found in scanner.pending
        if found.content is not None and found.content.large
    )


def _report(scanner: Scanner, emit: Sink) -> None:
    """Tell what cannot be kept. Raises CacheError for a device."""
    if scanner.devices:
        raise CacheError(
            f"image holds a device, which cannot be kept in the build cache: {scanner.devices[0]}",
            hint="delete it in the image",
        )
    for path in scanner.sockets:
        emit(Warned(text=f"socket is not kept in the build cache: {path}"))


def _add_tree(pack: PackWriter, root: bytes, config: ImageConfig) -> bytes:
    tree = encode_tree(
        [
            (FILE_MODE, b"config.json", pack.add(BLOB, config.to_json())),
            (DIRECTORY_MODE, b"root", root),
        ]
    )
    return pack.add(TREE, tree)


def _holds(engine: Engine, snapshot: Snapshot, tree: bytes) -> bool:
    try:
        return engine.tree(snapshot.token) == tree
    except CacheError:  # Lost or damaged: it has to be remembered anew.
        return False


def _add_commit(pack: PackWriter, tree: bytes, state: StateID, step: StepRecord, time: int) -> Snapshot:
    parents = (_parent_name(step),) if step.parent else ()
    commit = pack.add(COMMIT, Commit(tree, parents, time, step.text, state).encode())
    return Snapshot(state, commit.hex())


def _parent_name(step: StepRecord) -> bytes:
    """Return the commit that a step stands on; empty if none."""
    return bytes.fromhex(step.parent.token) if step.parent else b""


def _content_state(identity: Identity | None, config: ImageConfig) -> StateID:
    assert identity is not None, "a state ID is given or made of the content"
    return StateID.root(b"content\0" + identity.value() + config.to_json())
