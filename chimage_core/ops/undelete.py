"""`undelete` and `list --undeletable`: deleted images come back from the build cache."""

from typing import NamedTuple

from chimage_core.cache.protocol import Deletion, Snapshot
from chimage_core.errors import CacheError, ImageExists, NotInCache
from chimage_core.events import Notice
from chimage_core.events.images import ImageReady
from chimage_core.image.reference import Reference, references
from chimage_core.ops.heads import unpack_packed_away
from chimage_core.workspace import Workspace


class UndeleteResult(NamedTuple):
    """What came of it."""

    reference: Reference
    path: str
    """The unpacked image."""
    state: str
    """State ID, hexadecimal."""


class UndeletableImage(NamedTuple):
    """A deletion that can be undone."""

    reference: Reference
    number: int
    """1: the last deletion of this image, 2: the one before, …"""
    deleted_ns: int
    """When, ns since the epoch."""
    architecture: str | None
    """None: the image does not say."""
    state: str
    """State ID of the image when it was deleted, hexadecimal."""
    exists: bool
    """There is an image of that name again, which has to be deleted first."""


def undelete(workspace: Workspace, reference: Reference, number: int | None = None) -> UndeleteResult:
    """Recover an image as it was at its last deletion, or at the `number`-th last.

    An image that was not deleted, but whose directory is lost, is recovered as well. Raises CacheDisabled, ImageExists,
    NotInCache for what was never deleted, CacheError, FileError, Cancelled: nothing has changed then.
    """
    workspace.require_cache()
    images, name = workspace.images, reference.file_name
    with workspace.locks.images(write=(name,)):
        if images.exists(name):
            raise _exists(reference)
        head = workspace.cache.head(name)
        if head is not None and number is not None:
            raise _exists(reference)
        if head is None:
            deletion = _find(workspace, reference, number or 1)
            _tell(workspace, reference)
            _put_back(workspace, deletion)
            head = deletion.snapshot
        else:
            _tell(workspace, reference)
            unpack_packed_away(workspace, name)
    path = images.published(name).root
    workspace.emit(ImageReady(reference=str(reference.full), path=path))
    return UndeleteResult(reference.full, path, head.state.hex)


def undeletable(workspace: Workspace, reference: Reference | None = None) -> tuple[UndeletableImage, ...]:
    """Return the deletions of one image, or of all, that can be undone; newest first. Takes no lock.

    Raises CacheDisabled, CacheError.
    """
    workspace.require_cache()
    found, numbers = [], dict[str, int]()
    for deletion in workspace.cache.deleted(None if reference is None else reference.file_name):
        name = deletion.name
        numbers[name] = numbers.get(name, 0) + 1
        for image in references((name,)):
            found.append(
                UndeletableImage(
                    reference=image,
                    number=numbers[name],
                    deleted_ns=deletion.time_ns,
                    architecture=_architecture(workspace, deletion.snapshot),
                    state=deletion.snapshot.state.hex,
                    exists=workspace.images.exists(name) or workspace.cache.head(name) is not None,
                )
            )
    return tuple(found)


def _tell(workspace: Workspace, reference: Reference) -> None:
    workspace.emit(Notice(level="info", text=f"recovering image: {reference.full}"))


def _put_back(workspace: Workspace, deletion: Deletion) -> None:
    """Unpack a deleted image and give it its name.

    The name comes when all files are there: a crash before leaves the image deleted, one after it is completed by the
    next command.
    """
    images, name = workspace.images, deletion.name
    try:
        workspace.cache.restore(deletion.snapshot, images.workplace(name))
    except BaseException:
        images.discard_work(name)
        raise
    workspace.cache.recover(deletion)
    images.publish(name)


def _find(workspace: Workspace, reference: Reference, number: int) -> Deletion:
    """Return the `number`-th last deletion of an image. Raises NotInCache."""
    deleted = workspace.cache.deleted(reference.file_name)
    if number <= len(deleted):
        return deleted[number - 1]
    if deleted:
        times = "once" if len(deleted) == 1 else f"{len(deleted)} times"
        raise NotInCache(
            f"no deletion number {number}, the build cache remembers that the image was deleted {times}: {reference}",
            hint=f"“list --undeletable --long {reference}” shows them",
        )
    raise NotInCache(
        f"image was not deleted, or is no longer in the build cache: {reference}", hint=_hint(workspace, reference)
    )


def _hint(workspace: Workspace, reference: Reference) -> str:
    """Say what else can be undeleted, the most similar names first."""
    import difflib

    there = {str(image): image for image in references(deletion.name for deletion in workspace.cache.deleted())}
    same = sorted(name for name, image in there.items() if image.repository == reference.repository)
    # The tag, mostly the same, would make all names similar.
    by_name = {image.repository: name for name, image in there.items() if name not in same}
    close = [by_name[name] for name in difflib.get_close_matches(reference.repository, by_name, n=5)]
    similar = (same + close)[:5]
    return f"did you mean: {', '.join(similar)}" if similar else "“list --undeletable” shows what can be undeleted"


def _exists(reference: Reference) -> ImageExists:
    return ImageExists(
        f"image exists, and is not overwritten: {reference}",
        hint=f"delete it first; “list --undeletable --long {reference}” then shows which version is which",
    )


def _architecture(workspace: Workspace, snapshot: Snapshot) -> str | None:
    try:
        return workspace.cache.config(snapshot).architecture
    except CacheError:  # One damaged image must not hide the others.
        return None
