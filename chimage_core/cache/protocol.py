"""What a build cache is to the builder and to the verbs. One contract suite tests every implementation.

The cache remembers *snapshots*: the file tree and configuration of an image after a step. A snapshot is found by its
state ID, that is, by the chain of steps that led to it. `ImagePlace` says where an image is unpacked; the cache knows
which snapshot a place holds by the stamp it keeps in the place's side directory.
"""

import enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from chimage_core.cache.state import StateID
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs.changes import Changes
from chimage_core.rootfs.place import ImagePlace

if TYPE_CHECKING:
    from chimage_core.fs.deferred import Delegate


class CacheMode(enum.Enum):
    """How the build cache is used."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    REBUILD = "rebuild"
    """FROM hits; everything else is carried out again and its result replaces the recorded one."""


class Snapshot(NamedTuple):
    """An image after a step, as its cache remembers it."""

    state: StateID
    token: str
    """Only the cache that made it can read this."""


class Deletion(NamedTuple):
    """A deleted image that can be recovered."""

    name: str
    """File form."""
    time_ns: int
    """When it was deleted, ns since the epoch."""
    snapshot: Snapshot
    """What it was then."""


class StepRecord(NamedTuple):
    """A finished step, about to be remembered."""

    parent: Snapshot | None
    """None: the chain starts here (import, pull, scratch)."""
    state: StateID | None
    """None, only without a parent: the content itself is the identity, so that importing the same tree again gives the
    same state, and another tree never hits what was built on the old one."""
    text: str
    """The instruction, one line, as shown in the tree."""
    config: ImageConfig
    """The configuration after the step."""
    changes: Changes
    expected: Snapshot | None = None
    """If the place turns out to hold just this, it is the result, and nothing new is remembered."""


class CacheSummary(NamedTuple):
    """How much is in the cache."""

    named_images: int
    state_ids: int
    commits: int
    files: int
    """Files of the cache itself on disk."""
    disk_bytes: int
    large_files: int
    large_bytes: int


class GraphNode(NamedTuple):
    """A snapshot in the graph of all."""

    token: str
    state: StateID
    parents: tuple[str, ...]
    """Tokens."""
    text: str
    time: int
    """Seconds since the epoch."""
    images: tuple[str, ...]
    """Names (file form) of images that are at this snapshot."""
    deleted: tuple[str, ...] = ()
    """Names of images that were at this snapshot when they were deleted, and that can be recovered."""
    kept_by: Literal["image", "deleted", "nothing"] = "image"
    """What a clean-up would keep this snapshot for: an image at it or at a descendant; only deleted ones; nothing."""


class CacheGraph(NamedTuple):
    """All snapshots, newest first, children before parents."""

    nodes: tuple[GraphNode, ...]


class Cache(Protocol):
    """Remembers snapshots. `name` is always an image name in file form (`debian+12`)."""

    @property
    def keeps_snapshots(self) -> bool:
        """False: a snapshot is nothing but the directory of its image, which is lost when that changes."""

    def find(self, state: StateID) -> Snapshot | None:
        """Return the snapshot of this state, or None for a miss. Touches neither image nor Git; well below 0.1 ms."""

    def head(self, name: str) -> Snapshot | None:
        """Return the snapshot of an image, or None."""

    def shared_head(self, name: str) -> Snapshot | None:
        """Return the snapshot of an image of somebody else, whose cache is shared with us, or None."""

    def config(self, snapshot: Snapshot) -> ImageConfig:
        """Return the configuration of a snapshot."""

    def held(self, place: ImagePlace) -> Snapshot | None:
        """Return the snapshot that the place is known to hold, or None. Trusts the stamp: reads no image file."""

    def known(self, place: ImagePlace) -> Snapshot | None:
        """Return the snapshot that the place last held, though it may have changed since; None if it never held one.

        It differs from `held` after a change that was not committed, and after a restart of the machine, which may
        have cost the disk the last files.
        """

    def restore(self, snapshot: Snapshot, place: ImagePlace) -> None:
        """Make `place.root` hold exactly this snapshot, as cheaply as its present content allows.

        Nothing is done if it does already; only differences are applied if the place is clean; else the tree is made
        anew beside it and replaces it. A crash leaves a place that `held` answers None for.
        """

    def opening(self, place: ImagePlace) -> None:
        """Say that `place.root` is about to be changed: until the next `commit` or `restore`, `held` answers None.

        Not needed before a RUN whose changes go to an overlay.
        """

    def unshare(self, place: ImagePlace) -> None:
        """Make every file of the place its own: it is about to be written to in place, and not through an overlay.

        Raises FileError, Cancelled.
        """

    def copier(self, place: ImagePlace) -> "Delegate | None":
        """Return what copies many files into the place and remembers their contents at once, for the next commit.

        That gets it as `PathsChanged.copier`. None: it is all the same to this cache who copies. Raises FileError,
        CacheBroken, CacheError.
        """

    def commit(self, place: ImagePlace, record: StepRecord) -> Snapshot:
        """Remember what `place.root` holds now, after writing the configuration into it; `held` is then that snapshot.

        With `UpperChanged` the overlay's changes are first merged into the root file system. If another process
        recorded the same state meanwhile, the state keeps pointing to what it recorded, and this commit is our own.
        Raises CacheError for what cannot be remembered (a device).
        """

    def publish(self, name: str, snapshot: Snapshot) -> None:
        """Make the snapshot the head of an image."""

    def forget(self, name: str) -> None:
        """The image was deleted: it has no head any more, but `recover` can bring it back."""

    def deleted(self, name: str | None = None) -> tuple[Deletion, ...]:
        """Return the deletions of one image, or of all, that can be undone; newest first."""

    def recover(self, deletion: Deletion) -> None:
        """Undo a deletion: its snapshot is the head of the image again."""

    def names(self) -> tuple[str, ...]:
        """Return the names of the images that have a head, sorted."""

    def reset(self) -> None:
        """Forget everything. The caller holds the storage lock exclusively."""

    def sweep(self) -> None:
        """Remove what killed processes left. The caller holds the storage lock exclusively."""

    def summary(self) -> CacheSummary:
        """Return how much is in the cache."""

    def graph(self) -> CacheGraph:
        """Return all snapshots."""
