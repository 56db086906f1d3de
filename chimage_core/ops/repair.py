"""`build-cache --repair`: what is damaged is mended or given up, so that everything left is whole.

What cannot be read in the repository is often still in an image directory, and is taken from there. An image never
becomes something else without saying so: one whose snapshot is lost is recorded anew from its directory, or is gone.
"""

import collections
import contextlib
import os
from collections.abc import Container, Mapping

from chimage_core.cache import stamp as stamps
from chimage_core.cache.git import repair
from chimage_core.cache.git.alternates import alternates_file
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.examine import examine
from chimage_core.cache.git.placecheck import claim
from chimage_core.cache.git.places import known_stamp
from chimage_core.cache.git.recover import Missing, read_again
from chimage_core.cache.git.refs import IMAGES, escape, unescape
from chimage_core.cache.git.repository import Repository, damaged_parts, mend
from chimage_core.cache.git.verify import Objects
from chimage_core.cache.inputs_store import InputsStore
from chimage_core.cache.stamp import PlaceState
from chimage_core.errors import CacheBroken, CacheError, FileError, InvalidReference
from chimage_core.events import Warned
from chimage_core.events.check import Repaired
from chimage_core.image.reference import Reference
from chimage_core.ops.check import CheckReport, check, image_findings, inputs_problem, progress
from chimage_core.ops.heads import settle
from chimage_core.workspace import Workspace


def repair_cache(workspace: Workspace) -> CheckReport:
    """Mend everything, and check it. The workspace was opened exclusively.

    Raises CacheDisabled; CacheError for a newer format, or a shared cache that is away; FileError, Cancelled: it can
    then be begun again.
    """
    workspace.require_cache()
    _mend_configuration(workspace)
    if workspace.engine.repository.id:
        _need_shared(workspace.engine)
        objects = repair.mend_objects(workspace.engine, progress(workspace))
        workspace.lasting_cache.reopen()
        _mend_snapshots(workspace, objects)
        _mend_images(workspace)
        workspace.lasting_cache.sweep()
    if inputs_problem(workspace.layout.inputs):
        InputsStore(workspace.layout.inputs).remove()
        _tell(workspace, "inputs", "record of inputs removed: why steps hit or miss is not known for old states")
    workspace.lasting_cache.reopen()
    return check(workspace)


def _mend_configuration(workspace: Workspace) -> None:
    path = workspace.layout.git
    try:
        if not damaged_parts(path):
            Repository(path)  # Only for what it raises.
            return
    except CacheBroken:
        if not os.path.isdir(os.path.join(path, "refs")):
            raise
    # The images know it: with another one, they would no longer be known.
    known = collections.Counter(
        stamp.cache for name in workspace.images.names() if (stamp := stamps.read(workspace.images.published(name)))
    )
    mend(path, known.most_common(1)[0][0] if known else os.urandom(8).hex())
    workspace.lasting_cache.reopen()
    _tell(workspace, "configuration", "configuration of the repository is written anew")


def _need_shared(engine: Engine) -> None:
    """Raise CacheError if a shared cache is away, perhaps only for now: what was built on it would be given up."""
    listing = alternates_file(engine.repository.objects)
    for directory in engine.store.alternates.directories:
        if not os.path.isdir(directory):
            raise CacheError(
                f"shared build cache is away, and what was built on it can’t be repaired without: {directory}",
                hint=f"is it not mounted? If it is gone for good, remove its line from {listing} "
                "and repair again: what needs it is then given up",
            )


def _mend_snapshots(workspace: Workspace, objects: Objects) -> None:
    """Mend references, snapshots, and the heads of images."""
    engine = workspace.engine
    found = examine(engine, objects=objects)
    headless = [name for name in found.malformed if name.startswith(IMAGES)]
    repair.mend_references(engine, found)
    found = examine(engine, objects=objects)
    missing = Missing.of(found.commits.values())
    if missing.objects or missing.large:
        repair.drop_large(engine, missing)
        _read_images(workspace, engine, missing)
        found = examine(engine, objects=objects)
    headless += [*repair.broken_heads(found), *_lost_heads(workspace)]
    renamed = repair.mend_histories(engine, found)
    _rename_stamps(workspace, renamed)
    repair.drop_broken(engine, found)
    whole = {renamed.get(commit, commit) for commit in found.commits if found.is_whole(commit)}
    for reference in headless:
        engine.references.delete(reference)
        with contextlib.suppress(CacheBroken, InvalidReference):
            _give_head(workspace, Reference.from_file_name(unescape(reference.removeprefix(IMAGES))), whole)


def _lost_heads(workspace: Workspace) -> list[str]:
    """Return the references of images that the build cache should have, as their stamps say, but has not."""
    engine = workspace.engine
    heads = {IMAGES + escape(name): workspace.images.published(name) for name in workspace.images.names()}
    missing = heads.keys() - set(engine.references.names(IMAGES))
    return sorted(head for head in missing if claim(engine, heads[head]) is not None)


def _read_images(workspace: Workspace, engine: Engine, missing: Missing) -> None:
    """Take over from the image directories what the repository lacks of them."""
    for name in workspace.images.names():
        workspace.cancel.check()
        shown = Reference.from_file_name(name)
        _tell(workspace, "content", f"looking for what is missing in image: {shown}")
        try:
            read_again(engine, workspace.images.published(name), missing)
        except (FileError, CacheError) as error:
            workspace.emit(Warned(text=f"can’t read image: {shown}: {error}"))


def _rename_stamps(workspace: Workspace, renamed: Mapping[bytes, bytes]) -> None:
    """Let stamps name the new commits of snapshots that got some."""
    for name in workspace.images.names():
        place = workspace.images.published(name)
        stamp = known_stamp(workspace.engine, place)
        commit = None if stamp is None else renamed.get(bytes.fromhex(stamp.commit))
        if stamp is not None and commit is not None:
            status = stamp.status if stamp.same_boot else PlaceState.DIRTY
            stamps.write(place, stamp._replace(commit=commit.hex(), status=status))


def _give_head(workspace: Workspace, reference: Reference, whole: Container[bytes]) -> None:
    """Give an image a head, whose own is lost: what its directory holds, if there is one."""
    name = reference.file_name
    place = workspace.images.published(name)
    stamp = claim(workspace.engine, place)
    if stamp is not None and bytes.fromhex(stamp.commit) in whole:
        workspace.engine.references.set(IMAGES + escape(name), bytes.fromhex(stamp.commit))
        _tell(workspace, "content", f"image is found again by what its directory holds: {reference}")
    elif workspace.images.exists(name):
        try:
            settle(workspace, name)
        except (CacheError, FileError) as error:
            workspace.emit(Warned(text=f"image is no longer in the build cache: {reference}: {error}"))
        else:
            _tell(workspace, "content", f"damaged snapshot; image is recorded anew from its directory: {reference}")
    else:
        text = f"image is lost, build or import it again: {reference}"
        _tell(workspace, "content", text, is_loss=True)


def _mend_images(workspace: Workspace) -> None:
    """Remove stamps that are not true: the images are recorded anew when they are next used."""
    found, _ = image_findings(workspace)
    for finding in found:
        stamps.forget(workspace.images.published(Reference.parse(finding.subject).file_name))
        text = f"image is not what the build cache has, and will be recorded anew: {finding.subject}: {finding.text}"
        _tell(workspace, finding.kind, text)


def _tell(workspace: Workspace, kind: str, text: str, *, is_loss: bool = False) -> None:
    workspace.emit(Repaired(kind=kind, text=text, is_loss=is_loss))
