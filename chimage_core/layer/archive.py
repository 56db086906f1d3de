"""Unpack an image that came as one file: what kind is it, and where in it is the root?

A tarball of an image either has the content of the root at its top (a "tarbomb"), or one directory that holds it, as
people are told to make tarballs. The rule: if the first member is in, or is, a directory whose name is none of those
in the roots of images (`usr`, `bin`, ...), that directory is taken as the root, once. As soon as a member is outside
of it, unpacking starts again, with everything as it stands. So a tarball that holds only `usr/` is an image with
only `usr/`, `debian/usr/` becomes `usr/`, and `a/b/usr/` becomes `b/usr/`.
"""

import os
import re
import stat
from dataclasses import replace
from typing import Literal

from chimage_core.cancel import CancelToken
from chimage_core.errors import LayerError, file_errors
from chimage_core.fs.remove import remove_tree
from chimage_core.layer.extract import UnpackOptions, unpack
from chimage_core.layer.header import Kind
from chimage_core.layer.inflate import ArchiveStream
from chimage_core.layer.report import UnpackReport
from chimage_core.layer.tree import split

ROOT_NAMES = frozenset(
    b"bin boot ch dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys tmp usr var".split()
)
"""Names in the root of images, by the Filesystem Hierarchy Standard and usage; never an enclosing directory."""


_LAYERS = re.compile(rb"blobs|[0-9a-f]{64}(\.tar|\.json)?")
"""What archives of layers begin with: to take it for an enclosing directory would mean to unpack all of it twice."""


class _NotEnclosed(Exception):
    """A member is outside of the directory that we took for the root."""


class _Enclosed:
    """Takes the enclosing directory, found from the first member, off names."""

    def __init__(self) -> None:
        self._top: bytes | None = None

    def __call__(self, name: bytes, kind: Kind) -> bytes:
        parts = split(name)
        if not parts:  # `./`, as `tar -C DIRECTORY .` has it.
            return b""
        if self._top is None and parts[0] not in ROOT_NAMES and not _LAYERS.fullmatch(parts[0]):
            self._top = parts[0]
        if parts[0] != self._top or (len(parts) == 1 and kind is not Kind.DIRECTORY):
            raise _NotEnclosed
        return b"/".join(parts[1:])


def unpack_tarball(path: str, destination: str, *, xattrs: bool, cancel: CancelToken) -> UnpackReport:
    """Unpack the image in the tar archive `path`, compressed or not, into the empty directory `destination`.

    An enclosing directory is stripped (see above). There are no lower layers, so names like whiteouts are plain
    names. Devices and FIFOs are left out and counted. What was unpacked may be an archive of layers (see below). On an
    error, the content of `destination` is for the caller to remove. Raises LayerError, also for archives of other
    kinds, FileError, Cancelled.
    """
    with file_errors("read archive", path):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise LayerError(f"not a regular file: {path}", hint="write the archive to a file first: it may be read twice")
    if status.st_size == 0:
        raise LayerError(f"archive is empty: {path}")
    options = UnpackOptions(xattrs=xattrs, whiteouts=False)
    try:
        with ArchiveStream(path) as stream:
            report = unpack([stream], destination, replace(options, rename=_Enclosed()), cancel=cancel)
    except _NotEnclosed:
        for name in os.listdir(destination):
            remove_tree(os.path.join(destination, name))
        with ArchiveStream(path) as stream:
            report = unpack([stream], destination, options, cancel=cancel)
    if report.members == 0:  # As what a program writes that failed: `mkrootfs | gzip > image.tar.gz`.
        raise LayerError(f"archive is empty: {path}")
    return report


def image_archive(directory: str) -> Literal["oci", "docker"] | None:
    """Tell what is in a directory: an OCI layout, a docker-archive, or (None) the root of an image, for all we know.

    What `docker save` writes now is both; then it is the former, which has digests of everything.
    """
    names = set(os.listdir(directory))
    if not names.isdisjoint(map(os.fsdecode, ROOT_NAMES)):
        return None
    if {"oci-layout", "index.json"} <= names:
        return "oci"
    return "docker" if "manifest.json" in names else None
