"""Layers of what is pushed, packed into files. Loaded only if something has to be packed."""

from collections.abc import Iterable

from chimage_core.cache.protocol import Snapshot
from chimage_core.errors import file_errors
from chimage_core.fs.entry import Entry
from chimage_core.layer.compress import PackedStream
from chimage_core.layer.pack import PackReport, pack, rootfs_entries, tell, without_whiteouts
from chimage_core.ops.push_source import Packing
from chimage_core.workspace import Workspace


class Packer:
    """Packs layers."""

    def __init__(self, workspace: Workspace, packing: Packing) -> None:
        self._workspace = workspace
        self._packing = packing

    def pack_directory(self, root: str, path: str) -> PackedStream:
        """Pack the image in a directory. Raises LayerError for files that change meanwhile, FileError, Cancelled."""
        report = PackReport()
        entries = rootfs_entries(root, report, xattrs=self._packing.xattrs, cancel=self._workspace.cancel)
        stream = self._pack(entries, path)
        tell(report, self._workspace.emit)
        return stream

    def pack_restored(self, name: str, snapshot: Snapshot, path: str) -> PackedStream:
        """Pack an image that has no directory."""
        with self._workspace.images.aside(name) as place:
            self._workspace.lasting_cache.restore(snapshot, place)
            return self.pack_directory(place.root, path)

    def pack_entries(self, entries: Iterable[Entry], path: str) -> PackedStream:
        """Pack entries that come from elsewhere."""
        report = PackReport()
        with file_errors("pack layer", path):
            stream = self._pack(without_whiteouts(entries, report), path)
        tell(report, self._workspace.emit)
        return stream

    def _pack(self, entries: Iterable[Entry], path: str) -> PackedStream:
        with file_errors("write packed layer", path), open(path, "xb") as file:
            return pack(
                entries,
                file.write,
                self._packing.compression,
                latest=self._packing.epoch,
                cancel=self._workspace.cancel,
            )
