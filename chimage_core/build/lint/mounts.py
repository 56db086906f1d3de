"""What `RUN --mount` says, as far as rules need it."""

from chimage_core.build import mounts


def mount_fields(mount: str) -> dict[str, str]:
    """Return keys and values of a mount as it is written; none of one that makes no sense, which is found elsewhere."""
    try:
        return {key: value or "" for key, value in mounts.fields(mount)}
    except ValueError:
        return {}
