"""The packs of one `objects` directory, as far as we have opened them."""

import errno
import os

from chimage_core.cache.git.packfile import Pack
from chimage_core.errors import file_errors

ATTEMPTS = 3
"""Times to look for packs anew if some vanish while they are opened: each time somebody has replaced them."""

_VANISHED = (errno.ENOENT, errno.ESTALE)
"""The latter is said by network file systems."""
_BIG = 4 << 20
"""Bytes. Mapped pages of smaller packs are not worth giving back."""


class PackDirectory:
    """The packs of one `objects` directory. Other processes may add and remove some at any time."""

    def __init__(self, objects: str) -> None:
        """Nothing is opened yet."""
        self.path = os.path.join(objects, "pack")
        self.packs: list[Pack] = []
        """The open ones, those used last in front."""
        self._seen: set[str] = set()
        """Names of indexes that were opened, or are to be ignored."""

    def unseen(self) -> list[str]:
        """Return the paths of the indexes that are neither opened nor ignored. Raises OSError."""
        names = os.listdir(self.path)
        return [os.path.join(self.path, name) for name in names if name.endswith(".idx") and name not in self._seen]

    def open(self, index: str) -> bool:
        """Open a pack; return False if it has vanished: its objects are then in another, which may be new.

        Raises FileError, CacheBroken.
        """
        with file_errors("read build cache", index):
            try:
                self.packs.insert(0, Pack(index))
            except OSError as error:
                if error.errno not in _VANISHED:
                    raise
                return False
            self._seen.add(os.path.basename(index))
        return True

    def ignore(self, index: str) -> None:
        """Do not try this one again."""
        self._seen.add(os.path.basename(index))

    def find(self, name: bytes) -> tuple[Pack, int] | None:
        """Return the open pack that an object is in, and its offset there."""
        for position, pack in enumerate(self.packs):
            offset = pack.find(name)
            if offset is not None:
                if position:  # Objects that are used together are mostly in the same pack.
                    self.packs.insert(0, self.packs.pop(position))
                return pack, offset
        return None

    def release(self) -> None:
        """Give the memory of what was read back to the system: mapped pages count as ours."""
        for pack in self.packs:
            if pack.size > _BIG:
                pack.release()

    def forget_removed(self) -> None:
        """Close packs whose files are gone."""
        self.packs = [pack for pack in self.packs if os.path.exists(pack.index_path)]
        self._seen = {os.path.basename(pack.index_path) for pack in self.packs}
