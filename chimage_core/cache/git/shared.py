"""Build caches of other storage directories, which are only read: what their owners made need not be made again.

No lock is taken there, for who may only read cannot take one. What their clean-up removes while we look is a miss, or
is found in the pack that took its place.
"""

from collections.abc import Callable

from chimage_core.cache.git.refs import References
from chimage_core.cache.git.repository import Repository
from chimage_core.errors import CacheBroken, CacheError


class SharedCache:
    """The build cache of another storage directory."""

    def __init__(self, path: str) -> None:
        """Open the repository at `path`, which may be missing: then nothing was cached there yet.

        Raises FileError, CacheBroken, CacheError.
        """
        # One line of the file that names alternates is one path.
        if "\n" in path:
            raise CacheError(f"path of a shared build cache has a line feed: {path!r}")
        self.repository = Repository(path)
        self._references = References(path, sync=False)
        self._is_blamed = False

    @property
    def is_there(self) -> bool:
        """Whether there is a repository."""
        return bool(self.repository.id)

    def get(self, reference: str, complain: Callable[[str], None]) -> bytes | None:
        """Return the commit of a reference by its full name, or None. What cannot be read is said once."""
        try:
            return self._references.get(reference)
        except (OSError, CacheBroken) as error:
            if not self._is_blamed:
                self._is_blamed = True
                complain(f"can’t read shared build cache, going on without: {self.repository.path}: {error}")
            return None
