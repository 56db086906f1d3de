"""`RUN --mount`: what the value says. Values only; what is done with them while a command runs is in `mounting`.

A value is one line of CSV, each field `key=value` or a key alone. Source: reference of Docker's Dockerfile, "RUN
--mount"; keys that the reference's builder takes with every type, but that mean nothing there, are taken with a note.
"""

import posixpath
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from chimage_core.fs.paths import clean

Field = tuple[str, str | None]
"""A key, by its first name, and its value; None: the key stands alone."""
Sharing = Literal["shared", "private", "locked"]

SECRETS = "/run/secrets"
"""Where secrets appear that have no target."""
AGENTS = "/run/buildkit"
"""Where agents' sockets appear that have no target."""


class BindMount(NamedTuple):
    """Files from the context, a stage, a build context or an image."""

    target: str
    source: str
    """Path in there."""
    origin: str | None
    """What `from` says; None: the context."""
    is_read_only: bool


class CacheMount(NamedTuple):
    """A directory that is kept between builds."""

    target: str
    id: str | None
    """None: the target's path."""
    sharing: Sharing
    mode: int | None
    """Of a new one."""
    source: str
    origin: str | None
    """A new one is filled with that of this."""
    is_read_only: bool


class TmpfsMount(NamedTuple):
    """An empty directory in memory."""

    target: str
    size: int | None
    """Bytes."""
    is_read_only: bool


class SecretMount(NamedTuple):
    """A secret that the user gives by `--secret`."""

    id: str
    target: str | None
    """None: no file."""
    variable: str | None
    """Its name, if it appears as a variable."""
    mode: int
    is_required: bool


class SshMount(NamedTuple):
    """The socket of an agent that the user gives by `--ssh`."""

    id: str
    target: str | None
    is_required: bool


MountValue = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class Reading(NamedTuple):
    """What a value says."""

    mount: MountValue
    notes: tuple[str, ...]
    """What of it is ignored."""


_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "readonly": "ro",
    "readwrite": "rw",
}
_FLAGS = frozenset({"ro", "rw", "required"})
"""Keys that may stand alone."""
_OWNERS = frozenset({"uid", "gid"})
_KEYS = frozenset({"type", "target", "source", "from", "id", "sharing", "size", "mode", "env", *_FLAGS, *_OWNERS})
_IN_MEMORY = ("secret", "ssh")
_ONLY_WITH = {
    "sharing": ("cache",),
    "size": ("tmpfs",),
    "required": _IN_MEMORY,
    "mode": ("cache", *_IN_MEMORY),
    "uid": ("cache", *_IN_MEMORY),
    "gid": ("cache", *_IN_MEMORY),
}
"""Keys that are an error with another type."""
_MEANINGLESS = {
    "bind": ("id", "env"),
    "cache": ("env",),
    "tmpfs": ("id", "env", "from", "source"),
    "secret": ("from", "ro", "rw"),
    "ssh": ("env", "from", "source", "ro", "rw", "mode"),
}
_SHARING: dict[str, Sharing] = {"shared": "shared", "private": "private", "locked": "locked"}
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_MOST_BITS = 0o7777
_OWNER_NOTE = "not supported, ignored: uid and gid of RUN --mount (there is only one user in an unprivileged build)"


def fields(text: str) -> list[Field]:
    """Return the fields of a value. Raises ValueError for what is no CSV, and for unknown keys."""
    import csv

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"{error}: {text}") from None
    return [_field(word) for word in rows[0]] if rows else []


def read(found: Sequence[Field]) -> Reading:
    """Return what the fields mean, their variables replaced; of a key given twice, the last. Raises ValueError."""
    values = dict(found)
    kind = (values.get("type", "bind") or "").lower()
    if kind not in _READERS:
        raise ValueError(f"no such type: {kind or 'empty'} (there are: {', '.join(_READERS)})")
    for key in values:
        if kind not in _ONLY_WITH.get(key, (kind,)):
            raise ValueError(f"{key} does not go with type={kind}, only with {' and '.join(_ONLY_WITH[key])}")
    if values.get("target") == "":
        raise ValueError("the target is empty")
    for key in _OWNERS & values.keys():
        _number(key, values[key] or "", 10)
    notes = [f"--mount: {key} means nothing with type={kind}, ignored" for key in _MEANINGLESS[kind] if key in values]
    owners = [_OWNER_NOTE] if _OWNERS & values.keys() else []
    return Reading(_READERS[kind](values), (*notes, *owners))


