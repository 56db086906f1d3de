"""What killed builds and imports left is completed or removed before the next one works."""

import os

from chimage_core.cache.protocol import Cache
from chimage_core.errors import StorageBusy
from chimage_core.events import Sink, Warned
from chimage_core.storage.images import Images
from chimage_core.storage.lock import Locks


def recover_interrupted(images: Images, cache: Cache, locks: Locks, emit: Sink) -> None:
    """Complete or undo what a killed process left: afterwards each image is whole, or not there.

    A work place that the cache's head of that name describes was about to be published. One that is in the way of a
    published image goes. Names that somebody works on are left alone.
    """
    for name in images.interrupted():
        try:
            with locks.at_once().images(write=(name,)):
                _recover(images, cache, emit, name)
        except StorageBusy:
            pass  # Somebody is making it right now.


def _recover(images: Images, cache: Cache, emit: Sink, name: str) -> None:
    place = images.workplace(name)
    if not os.path.isdir(place.root):
        return  # Whoever held the lock before us has finished.
    promised, held = cache.head(name), cache.held(place)
    if promised is not None and (held == promised or not images.exists(name)):
        # A build took the image to change it, or was about to put it in place: give it the content that its name promises.
        if held != promised:
            emit(Warned(text=f"restoring an image left unfinished by an interrupted command: {name}"))
            cache.restore(promised, place)
        images.publish(name)
    elif held is None:
        images.discard_work(name)
