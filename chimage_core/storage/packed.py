"""What layers came of packing images, so that the same need not be packed again.

A note per content and way of packing, in a small file. The layers themselves are kept only while they are uploaded:
what is in a registry can be found there again, and packing costs little. Damaged notes count as missing.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from chimage_core.errors import file_errors
from chimage_core.fs.atomic import temporary_name, write_file
from chimage_core.image.digest import Digest

_MOST_PLACES = 16
_SUFFIX = ".json"


class PackedLayer(NamedTuple):
    """A layer as it is uploaded."""

    digest: Digest
    size: int
    """Bytes"""
    diff_id: Digest
    """Digest of the plain layer."""
    places: tuple[str, ...] = ()
    """Repositories that have it, `host:port/path`, the last one first."""


class PackedLayers:
    """The notes of a storage directory."""

    def __init__(self, directory: str) -> None:
        """`directory` is made when there is something to be kept; its parent exists."""
        self._directory = directory

    def get(self, key: str) -> PackedLayer | None:
        """Return what came of packing; `key` names the content, and all that packing depends on. Raises FileError."""
        path = self._path(key)
        with file_errors("read note of packed layer", path):
            try:
                with open(path, "rb") as file:
                    data = file.read(1 << 16)
            except FileNotFoundError:
                return None
        return _read(data, key)

    def put(self, key: str, layer: PackedLayer) -> None:
        """Remember a layer. Raises FileError."""
        document = {
            "key": key,
            "digest": str(layer.digest),
            "size": layer.size,
            "diff_id": str(layer.diff_id),
            "places": list(layer.places[:_MOST_PLACES]),
        }
        with file_errors("write note of packed layer", self._directory):
            os.makedirs(self._directory, exist_ok=True)
            # It can be computed again: nobody need wait for the disk.
            write_file(self._path(key), json.dumps(document).encode("ascii"), sync=False)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """Give the path of a file for a layer that is to be uploaded; it is removed at the end. Raises FileError."""
        with file_errors("make file for packed layer", self._directory):
            os.makedirs(self._directory, exist_ok=True)
            path = temporary_name(self._directory)
        try:
            yield path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _path(self, key: str) -> str:
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40]
        return os.path.join(self._directory, name + _SUFFIX)


def at_place(layer: PackedLayer, place: str) -> PackedLayer:
    """Return a layer that is now known to be in a repository."""
    return layer._replace(places=(place, *(other for other in layer.places if other != place))[:_MOST_PLACES])


def _read(data: bytes, key: str) -> PackedLayer | None:
    try:
        document: Any = json.loads(data)
        if document["key"] != key or not isinstance(document["size"], int) or document["size"] < 0:
            return None
        places = tuple(place for place in document["places"] if isinstance(place, str))
        return PackedLayer(
            Digest.parse(document["digest"]), document["size"], Digest.parse(document["diff_id"]), places
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
