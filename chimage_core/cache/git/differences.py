"""What a scan of an image directory finds to be different from the last commit."""

from dataclasses import dataclass, field

from chimage_core.cache.git import metadata
from chimage_core.cache.git.contents import Content


@dataclass(slots=True)
class Found:
    """An entry (not a directory) that is new or may have changed."""

    name: bytes
    kind: bytes
    """`f`, `l` or `p`, as in metadata."""
    mode: int
    mtime: int
    keys: list[bytes]
    inode: int
    links: int
    same_inode: bool
    """The last commit saw the same inode under this name."""
    content: Content | None = None
    """None for a FIFO."""

    def line(self) -> bytes:
        """Return its metadata line."""
        keys, content = self.keys, self.content
        if content is not None and content.large:
            keys = [metadata.large_key(content.large, content.size), *keys]
        elif content is not None and content.extents is not None:
            keys = [metadata.extents_key(content.extents, content.size), *keys]
        return metadata.line(self.kind, self.mode, self.mtime, self.name, keys)


@dataclass(slots=True)
class Change:
    """What differs in one directory."""

    own: bytes | None = None
    """Its own metadata line; None: unchanged."""
    found: dict[bytes, Found] = field(default_factory=dict)
    removed: set[bytes] = field(default_factory=set)
    """Names that are gone, or that we do not keep (sockets)."""
    folders: set[bytes] = field(default_factory=set)
    """Subdirectories: at least the new ones; all of them if the change is complete."""
    is_complete: bool = False
    """`found` and `folders` are all there is; nothing is known of what was before."""
