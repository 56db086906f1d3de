"""Source of truth for every path within the storage directory. No such path is computed elsewhere!

Images are named by the file form of their reference (`team%tool+1.2`), so that ch-run and ch-convert find them in
`img`.
"""

import os
from dataclasses import dataclass

from chimage_core.rootfs.place import ImagePlace


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one storage directory. Nothing has to exist."""

    root: str
    """Absolute."""

    def __post_init__(self) -> None:
        if not os.path.isabs(self.root):
            raise ValueError(f"not an absolute path: {self.root}")

    @property
    def version(self) -> str:
        """File: format of the directory. What has it is a storage directory."""
        return self._in("version")

    @property
    def lock(self) -> str:
        """Lock file of the whole directory."""
        return self._in("lock")

    @property
    def locks(self) -> str:
        """Directory of the lock files of image names."""
        return self._in("locks")

    @property
    def sessions(self) -> str:
        """Directory of the files of commands at work."""
        return self._in("sessions")

    @property
    def probes(self) -> str:
        """File: what kernel and file system allow, as found out."""
        return self._in("probes")

    @property
    def cache(self) -> str:
        """Directory of the build cache."""
        return self._in("cache")

    @property
    def git(self) -> str:
        """Git repository of the build cache."""
        return os.path.join(self.cache, "git")

    @property
    def large(self) -> str:
        """Large files of the build cache, outside Git."""
        return os.path.join(self.cache, "large")

    @property
    def inputs(self) -> str:
        """What each cached state was computed from."""
        return os.path.join(self.cache, "inputs")

    @property
    def uses(self) -> str:
        """When cached states were last used."""
        return os.path.join(self.cache, "lru")

    @property
    def mounts(self) -> str:
        """Directory of the contents of `RUN --mount=type=cache`."""
        return self._in("cache-mounts")

    @property
    def blobs(self) -> str:
        """Directory of downloaded and packed layers, manifests, configurations."""
        return self._in("blobs")

    @property
    def uploads(self) -> str:
        """Directory of layers packed for a push."""
        return os.path.join(self.blobs, "packed")

    @property
    def images(self) -> str:
        """Directory of finished images."""
        return self._in("img")

    @property
    def sides(self) -> str:
        """Directory of our notes about images."""
        return self._in("img.d")

    @property
    def works(self) -> str:
        """Directory of unfinished images."""
        return self._in("work")

    @property
    def trash(self) -> str:
        """Directory of what is being deleted."""
        return self._in("trash")

    @property
    def jobs(self) -> str:
        """Directory of detached jobs."""
        return self._in("jobs")

    @property
    def directories(self) -> tuple[str, ...]:
        """All directories that a storage directory has from the beginning."""
        return (
            self.locks,
            self.sessions,
            self.cache,
            self.mounts,
            self.blobs,
            self.images,
            self.sides,
            self.works,
            self.trash,
            self.jobs,
        )

    @property
    def contents(self) -> tuple[str, ...]:
        """What holds images and caches: what a reset deletes."""
        return (
            self.images,
            self.works,
            self.sides,
            self.cache,
            self.mounts,
            self.blobs,
            self.trash,
            self.probes,
        )

    def name_lock(self, name: str) -> str:
        """Lock file of an image name."""
        return _entry(self.locks, name)

    def cache_mount(self, key: str) -> str:
        """Directory of one cache of `RUN --mount=type=cache`."""
        return _entry(self.mounts, key)

    def published(self, name: str) -> ImagePlace:
        """Where the finished image is."""
        return ImagePlace(name, _entry(self.images, name), _entry(self.sides, name))

    def workplace(self, name: str) -> ImagePlace:
        """Where the image is while it is made."""
        return ImagePlace(name, _entry(self.works, name), _entry(self.sides, name))

    def alias(self, alias: str) -> str:
        """Symbolic link to an image by its name without `+latest`."""
        return _entry(self.images, alias)

    def _in(self, name: str) -> str:
        return os.path.join(self.root, name)


def _entry(directory: str, name: str) -> str:
    """Join; a name that would lead elsewhere is a bug of the caller."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"not a file name: {name!r}")
    return os.path.join(directory, name)
