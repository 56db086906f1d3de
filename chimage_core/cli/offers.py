"""Options of build that let RUN --mount see something of the host: `--secret`, `--ssh`."""

import os
import stat
from collections.abc import Mapping, Sequence

from chimage_core.build.offers import Secret
from chimage_core.errors import UsageError, file_errors

_LONGEST_SECRET = 1 << 20
"""Bytes: whatever is longer was hardly meant."""
_KEYS = ("id", "src", "source", "env", "type")


def secrets(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, Secret]:
    """Read `id=ID[,src=FILE|,env=VAR]`, as Docker has it. Raises UsageError, FileError."""
    found = {}
    for text in given:
        values = _fields(text)
        name = values.get("id", "")
        if not name:
            raise UsageError(f"--secret: no id: {text}", hint="expected id=ID[,src=FILE|,env=VAR]")
        if name in found:
            raise UsageError(f"--secret: given twice: {name}")
        found[name] = Secret(_content(name, values, environment))
    return found


def agents(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Read `ID[=SOCKET]`. Raises UsageError."""
    found = {}
    for text in given:
        name, _, path = text.partition("=")
        path = path or environment.get("SSH_AUTH_SOCK", "")
        if not name:
            raise UsageError(f"--ssh: expected ID[=SOCKET], not {text!r}")
        if not path:
            raise UsageError(
                "--ssh: no socket given, and $SSH_AUTH_SOCK is not set", hint="start an agent: ssh-agent(1)"
            )
        path = os.path.abspath(path)
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as error:
            raise UsageError(f"--ssh: {path}: {error.strerror}") from None
        if not is_socket:
            raise UsageError(
                f"--ssh: not the socket of an agent: {path}",
                hint="keys are not read from files: start an agent (ssh-agent), add the key (ssh-add FILE), and give "
                f"--ssh {name}",
            )
        found[name] = path
    return found


def _fields(text: str) -> dict[str, str]:
    import csv

    try:
        words = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"--secret: {error}") from None
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _KEYS or not equals:
            raise UsageError(f"--secret: expected id=ID[,src=FILE|,env=VAR], not {text!r}")
        values["src" if key == "source" else key] = value
    if values.get("type", "file") not in ("file", "env"):
        raise UsageError(f"--secret: no such type: {values['type']}", hint="use one of: file, env")
    if "src" in values and "env" in values:
        raise UsageError(f"--secret: both src and env: {text}", hint="a secret comes from one of them")
    return values


def _content(name: str, values: Mapping[str, str], environment: Mapping[str, str]) -> bytes:
    variable, path = values.get("env"), values.get("src")
    if values.get("type") == "env" and path is not None:  # Docker takes that, too.
        variable, path = path, None
    if variable is None and path is None:
        variable, path = (name, None) if name in environment or values.get("type") == "env" else (None, name)
    if variable is not None:
        if variable not in environment:
            raise UsageError(f"--secret: {name}: environment variable not set: {variable}")
        return environment[variable].encode("utf-8", "surrogateescape")
    assert path is not None
    with file_errors("read secret", path), open(path, "rb") as file:
        content = file.read(_LONGEST_SECRET + 1)
    if len(content) > _LONGEST_SECRET:
        raise UsageError(f"--secret: {name}: longer than 1 MiB: {path}")
    return content
