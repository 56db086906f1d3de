"""`delete`: images go, the build cache keeps what it knows, so that they can come back."""

import contextlib
from collections.abc import Sequence

from chimage_core.errors import ImageNotFound
from chimage_core.events.images import ImageDeleted
from chimage_core.image.reference import Reference, ReferenceGlob, references
from chimage_core.workspace import Workspace


def delete(workspace: Workspace, globs: Sequence[ReferenceGlob]) -> tuple[Reference, ...]:
    """Delete the images that match, with the stages they were built from, and return them.

    Raises ImageNotFound for the first glob that matches nothing; nothing is deleted then.
    """
    known = _known(workspace)
    doomed: set[Reference] = set()
    for glob in globs:
        found = {reference for reference in known if glob.matches(reference) or glob.matches_stage(reference)}
        if not found:
            raise ImageNotFound(f"no image matches, can’t delete: {glob}", hint="“list” shows what there is")
        doomed |= found
    names = {reference.file_name: reference for reference in doomed}
    with workspace.locks.images(write=names):
        for name in sorted(names):
            workspace.cancel.check()
            _delete(workspace, name)
            workspace.emit(ImageDeleted(reference=str(names[name])))
    return tuple(names[name] for name in sorted(names))


def _known(workspace: Workspace) -> set[Reference]:
    """Return all images there are in any way: in place, half made, or only as a name in the build cache."""
    images = workspace.images
    return {*references((*images.names(), *images.interrupted(), *workspace.lasting_cache.names()))}


def _delete(workspace: Workspace, name: str) -> None:
    # The name in the cache goes last: should we die between the two, it still says what is to be deleted.
    with contextlib.suppress(ImageNotFound):  # It may have been only a name in the cache.
        workspace.images.delete(name)
    workspace.lasting_cache.forget(name)
