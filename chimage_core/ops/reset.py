"""`reset`: delete all images and caches. Works on a storage directory of any version, hence without opening it."""

import os
from collections.abc import Sequence

from chimage_core.cancel import CancelToken
from chimage_core.events import Notice, Sink
from chimage_core.settings import Settings
from chimage_core.storage import store
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks


def reset(settings: Settings, argv: Sequence[str], *, emit: Sink, cancel: CancelToken) -> None:
    """Empty the storage directory; jobs stay. Raises StorageError if it is not ours, FileError, Cancelled."""
    layout = Layout(settings.storage)
    if not os.path.lexists(layout.root):
        emit(Notice(level="info", text=f"nothing to delete, no storage directory: {layout.root}"))
        return
    if settings.old_storage is not None:  # It is the default directory.
        store.refuse_strangers(layout)
    store.check_ours(layout)  # Before the lock: where it is not ours, not even a lock file may be left.
    locks = Locks(layout, argv, emit=emit, cancel=cancel, timeout=settings.lock_timeout, enabled=settings.lock)
    with locks.storage(exclusive=True):
        emit(Notice(level="info", text=f"deleting all images and the build cache: {layout.root}"))
        store.reset(layout)
