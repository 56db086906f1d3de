"""What an image says of itself, kept inside of it: `/ch/metadata.json` and `/ch/environment`.

The first is our configuration (and Charliecloud's), the second its environment variables for `ch-run --set-env`. Images
are data from strangers, so neither `/ch` nor a file in it is ever followed as a symbolic link: what is no directory,
or no regular file, is no metadata when reading, and is replaced when writing.
"""

import contextlib
import os
import stat
from collections.abc import Mapping

from chimage_core.errors import ChimageError, file_errors
from chimage_core.fs.atomic import write_file
from chimage_core.fs.remove import remove_tree
from chimage_core.image.config import ImageConfig

DIRECTORY = "ch"
METADATA = "metadata.json"
ENVIRONMENT = "environment"
PRIVATE = frozenset(os.fsencode(f"{DIRECTORY}/{name}") for name in (METADATA, ENVIRONMENT))
"""What an unpacked image has for what its configuration says in a registry: no part of its layers."""
PRIVATE_TOPS = frozenset({os.fsencode(DIRECTORY)})
"""The directory that it is in."""
_MAX_SIZE = 64 << 20


class MetadataError(ChimageError):
    """The metadata in an image cannot be read."""

    code = "image.metadata"


def read(root: str, architecture: str) -> ImageConfig | None:
    """Return the configuration of the image in `root`, or None if it has none. `architecture`: if it does not say.

    Raises MetadataError, FileError.
    """
    path = os.path.join(root, DIRECTORY, METADATA)
    with file_errors("read image metadata", path):
        data = _content(path) if _is_directory(os.path.dirname(path)) else None
    if data is None:
        return None
    try:
        return ImageConfig.from_json(data, architecture=architecture)
    except (ValueError, RecursionError) as error:
        raise MetadataError(
            f"image metadata is damaged: {path}: {error}", hint="remove the file to use the image without metadata"
        ) from error


def write(root: str, config: ImageConfig) -> tuple[str, ...]:
    """Write the configuration into the image in `root`; files that would not change are not touched.

    Returns the names of environment variables that `ch-run --set-env` cannot take and that are therefore in the
    metadata only: those with a newline. Raises FileError.
    """
    directory = os.path.join(root, DIRECTORY)
    lines, left_out = environment_lines(config.env)
    with file_errors("write image metadata", directory):
        if not _is_directory(directory):
            remove_tree(directory)
            os.mkdir(directory)
            os.chmod(directory, 0o755)
        elif os.lstat(directory).st_mode & 0o700 != 0o700:  # A RUN may have done anything.
            os.chmod(directory, 0o755)
        _replace(os.path.join(directory, METADATA), config.to_json())
        _replace(os.path.join(directory, ENVIRONMENT), lines)
    return left_out


def environment_lines(variables: Mapping[str, str]) -> tuple[bytes, tuple[str, ...]]:
    """Return the content of `/ch/environment`, and the names of the variables that it cannot hold.

    Its form, from ch-run(1): lines `NAME=value`, where one pair of single quotes around a value is taken off, and
    nothing else is special. So values that have such quotes get another pair, and values with a newline do not fit:
    as a line without `=`, their rest would keep every container from starting.
    """
    lines: list[str] = []
    left_out: list[str] = []
    for name, value in sorted(variables.items()):
        if not name or "=" in name or any(bad in name + value for bad in "\n\0"):
            left_out.append(name)
        elif len(value) > 1 and value[0] == value[-1] == "'":
            lines.append(f"{name}='{value}'\n")
        else:
            lines.append(f"{name}={value}\n")
    return "".join(lines).encode("utf-8", "surrogateescape"), tuple(left_out)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _content(path: str) -> bytes | None:
    """Return the content of a regular file; None if it is none."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    if len(data) > _MAX_SIZE:
        raise MetadataError(f"image metadata is damaged: {path}: larger than {_MAX_SIZE} bytes")
    return data


def _replace(path: str, data: bytes) -> None:
    with contextlib.suppress(PermissionError):
        if _content(path) == data:
            return
    if _is_directory(path):
        remove_tree(path)
    write_file(path, data, sync=False)
    os.chmod(path, 0o644)  # Whatever the umask.