def place(target: str, workdir: str) -> str:
    """Return the absolute target of a mount. Raises ValueError for the root."""
    path = clean(posixpath.join("/", workdir, target))
    if not path:
        raise ValueError(f"the target is the root of the image: {target}")
    return f"/{path}"


def _field(word: str) -> Field:
    key, equals, value = word.partition("=")
    key = key.strip().lower()
    key = _ALIASES.get(key, key)
    if key not in _KEYS:
        raise ValueError(f"no such key: {key or 'empty'}{_near(key)}")
    if not equals and key not in _FLAGS:
        raise ValueError(f"{key} needs a value: {key}=…")
    if "\0" in value:
        raise ValueError(f"{key}: a value cannot hold a null character")
    return key, value if equals else None


def _near(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, [*_KEYS, *_ALIASES], n=1)
    return f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(sorted(_KEYS))})"


_Values = dict[str, str | None]


def _bind(values: _Values) -> BindMount:
    return BindMount(
        target=_target(values),
        source=values.get("source") or ".",
        origin=values.get("from"),
        is_read_only=_is_read_only(values, default=True),
    )


def _cache(values: _Values) -> CacheMount:
    name = (values.get("sharing", "shared") or "").lower()
    sharing = _SHARING.get(name)
    if sharing is None:
        raise ValueError(f"no such sharing: {name or 'empty'} (there are: {', '.join(_SHARING)})")
    origin = values.get("from")
    if "source" in values and origin is None:
        raise ValueError("source needs from=…: it says what a new cache is filled with")
    return CacheMount(
        target=_target(values),
        id=values.get("id") or None,
        sharing=sharing,
        mode=_mode(values),
        source=values.get("source") or ".",
        origin=origin,
        is_read_only=_is_read_only(values, default=False),
    )


def _tmpfs(values: _Values) -> TmpfsMount:
    size = _size(values["size"] or "") if "size" in values else None
    return TmpfsMount(_target(values), size, _is_read_only(values, default=False))


def _secret(values: _Values) -> SecretMount:
    if values.get("id") and values.get("source"):
        raise ValueError("id and source both name the secret: give one of them")
    target = values.get("target")
    name = values.get("id") or values.get("source") or posixpath.basename((target or "").rstrip("/"))
    if not name:
        raise ValueError("no id: which secret is it?")
    variable = values.get("env")
    if variable is not None and (not variable or "=" in variable):
        raise ValueError(f"env: not the name of a variable: {variable!r}")
    if target is None and variable is None:
        last = posixpath.basename(name)
        if last in ("", ".", ".."):
            raise ValueError(f"this id needs a target: {name}")
        target = f"{SECRETS}/{last}"
    mode = _mode(values)
    return SecretMount(
        name, target, variable, 0o400 if mode is None else mode, _flag(values, "required", default=False)
    )


def _ssh(values: _Values) -> SshMount:
    return SshMount(values.get("id") or "default", values.get("target"), _flag(values, "required", default=False))


_READERS: dict[str, Callable[[_Values], MountValue]] = {
    "bind": _bind,
    "cache": _cache,
    "tmpfs": _tmpfs,
    "secret": _secret,
    "ssh": _ssh,
}


def _target(values: _Values) -> str:
    target = values.get("target")
    if target is None:
        raise ValueError("no target: where is it to appear?")
    if target.startswith("/"):
        place(target, "/")
    return target


def _is_read_only(values: _Values, *, default: bool) -> bool:
    # Of both, the last: a dictionary keeps the order, but of the first mention.
    read_only = default
    for key in values:
        if key == "ro":
            read_only = _flag(values, "ro", default=default)
        elif key == "rw":
            read_only = not _flag(values, "rw", default=not default)
    return read_only


def _flag(values: _Values, key: str, *, default: bool) -> bool:
    if key not in values:
        return default
    value = values[key]
    if value is None or value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(f"{key}: expected true or false, not {value!r}")


def _mode(values: _Values) -> int | None:
    if "mode" not in values:
        return None
    mode = _number("mode", values["mode"] or "", 8)
    if mode > _MOST_BITS:
        raise ValueError(f"mode: more than 7777: {values['mode']}")
    return mode


def _number(key: str, text: str, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"  # `int` takes much more.
    if not text or text.strip(digits):
        raise ValueError(f"{key}: expected {'an octal' if base == 8 else 'a'} number, not {text!r}")
    return int(text, base)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"size: expected such as 64m or 2g, not {text!r}")
    size = int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))
    if not 0 < size < 1 << 63:
        raise ValueError(f"size: not a size of a directory: {text}")
    return size
