"""What could be pruned in a storage directory: the items of each kind (see `prune_policy`). Only looks."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from chimage_core.errors import FileError, file_errors
from chimage_core.image.reference import references
from chimage_core.ops import prune_policy as policy
from chimage_core.ops.prune_policy import Item
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.cache.git.reachability import Reach
    from chimage_core.cache.protocol import GraphNode

_NS = 1_000_000_000


class Survey:
    """Looks for items. What it finds out about the history of images once holds for all kinds."""

    def __init__(self, workspace: Workspace) -> None:
        """Read the history. Raises FileError, CacheError."""
        from chimage_core.cache.git.uses import last_uses

        nodes = workspace.cache.graph().nodes
        self._workspace = workspace
        self._nodes = {node.token: node for node in nodes}
        with file_errors("read build cache", workspace.layout.uses):
            self._uses = last_uses(workspace.layout.uses, nodes)

    def items(self, kind: str) -> list[Item]:
        """Return all items of a kind, in any order. Raises FileError, CacheError, Cancelled."""
        return list(_FINDERS[kind](self))

    def _states(self) -> Iterator[Item]:
        from chimage_core.cache.git.dropping import plan_drop_objects

        engine = self._workspace.engine
        if engine.repository.id and plan_drop_objects(engine, self._needed.objects).packs:
            yield Item(policy.STATES, "", "what interrupted commands left", 0)
        for token, node in self._nodes.items():
            if node.kept_by == "nothing":
                yield Item(policy.STATES, token, node.text, self._used(node), needs=node.parents)

    def _large(self) -> Iterator[Item]:
        from chimage_core.cache.git.losing import stored_large_files

        for name, paths in stored_large_files(self._workspace.layout.large).items():
            if name not in self._needed.large:
                yield from (Item(policy.LARGE, path, os.path.basename(path), 0) for path in paths)

    def _packs(self) -> Iterator[Item]:
        from chimage_core.cache.git.gain import guess_gain

        for path, size in guess_gain(self._workspace.engine).items():
            yield Item(policy.PACKS, path, os.path.basename(path), 0, size=size)

    def _downloads(self) -> Iterator[Item]:
        return self._files(policy.DOWNLOADS, self._workspace.layout.blobs)

    def _uploads(self) -> Iterator[Item]:
        return self._files(policy.UPLOADS, self._workspace.layout.uploads)

    def _mounts(self) -> Iterator[Item]:
        for cache in self._workspace.cache_mounts.all():
            yield Item(policy.MOUNTS, cache.key, cache.id, cache.used)

    def _unpacked(self) -> Iterator[Item]:
        """Give the images whose directories hold what the build cache has, and nothing else."""
        workspace = self._workspace
        for reference in workspace.images.references():
            name = reference.file_name
            if workspace.cache.head(name) is not None and self._is_in_cache(name):
                yield Item(policy.UNPACKED, name, str(reference), self._image_used(name))

    def _deleted(self) -> Iterator[Item]:
        from chimage_core.cache.git.refs import deletion_name

        for deletion in self._workspace.cache.deleted():
            for reference in references((deletion.name,)):
                name = deletion_name(deletion.name, deletion.time_ns)
                yield Item(policy.DELETED, name, str(reference), deletion.time_ns / _NS, group=deletion.name)

    def _images(self) -> Iterator[Item]:
        workspace = self._workspace
        names = {*workspace.images.names(), *workspace.cache.names()}
        for reference in references(sorted(names)):
            yield Item(policy.IMAGES, reference.file_name, str(reference), self._image_used(reference.file_name))

    def _files(self, kind: str, directory: str) -> Iterator[Item]:
        try:
            entries = [entry for entry in os.scandir(directory) if not entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            yield Item(kind, entry.path, entry.name, max(status.st_mtime, status.st_atime))

    @cached_property
    def _needed(self) -> "Reach":
        """What some reference leads to."""
        from chimage_core.cache.git.reachability import Reach

        engine = self._workspace.engine
        reach = Reach(engine.store, self._workspace.cancel)
        reach.add(engine.references.below("refs/").values())
        return reach

    def _is_in_cache(self, name: str) -> bool:
        """Return whether the directory of an image can be made again: it is as its head says, down to each file."""
        from chimage_core.cache.git.placecheck import difference
        from chimage_core.fs.usage import is_open

        workspace = self._workspace
        place, head = workspace.images.published(name), workspace.cache.head(name)
        # What may not be read cannot be compared without changing it.
        if head is None or workspace.cache.held(place) != head or not is_open(place.root, workspace.cancel):
            return False
        if not self._is_own(bytes.fromhex(head.token)):
            return False
        try:
            found = difference(workspace.engine, place)
        except FileError:  # Somebody is at it just now.
            return False
        return found == []

    def _is_own(self, head: bytes) -> bool:
        """Return whether all that an image needs is ours: what is borrowed, its owner may drop."""
        from chimage_core.cache.git.losing import stored_large_files
        from chimage_core.cache.git.reachability import Reach

        store = self._workspace.engine.store
        if not store.alternates.directories:
            return True
        reach = Reach(store, self._workspace.cancel)
        reach.add([head])
        large = stored_large_files(self._workspace.layout.large)
        return all(map(store.contains, reach.objects)) and reach.large.keys() <= large.keys()

    def _used(self, node: "GraphNode") -> float:
        return self._uses[node.state.value]

    def _image_used(self, name: str) -> float:
        """Return when an image was last made, or its state used. That ch-run ran it leaves no trace."""
        images, head = self._workspace.images, self._workspace.cache.head(name)
        made = images.modified(name) / _NS if images.exists(name) else 0
        node = None if head is None else self._nodes.get(head.token)
        return made if node is None else max(made, self._used(node))


_FINDERS: Mapping[str, Callable[[Survey], Iterator[Item]]] = {
    policy.STATES: Survey._states,
    policy.LARGE: Survey._large,
    policy.PACKS: Survey._packs,
    policy.DOWNLOADS: Survey._downloads,
    policy.UPLOADS: Survey._uploads,
    policy.MOUNTS: Survey._mounts,
    policy.UNPACKED: Survey._unpacked,
    policy.DELETED: Survey._deleted,
    policy.IMAGES: Survey._images,
}
