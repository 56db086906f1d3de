"""Media types of OCI and of Docker, and what they mean to us.

Types lie in the wild: what a manifest is follows from its content, and how a layer is compressed from its first bytes.
Source: OCI image-spec v1.1, media-types.md; Docker image manifest version 2, schema 1 and 2.
"""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
LEGACY_MANIFEST = "application/vnd.docker.distribution.manifest.v1+json"
LEGACY_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
LEGACY = frozenset({LEGACY_MANIFEST, LEGACY_SIGNED})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream"})
"""Of images. Old programs gave no type to a configuration."""

ACCEPT_ALL = ", ".join(
    (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, f"{LEGACY_SIGNED};q=0.5", f"{LEGACY_MANIFEST};q=0.5")
)


def is_layer(media_type: str) -> bool:
    """Tell whether this is a layer that we can unpack, however it is compressed."""
    base, _, suffix = media_type.partition("+")
    is_tar = base in (OCI_LAYER, DOCKER_LAYER, f"{DOCKER_LAYER}.gzip", f"{DOCKER_LAYER}.zstd")
    return is_tar and "encrypted" not in suffix


def is_foreign(media_type: str) -> bool:
    """Tell whether this is a layer that registries do not hold, for reasons of law: those of Windows."""
    return ".foreign." in media_type or ".nondistributable." in media_type
