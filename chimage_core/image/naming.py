"""What an image is called if `build` was not told: the rules of `--tag` in the manual."""

import os
import re

from chimage_core.errors import UsageError
from chimage_core.image.reference import Reference

_INVALID = re.compile(r"[^a-z0-9_.-]")
_ROOT = "root"


def infer_tag(dockerfile: str, context: str) -> Reference:
    """Return the name of the image to build from the paths of Dockerfile and context directory (`-`: standard input).

    The first that applies: extension of `Dockerfile.EXT`; name of `NAME.df` or `NAME.dockerfile`; name of the context
    directory; `root`, if that is `/` or there is none. Characters that no name may hold are left out. Raises UsageError
    if nothing remains.
    """
    if name := _from_dockerfile(os.path.basename(dockerfile)):
        return Reference.parse(name)
    directory = "/" if context == "-" else os.path.abspath(context)
    if directory == "/":
        return Reference.parse(_ROOT)
    if name := _cleaned(os.path.basename(directory)):
        return Reference.parse(name)
    raise UsageError(f"no image name can be made from the context directory: {directory}", hint="give one with --tag")


def _from_dockerfile(file_name: str) -> str:
    """Return "" if the file's name says nothing."""
    first, _, extensions = file_name.partition(".")
    if first == "Dockerfile":
        return _cleaned(extensions)
    name, _, last = file_name.rpartition(".")
    return _cleaned(name) if last in ("df", "dockerfile") else ""


def _cleaned(text: str) -> str:
    # A name may hold dots and dashes, but not start with them.
    return _INVALID.sub("", text.lower()).lstrip(".-")
