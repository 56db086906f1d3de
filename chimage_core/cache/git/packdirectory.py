"""The packs of one `objects` directory, as far as we have opened them."""

import errno
import os

from chimage_core.cache.git.packfile import Pack
from chimage_core.errors import file_errors

ATTEMPTS = 3
"""Times to look for packs anew if some vanish while they are opened: each time somebody has replaced them."""

_VANISHED = (errno.ENOENT, errno.ESTALE)
"""The latter is said by network file systems."""
_MANY = 1000
"""Questions after which it pays to find out first which beginnings of names there are."""
_DROPPED_BITS = 10
"""Of the first 32 bits of a name; the others are a 4 MiB table, in which few of a million objects meet."""
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
        self._asked = 0
        self._present: bytearray | None = None
        """1 for each beginning of a name, 22 bits, that some object has; None: to be made."""

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
            self._present = None
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

    def has(self, name: bytes) -> bool:
        """Return whether an object is in an open pack. Made for asking about many that are not there."""
        if not self.packs:
            return False
        self._asked += 1
        if self._asked < _MANY:
            return self.find(name) is not None
        if self._present is None:
            self._present = self._mark_present()
        return bool(self._present[int.from_bytes(name[:4], "big") >> _DROPPED_BITS]) and self.find(name) is not None

    def _mark_present(self) -> bytearray:
        present = bytearray(1 << (32 - _DROPPED_BITS))
        for pack in self.packs:
            for prefix in pack.prefixes():
                present[prefix >> _DROPPED_BITS] = 1
        return present

    def release(self) -> None:
        """Give the memory of what was read back to the system: mapped pages count as ours."""
        for pack in self.packs:
            if pack.size > _BIG:
                pack.release()

    def forget_removed(self) -> None:
        """Close packs whose files are gone."""
        self.packs = [pack for pack in self.packs if os.path.exists(pack.index_path)]
        self._seen = {os.path.basename(pack.index_path) for pack in self.packs}
