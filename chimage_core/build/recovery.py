"""What killed builds and imports left is completed or removed before the next one works."""

import contextlib
import os
from collections.abc import Collection

from chimage_core.cache.protocol import Cache
from chimage_core.errors import Cancelled, ChimageError, FileError, StorageBusy
from chimage_core.events import Notice, Sink, Warned
from chimage_core.fs.atomic import TEMPORARY_PREFIX
from chimage_core.fs.remove import remove_tree
from chimage_core.image.reference import Reference
from chimage_core.storage.images import Images
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.sessions import killed_sessions

_TRANSIENT = frozenset({"upper", "work", "trash"})
"""What is in the notes beside an image only while a RUN is carried out."""


def sweep(layout: Layout, images: Images, cache: Cache, locks: Locks, emit: Sink) -> None:
    """Remove what killed processes left, if there were any and nobody is at work just now.

    What cannot be removed gets a warning: a command that frees space must work on a full disk.
    """
    orphans = killed_sessions(layout)
    if not orphans:
        return
    try:
        with locks.at_once().storage(exclusive=True):
            emit(Notice(level="verbose", text="cleaning up after a command that was killed"))
            for name in images.interrupted():
                if _is_recovered(images, cache, emit, name):
                    images.discard_work(name)  # What nobody was promised, however far it had come.
            images.sweep_trash()
            cache.sweep()
            for name in os.listdir(layout.sides):
                _sweep_temporary(os.path.join(layout.sides, name), _TRANSIENT)
            for path in filter(os.path.isdir, (layout.blobs, layout.uploads)):
                _sweep_temporary(path)
            for path in orphans:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
    except StorageBusy:
        pass  # What is left is in nobody's way; the next command will find it again.
    except (FileError, OSError) as error:
        emit(Warned(text=f"can’t clean up after a command that was killed: {error}"))


def _sweep_temporary(path: str, names: Collection[str] = ()) -> None:
    for entry in os.listdir(path):
        if entry in names or entry.startswith(TEMPORARY_PREFIX):
            remove_tree(os.path.join(path, entry))


def recover_interrupted(images: Images, cache: Cache, locks: Locks, emit: Sink) -> None:
    """Complete or undo what a killed process left: afterwards each image is whole, or not there.

    A work place that the cache's head of that name describes was about to be published. One that is in the way of a
    published image goes. Names that somebody works on are left alone.
    """
    for name in images.interrupted():
        try:
            with locks.at_once().images(write=(name,)):
                _is_recovered(images, cache, emit, name)
        except StorageBusy:
            pass  # Somebody is making it right now.


def _is_recovered(images: Images, cache: Cache, emit: Sink, name: str) -> bool:
    """Complete or undo one image. If that fails, say so: commands that have nothing to do with it must go on."""
    try:
        _recover(images, cache, emit, name)
    except (Cancelled, StorageBusy):
        raise
    except ChimageError as error:
        reference = Reference.from_file_name(name)
        emit(Warned(text=f"can’t restore an image left unfinished by an interrupted command: {reference}: {error}"))
        return False
    return True


def _recover(images: Images, cache: Cache, emit: Sink, name: str) -> None:
    place = images.workplace(name)
    if not os.path.isdir(place.root):
        return  # Whoever held the lock before us has finished.
    promised, held = cache.head(name), cache.held(place)
    if promised is not None and (held == promised or not images.exists(name)):
        # A build took the image to change it, or was about to put it in place: give it what its name promises.
        if held != promised:
            reference = Reference.from_file_name(name)
            emit(Warned(text=f"restoring an image left unfinished by an interrupted command: {reference}"))
            cache.restore(promised, place)
        images.publish(name)
    elif held is None:
        images.discard_work(name)
