"""Mend the repository: nothing that is intact is lost, and what is left is whole.

Every step leaves the repository no worse than before, so a repair that was interrupted is simply begun again. Nobody
else uses the storage directory meanwhile.
"""

import contextlib
import os
from collections.abc import Callable

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.examine import Examination, ancestors_first, image_of, lost_states, misleading
from chimage_core.cache.git.objects import COMMIT, Commit
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.recover import Missing
from chimage_core.cache.git.refs import DELETED, IMAGES, PACKED, STATES
from chimage_core.cache.git.salvage import salvage, suspects
from chimage_core.cache.git.verify import Objects, verify
from chimage_core.errors import CacheError, file_errors
from chimage_core.events.check import Repaired
from chimage_core.text import plural

Progress = Callable[[int, int], None]


def mend_objects(engine: Engine, progress: Progress) -> Objects:
    """Replace damaged packs by what is intact in them, remove damaged loose objects; return all objects there are.

    The engine is to be opened anew if something was damaged. Raises FileError, Cancelled.
    """
    objects, options = engine.repository.objects, engine.options
    found = verify(objects, options.workers, options.cancel, progress)
    damaged = [damage.path for damage in found.damaged]
    packs = suspects(objects, damaged)
    for pack in packs:
        done = salvage(pack, objects, sync=options.sync, cancel=options.cancel)
        text = (
            f"damaged pack: {plural(done.objects, 'object')} saved from {os.path.relpath(pack, engine.repository.path)}"
        )
        options.emit(Repaired(kind="pack", text=text, is_loss=False))
    for path in damaged:
        if not path.endswith(".idx"):
            with file_errors("remove", path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            _tell(engine, "object", f"damaged object removed: {path}")
    return verify(objects, options.workers, options.cancel, progress) if packs or damaged else found


def drop_large(engine: Engine, missing: Missing) -> None:
    """Remove large files that are not what their names say, so that others can take their places. Raises FileError."""
    for name, size in missing.large.items():
        for path in engine.large.damaged(name, size):
            with file_errors("remove", path):
                os.unlink(path)
            _tell(engine, "large", f"damaged large file removed: {path}")


def mend_references(engine: Engine, found: Examination) -> None:
    """Let references that are malformed or mislead lead to what they should, or remove them. Raises FileError."""
    if PACKED in found.malformed:
        engine.references.rewrite_packed()
        _tell(engine, "reference", "references that were packed are written anew, without malformed ones")
    wrong = [name for name in (*found.malformed, *misleading(found)) if name != PACKED]
    is_lost = lost_states(found)
    commits = _commits_by_state(engine, found) if is_lost or wrong else {}
    for name in wrong:
        engine.references.delete(name)
        if name.startswith(STATES) and name.removeprefix(STATES) in commits:
            engine.references.set(name, commits[name.removeprefix(STATES)])
            _tell(engine, "reference", f"reference mended: {name}")
        else:
            _tell(engine, "reference", f"reference removed: {name}", is_loss=name.startswith((STATES, DELETED)))
    for name in wrong:  # What it led to is a state nevertheless.
        state = _state_of(found, name)
        if state is not None:
            engine.references.create(STATES + state, found.references[name])
    if is_lost and commits:
        for state, commit in commits.items():
            engine.references.create(STATES + state, commit)
        _tell(engine, "reference", f"{plural(len(commits), 'state')} found again")


def _state_of(found: Examination, reference: str) -> str | None:
    """Return the state that a reference leads to, as far as it does."""
    examined = found.commits.get(found.references.get(reference, b""))
    return examined.commit.state.hex if examined and examined.commit else None


def mend_histories(engine: Engine, found: Examination) -> dict[bytes, bytes]:
    """Record whole snapshots anew whose ancestors are not: without these.

    Returns the new commits by the old ones. References follow them. Raises FileError.
    """
    cut = found.cut()
    new: dict[bytes, bytes] = {}
    if not cut:
        return {}
    with PackWriter(engine.repository.packs, engine.store.contains, deflated=False, sync=engine.options.sync) as pack:
        for name in ancestors_first(found.commits):
            commit = found.commits[name].commit
            if name in cut and commit is not None:
                parents = tuple(new.get(parent, parent) for parent in commit.parents if found.is_whole(parent))
                new[name] = pack.add(COMMIT, commit._replace(parents=parents).encode())
        index = pack.finish()
    if index is not None:
        engine.store.add_pack(index)
    for reference, commit_name in found.references.items():
        if commit_name in new:
            engine.references.set(reference, new[commit_name])
    _tell(engine, "history", f"{plural(len(new), 'snapshot')} kept without the damaged ones that came before")
    return new


def drop_broken(engine: Engine, found: Examination) -> None:
    """Remove the references of states and deleted images that cannot be brought back. Raises FileError."""
    states = 0
    for name, commit in found.references.items():
        if found.is_whole(commit):
            continue
        if name.startswith(STATES):
            states += 1
            engine.references.delete(name)
        elif name.startswith(DELETED):
            engine.references.delete(name)
            _tell(engine, "content", f"deleted image can’t be recovered any more: {image_of(name)}", is_loss=True)
    if states:
        text = f"{plural(states, 'state')} damaged and forgotten; the next build makes what it needs of them again"
        _tell(engine, "content", text, is_loss=True)


def broken_heads(found: Examination) -> list[str]:
    """Return the references of images whose snapshot cannot be brought back."""
    heads = [name for name, commit in found.references.items() if name.startswith(IMAGES)]
    return [name for name in heads if not found.is_whole(found.references[name])]


def _commits_by_state(engine: Engine, found: Examination) -> dict[str, bytes]:
    """Return for each state the oldest commit there is of it."""
    store = ObjectStore(engine.repository.objects, on_damage=lambda index, error: None)
    commits: dict[str, tuple[int, bytes]] = {}
    for name, kind in found.objects.kinds.items():
        if kind == COMMIT:
            with contextlib.suppress(CacheError):
                commit = Commit.decode(store.read_kind(name, COMMIT))
                known = commits.get(commit.state.hex)
                commits[commit.state.hex] = min(known or (commit.time, name), (commit.time, name))
    return {state: name for state, (_, name) in commits.items()}


def _tell(engine: Engine, kind: str, text: str, *, is_loss: bool = False) -> None:
    engine.options.emit(Repaired(kind=kind, text=text, is_loss=is_loss))
