"""Add an archive to an image that is there already: ADD of a tarball.

It is unpacked aside, as an overlay's upper directory would hold it, and then merged by rename. Names lead where they
would lead in a container: below the destination, through the image's links and directories, and never out of it. An
archive that turns out to be hostile or damaged has changed nothing.
"""

import os
from collections.abc import Iterator

from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing, LayerError
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.header import Kind, members
from chimage_core.layer.inflate import ArchiveStream
from chimage_core.layer.report import UnpackReport
from chimage_core.layer.stream import BlockStream
from chimage_core.layer.tree import split
from chimage_core.rootfs.overlay import discard, merge, prepare
from chimage_core.rootfs.place import ImagePlace
from chimage_core.rootfs.touched import Touched

_UNLIMITED = 1 << 62


def is_tarball(path: str) -> bool:
    """Tell from the content of a file, whatever its name, whether it is a tar archive, compressed or not, with at least
    one member. Raises FileError, DependencyMissing, Cancelled.
    """
    try:
        with ArchiveStream(path) as archive:
            stream = BlockStream(archive, limit=_UNLIMITED, cancel=CancelToken())
            return next(members(stream), None) is not None
    except LayerError:
        return False
    except DependencyMissing as error:
        error.message = f"{error.message}: {path}"
        raise


def add_tarball(
    path: str, place: ImagePlace, target: str, *, is_new: bool, xattrs: bool, cancel: CancelToken
) -> tuple[UnpackReport, list[str]]:
    """Unpack the tar archive `path` into the directory `target` of an image, a path without links, relative to the
    root. Return what was done, and the paths that changed, relative to the root.

    What is there already is united with it: directories take their metadata from the archive if it has them (but
    `target` only if it `is_new`), anything else of the same name is replaced. Raises LayerError, FileError, Cancelled;
    the image is then as it was.
    """
    top = os.fsencode(target)

    def below_target(name: bytes, kind: Kind) -> bytes | None:
        parts = split(name)
        if not parts and kind is Kind.DIRECTORY and not is_new:
            return None
        return b"/".join([top, *parts])

    upper, work = f"{place.side}/upper", f"{place.side}/work"
    options = UnpackOptions(xattrs=xattrs, whiteouts=False, rename=below_target, lower=place.root)
    prepare(upper, work)
    try:
        with ArchiveStream(path) as archive:
            report = unpack([archive], upper, options, cancel=cancel)
        return report, sorted(_paths(merge(upper, work, place.root)))
    except LayerError as error:
        error.message = f"{error.message}\n  {path}"
        raise
    finally:
        discard(upper, work)


def _paths(touched: Touched) -> Iterator[str]:
    """Yield the paths of what was touched. A directory of which nothing but the metadata was stands for all below."""
    pending = [(b"", touched)]
    while pending:
        prefix, names = pending.pop()
        for name, below in names.items():
            if below:
                pending.append((prefix + name + b"/", below))
            else:
                yield os.fsdecode(prefix + name)
