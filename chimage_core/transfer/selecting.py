"""Which of the images in an archive is meant: by what it is called there, then by its architecture."""

from collections.abc import Sequence

from chimage_core.errors import InvalidReference, LayerError
from chimage_core.image.architecture import YOLO, best_available
from chimage_core.image.reference import Reference
from chimage_core.transfer.layouts import Listed, unsuitable


def select(
    listed: Sequence[Listed], *, name: str | None, reference: Reference, architecture: str, is_required: bool
) -> Listed:
    """Return the image that is meant.

    `name`: what it is called in the archive, all of it or the tag; None: if several are there, as `reference`, which it
    will be called here. `architecture` is what to take of several, and if it `is_required`, all that may be taken.
    Raises LayerError, which tells what there is.
    """
    if not listed:
        raise LayerError("archive has no images")
    found = list(listed)
    if name is not None:
        found = [each for each in listed if any(_is_called(theirs, name) for theirs in each.names)]
        if not found:
            raise unsuitable(f"archive has no image called {name}:", listed)
    elif len({each.names for each in listed}) > 1:
        found = [each for each in listed if any(_is_same(theirs, reference) for theirs in each.names)] or found
    if (len(found) > 1 or is_required) and all(each.architecture for each in found):
        found = _for_architecture(found, architecture, is_required=is_required)
    if len(found) > 1:
        raise unsuitable("archive has several images:", listed)
    return found[0]


def _for_architecture(found: list[Listed], wanted: str, *, is_required: bool) -> list[Listed]:
    if wanted == YOLO:
        return found[:1] if len({each.names for each in found}) == 1 else found
    best = best_available(wanted, [each.architecture or "" for each in found])
    if best is not None:
        return [each for each in found if each.architecture == best]
    if is_required or len({each.names for each in found}) == 1:
        raise unsuitable(f"archive has no image for {wanted}:", found)
    return found


def _is_called(theirs: str, wanted: str) -> bool:
    """Return whether a name in an archive is the wanted one, however it is spelled, or has it as its tag."""
    if wanted in (theirs, theirs.rpartition(":")[2]):
        return True
    try:
        return _is_same(theirs, Reference.parse(wanted))
    except InvalidReference:
        return False


def _is_same(theirs: str, reference: Reference) -> bool:
    try:
        return Reference.parse(theirs).canonical() == reference.canonical()
    except InvalidReference:
        return False
