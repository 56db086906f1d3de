"""`build-cache --du`: what takes how much room in the storage directory. Takes no lock.

Sizes are bytes on the disk (see `fs.usage`): of files but for locks, and of directories where they are a part of an
image. Those of images in the build cache are what their objects take in its packs. The parts add up to the total; an
unpacked file that is a large file of the build cache at the same time counts there.
"""

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.fs.usage import Sum, free_space, on_disk
from chimage_core.image.reference import Reference, references
from chimage_core.workspace import Workspace

if TYPE_CHECKING:
    from chimage_core.cache.git.engine import Engine


class ImageUse(NamedTuple):
    """The room that one image takes, bytes."""

    reference: Reference
    is_cached: bool
    """It is in the build cache. Else the sizes there are 0."""
    cached: int
    """What it needs in the build cache, with all states before it."""
    unique: int
    """Of `cached`, what no other image needs, nor a deleted one that can be recovered."""
    is_unpacked: bool
    """It has a directory. Else the sizes of that are 0."""
    unpacked: int
    """Its directory, without what is linked."""
    linked: int
    """Files of its directory that are large files of the build cache, or of an image before it."""

    @property
    def shared(self) -> int:
        """Of `cached`, what others need, too."""
        return self.cached - self.unique


class CacheUse(NamedTuple):
    """The room that the build cache takes, bytes."""

    packs: int
    large: int
    other: int
    """References, inputs, times of use."""
    deleted: int
    """Of packs and large files, what only deleted images need that can be recovered."""
    unreachable: int
    """Of packs and large files, what no image needs."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.packs + self.large + self.other


class StorageUse(NamedTuple):
    """The room that a storage directory takes, bytes."""

    images: tuple[ImageUse, ...]
    unpacked: int
    """All unpacked images, and our notes about them."""
    cache: CacheUse
    downloads: int
    uploads: int
    leftovers: int
    """Images being made, and what killed commands left."""
    mounts: int
    """Contents of `RUN --mount=type=cache`."""
    jobs: int
    other: int
    free: int
    """What ordinary users may still write to the file system."""

    @property
    def total(self) -> int:
        """All of it."""
        parts = (self.unpacked, self.downloads, self.uploads, self.leftovers, self.mounts, self.jobs, self.other)
        return self.cache.total + sum(parts)


class _Heads(NamedTuple):
    """What of the build cache which images need, in bytes by set of heads (see `sharing`)."""

    names: list[str]
    """Of the images, in file form; bit n of a set is names[n]. Higher bits are deleted images."""
    sums: dict[int, int]

    def cached(self, name: str) -> tuple[int, int]:
        """Return what an image needs, and of this what it alone needs."""
        if name not in self.names:
            return 0, 0
        bit = 1 << self.names.index(name)
        return sum(size for heads, size in self.sums.items() if heads & bit), self.sums.get(bit, 0)

    def deleted(self) -> int:
        """Return what only deleted images need."""
        named = (1 << len(self.names)) - 1
        return sum(size for heads, size in self.sums.items() if heads and not heads & named)


def disk_use(workspace: Workspace) -> StorageUse:
    """Find out what takes how much room. Raises CacheDisabled, FileError, CacheError, Cancelled."""
    return _measured(workspace, _heads(workspace.engine, workspace.layout.large))


def total_size(workspace: Workspace) -> int:
    """Return the room that everything together takes, bytes: the same, sooner. Raises as `disk_use` does."""
    return _measured(workspace, _Heads([], {})).total


def _measured(workspace: Workspace, heads: _Heads) -> StorageUse:
    layout = workspace.layout
    files = Sum(workspace.cancel)
    # The build cache first: a file that an image has from there counts there.
    cache = _cache_use(workspace, heads, files)
    names = sorted({*workspace.images.names(), *heads.names})
    images = tuple(_image_use(workspace, reference, heads, files) for reference in references(names))
    published = {layout.published(image.reference.file_name).root for image in images}
    beside = files.add(layout.images, directories=False, apart=published)[0] + _entries(layout.sides, files)
    counted = {*layout.contents, layout.jobs} - {layout.probes}
    passing = (layout.lock, layout.locks, layout.sessions)  # Who is at work just now.
    return StorageUse(
        images=images,
        unpacked=sum(image.unpacked for image in images) + beside,
        cache=cache,
        downloads=files.add(layout.blobs, directories=False, apart={layout.uploads})[0],
        uploads=files.add(layout.uploads, directories=False)[0],
        leftovers=_entries(layout.works, files) + _entries(layout.trash, files),
        mounts=_entries(layout.mounts, files),
        jobs=_entries(layout.jobs, files),
        other=files.add(layout.root, directories=False, apart={*counted, *passing})[0],
        free=free_space(layout.root),
    )


def _heads(engine: "Engine", large: str) -> _Heads:
    from chimage_core.cache.git.losing import stored_large_files
    from chimage_core.cache.git.reachability import stored_sizes
    from chimage_core.cache.git.refs import DELETED, IMAGES, unescape
    from chimage_core.cache.git.sharing import Sharing, by_heads

    named = engine.references.below(IMAGES)
    deleted = engine.references.below(DELETED)
    sharing = Sharing(engine.store, [*named.values(), *deleted.values()], engine.options.cancel)
    sums = by_heads(sharing.objects, stored_sizes(engine.store))
    large_sizes = {name: _blocks(paths) for name, paths in stored_large_files(large).items()}
    for heads, size in by_heads(sharing.large, large_sizes).items():
        sums[heads] = sums.get(heads, 0) + size
    return _Heads([unescape(name.removeprefix(IMAGES)) for name in named], sums)


def _entries(directory: str, files: Sum) -> int:
    """Return what is in a directory of ours, not counting itself: it is there anyway."""
    try:
        paths = [entry.path for entry in os.scandir(directory)]
    except FileNotFoundError:
        return 0
    return sum(files.add(path)[0] for path in paths)


def _blocks(paths: Iterable[str]) -> int:
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += on_disk(os.lstat(path))
    return total


def _cache_use(workspace: Workspace, heads: _Heads, files: Sum) -> CacheUse:
    layout, packs = workspace.layout, workspace.engine.repository.packs
    return CacheUse(
        packs=files.add(packs, directories=False)[0],
        large=files.add(layout.large, directories=False)[0],
        other=files.add(layout.cache, directories=False, apart={packs, layout.large})[0],
        deleted=heads.deleted(),
        unreachable=heads.sums.get(0, 0),
    )


def _image_use(workspace: Workspace, reference: Reference, heads: _Heads, files: Sum) -> ImageUse:
    name = reference.file_name
    unpacked, linked = files.add(workspace.images.published(name).root)
    cached, unique = heads.cached(name)
    return ImageUse(
        reference=reference,
        is_cached=name in heads.names,
        cached=cached,
        unique=unique,
        is_unpacked=workspace.images.exists(name),
        unpacked=unpacked,
        linked=linked,
    )
