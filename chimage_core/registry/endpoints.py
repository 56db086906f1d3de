"""Where the images of a registry are: the registry itself, and what stands in for it.

`$CH_IMAGE_MIRRORS` maps the beginnings of image names to other places: `docker.io=mirror.example.com/hub`, several
separated by commas or blanks; or it is the absolute path of a file with one such pair a line (`#` begins a comment).
The longest beginning that fits counts; of several equal ones, each is asked in turn, and the registry itself last. A
place without TLS is written with `http://`.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from chimage_core.errors import InvalidReference, UsageError, file_errors
from chimage_core.image.reference import Reference

_HTTP_PORT = 80


class Endpoint(NamedTuple):
    """A repository of a registry, as we reach it."""

    host: str
    """In lower case; IPv6 addresses in brackets."""
    port: int
    repository: str
    is_plain: bool | None
    """Without TLS; None: if it is a loopback address that does not speak it."""
    is_mirror: bool = False

    @property
    def registry(self) -> str:
        """The registry's name for people."""
        return self.host if self.port == (_HTTP_PORT if self.is_plain else 443) else f"{self.host}:{self.port}"


class Mirror(NamedTuple):
    """What stands in for a registry, or for a part of one."""

    prefix: str
    """`host:port/path` in canonical form, with a slash at its end."""
    place: Endpoint


def endpoints(reference: Reference, mirrors: Sequence[Mirror], *, plain_http: bool) -> tuple[Endpoint, ...]:
    """Return where to look for an image, in that order. `plain_http`: its registry is to be asked without TLS."""
    full = reference.canonical()
    assert full.host is not None
    assert full.port is not None
    name = f"{full.host}:{full.port}/{full.repository}"
    longest = max((len(mirror.prefix) for mirror in mirrors if f"{name}/".startswith(mirror.prefix)), default=0)
    found = [
        mirror.place._replace(repository="/".join(filter(None, (mirror.place.repository, name[longest:]))))
        for mirror in mirrors
        if len(mirror.prefix) == longest and f"{name}/".startswith(mirror.prefix)
    ]
    is_plain = True if plain_http or full.port == _HTTP_PORT else None
    return (*found, Endpoint(full.host, full.port, full.repository, is_plain))


def read_mirrors(setting: str) -> tuple[Mirror, ...]:
    """Read `$CH_IMAGE_MIRRORS`. Raises UsageError, FileError."""
    if not setting.startswith("/"):
        return tuple(map(_mirror, re.split(r"[\s,]+", setting.strip()))) if setting.strip() else ()
    with file_errors("read mirrors", setting), open(setting, encoding="utf-8", errors="surrogateescape") as file:
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in file]
    return tuple(_mirror(re.sub(r"\s*=\s*", "=", line)) for line in lines if line)


def _mirror(text: str) -> Mirror:
    prefix, equals, place = text.partition("=")
    scheme, _, location = place.rpartition("://")
    problem = f"not a mirror: {text!r}"
    hint = "write PREFIX=PLACE, as in docker.io=mirror.example.com/hub; see $CH_IMAGE_MIRRORS"
    if not equals or not prefix or not location or scheme not in ("", "http", "https"):
        raise UsageError(problem, hint=hint)
    try:
        host, port, path = _parts(location, is_plain=scheme == "http")
        return Mirror(_canonical_prefix(prefix), Endpoint(host, port, path, scheme == "http", is_mirror=True))
    except InvalidReference as error:
        raise UsageError(f"{problem}: {error.expected}", hint=hint) from None


def _canonical_prefix(prefix: str) -> str:
    """Return it as canonical references begin: a name below it is made one, and taken off again."""
    full = Reference.parse(f"{prefix.rstrip('/')}/x/x").canonical()
    return f"{full.host}:{full.port}/{full.repository}".removesuffix("x/x")


def _parts(location: str, *, is_plain: bool) -> tuple[str, int, str]:
    reference = Reference.parse(f"{location.rstrip('/')}/x")
    if reference.host is None:
        raise InvalidReference(location, 0, "a host name is expected first")
    port = reference.port or (_HTTP_PORT if is_plain else 443)
    return reference.host.lower(), port, "/".join(reference.path)
