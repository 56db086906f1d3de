"""Objects that are only thought of: what a tree would be, without storing it."""

from chimage_core.cache.git.objects import identify
from chimage_core.cache.git.packs import identify_file
from chimage_core.cache.git.trees import ObjectReader


class Draft:
    """A sink that keeps trees and metadata in memory and of file contents only the names; reads fall through."""

    def __init__(self, store: ObjectReader) -> None:
        self._store = store
        self._objects: dict[bytes, bytes] = {}

    def add(self, kind: int, data: bytes) -> bytes:
        """Take an object; return its name."""
        name = identify(kind, data)
        self._objects[name] = data
        return name

    def add_file(self, descriptor: int, size: int, extents: list[tuple[int, int]] | None = None) -> bytes:
        """Return the name of a file's content."""
        return identify_file(descriptor, size, [(0, size)] if extents is None else extents)

    def read_kind(self, name: bytes, kind: int) -> bytes:
        """Return the content of an object of this type."""
        data = self._objects.get(name)
        return self._store.read_kind(name, kind) if data is None else data
