"""Images for another architecture than the one here, which builds have pulled into the build cache only.

Storage has one image of a name, and a FROM with `--platform` must not replace it. What was pulled is remembered by name
and architecture, beside the downloads, and forgotten with them.
"""

import hashlib
import json
import os

from chimage_core.cache.state import StateID
from chimage_core.errors import file_errors
from chimage_core.fs.atomic import write_file
from chimage_core.image.reference import Reference

_LARGEST = 4096


def recall(directory: str, image: Reference, architecture: str) -> StateID | None:
    """Return the state that an image for an architecture had when it was pulled; None: it never was."""
    try:
        with open(_path(directory, image, architecture), "rb") as file:
            document = json.loads(file.read(_LARGEST))
        return StateID.from_hex(document["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(directory: str, image: Reference, architecture: str, state: StateID) -> None:
    """Remember it. Raises FileError."""
    path = _path(directory, image, architecture)
    document = {"image": str(image.canonical()), "architecture": architecture, "state": state.hex}
    with file_errors("write note about image", path):
        write_file(path, json.dumps(document).encode(), mode=0o600, sync=False)


def _path(directory: str, image: Reference, architecture: str) -> str:
    key = f"{image.canonical()}\0{architecture}".encode()
    return os.path.join(directory, f"pulled-{hashlib.sha256(key).hexdigest()}")
