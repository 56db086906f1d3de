"""Forms that an image can be exported in, and which one a path asks for."""

import enum

from chimage_core.layer.compress import Compression


class Format(enum.Enum):
    """How an image is written."""

    DIRECTORY = "directory"
    """The files, as in the storage directory: `ch-run` starts containers from it."""
    TAR = "tar"
    """The same files in an archive; compressed if the path says so."""
    SQUASHFS = "squashfs"
    OCI = "oci"
    """An OCI layout: a directory."""
    OCI_ARCHIVE = "oci-archive"
    """An OCI layout in a tar archive."""
    DOCKER_ARCHIVE = "docker-archive"
    """What `docker load` takes, and `docker save` writes."""

    @property
    def is_directory(self) -> bool:
        """Whether what is written is a directory, and not a file."""
        return self in (Format.DIRECTORY, Format.OCI)


LAYERED = frozenset({Format.OCI, Format.OCI_ARCHIVE, Format.DOCKER_ARCHIVE})
"""Formats that have layers and a configuration."""

_ENDINGS = (
    (".oci.tar", Format.OCI_ARCHIVE),
    (".oci", Format.OCI),
    (".docker.tar", Format.DOCKER_ARCHIVE),
    (".sqfs", Format.SQUASHFS),
    (".squashfs", Format.SQUASHFS),
    (".tar", Format.TAR),
    (".tar.gz", Format.TAR),
    (".tgz", Format.TAR),
    (".tar.zst", Format.TAR),
    (".tzst", Format.TAR),
)
"""The first that fits counts."""


def format_of(path: str) -> Format:
    """Return the format that a path asks for by its ending; without one that we know, a directory."""
    return next((found for ending, found in _ENDINGS if path.endswith(ending)), Format.DIRECTORY)


def compression_of(path: str) -> Compression:
    """Return how a tar archive is compressed, by the ending of its path."""
    if path.endswith((".gz", ".tgz")):
        return "gzip"
    return "zstd" if path.endswith((".zst", ".tzst", ".zstd")) else "none"
