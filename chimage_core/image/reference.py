"""Image references: `registry.example.com:5000/team/tool:1.2@sha256:…`, how they are written and compared.

One image has several spellings. `foo` and `foo:latest` are equal references; the file form replaces `/` by `%` and `:`
by `+` (`team%tool+1.2`), names image directories, and is accepted wherever a reference is. The first part is a host
only if it looks like one, as in Docker: it has a dot, a colon or an upper-case letter, or is `localhost`. References
are never paths: no form of them has a component `.` or `..`, starts with a dot, or contains a slash as a file name.

The grammar is that of https://github.com/distribution/reference, and more lenient where ch-image is: names may hold any
run of `.`, `_` and `-` after their first character, and start with `_`; host names may hold `_`.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.errors import InvalidReference

if TYPE_CHECKING:
    # Imported where it is used: few references have one, and what checks them loads a library of cryptography.
    from chimage_core.image.digest import Digest

HUB_HOST = "registry-1.docker.io"
"""The registry of references without a host."""
DEFAULT_PORT = 443
DEFAULT_TAG = "latest"
MAX_FILE_NAME = 240
"""Longest file form that `parse` accepts. File systems allow 255 bytes; the rest is for endings: `_stageN`, `.lock`."""

HUB_ALIASES = frozenset({"docker.io", "index.docker.io", HUB_HOST})
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]"
"""Compiled when it is used, as are those for globs."""
_COMPONENT = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_WILDCARD = r"[*?\[]"
_STRANGE_IN_GLOB = r"[^A-Za-z0-9_./:@*?\[\]!^-]"
_STAGE = r"_stage[0-9]+$"
_TO_FILE_NAME = str.maketrans("/:", "%+")
_FROM_FILE_NAME = str.maketrans("%+", "/:")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The name of an image, here or in a registry. Equal: the same image, however the tag `latest` is spelled.

    Made by `parse`. The constructor raises InvalidReference unless `str` of it would be read back as the same fields.
    """

    host: str | None
    """None: Docker Hub."""
    port: int | None
    path: tuple[str, ...]
    """What stands between host and name."""
    name: str
    tag: str | None
    """None: not written. It is `latest` then, unless there is a digest."""
    digest: "Digest | None"

    def __post_init__(self) -> None:
        text = str(self)
        if _fields(text) != (self.host, self.port, self.path, self.name, self.tag, self.digest):
            raise InvalidReference(text, 0, "its parts would be read differently")

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference in the usual form or in file form. Raises InvalidReference, pointing at the character."""
        try:
            reference = cls(*_fields(text.translate(_FROM_FILE_NAME)))
        except InvalidReference as error:
            if error.text == text:
                raise
            # Every replacement is one character for one: the column stands.
            raise InvalidReference(text, error.column, error.expected, hint=error.hint) from None
        if len(reference.file_name) > MAX_FILE_NAME:
            raise InvalidReference(text, len(text), f"longer than {MAX_FILE_NAME} characters")
        return reference

    @classmethod
    def from_file_name(cls, name: str) -> "Reference":
        """Return the reference whose `file_name` is `name`. Raises InvalidReference for any other string."""
        reference = cls.parse(name)
        if reference.file_name != name:
            raise InvalidReference(name, 0, f"not the name of an image directory, expected {reference.file_name}")
        return reference

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self._place}{self.repository}{tag}{digest}"

    def __eq__(self, other: object) -> bool:
        return self.file_name == other.file_name if isinstance(other, Reference) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.file_name)

    @property
    def repository(self) -> str:
        """Path and name: `library/debian`."""
        return "/".join((*self.path, self.name))

    @property
    def version(self) -> str:
        """What a registry calls the reference: the digest if there is one, else the tag."""
        return str(self.digest or self.tag or DEFAULT_TAG)

    @property
    def full(self) -> "Reference":
        """The same with the tag `latest` written out."""
        return replace(self, tag=DEFAULT_TAG) if self.tag is None and self.digest is None else self

    @property
    def file_name(self) -> str:
        """The name of the image's directory: `team%tool+1.2`. Always has a tag or a digest."""
        tag = f":{DEFAULT_TAG}" if self.tag is None and self.digest is None else ""
        return f"{self}{tag}".translate(_TO_FILE_NAME)

    @property
    def alias(self) -> str | None:
        """The file form without the tag `latest`, for programs that write `foo` for `foo:latest`; else None."""
        if self.digest is not None or self.tag not in (None, DEFAULT_TAG):
            return None
        return f"{self._place}{self.repository}".translate(_TO_FILE_NAME)

    def canonical(self) -> "Reference":
        """Return it with all defaults filled in: `registry-1.docker.io:443/library/debian:latest`.

        All spellings of one image in a registry have the same canonical form.
        """
        host = (self.host or HUB_HOST).lower()
        port = self.port or DEFAULT_PORT
        is_hub = host in HUB_ALIASES and port == DEFAULT_PORT
        path = ("library",) if is_hub and not self.path else self.path
        return replace(self.full, host=HUB_HOST if is_hub else host, port=port, path=path)

    def stage(self, index: int) -> "Reference":
        """Return the name of build stage `index` (from 0) of this image: `foo_stage0`, or `foo:1.2_stage0`."""
        if self.tag in (None, DEFAULT_TAG):
            return replace(self, name=f"{self.name}_stage{index}")
        return replace(self, tag=f"{self.tag}_stage{index}")

    @property
    def _place(self) -> str:
        """Host and port as they stand before the path."""
        if self.host is None:
            return ""
        return f"{self.host}/" if self.port is None else f"{self.host}:{self.port}/"


def references(file_names: Iterable[str]) -> tuple[Reference, ...]:
    """Return the references of those names that are file names of references, in their order."""
    found = []
    for name in file_names:
        with contextlib.suppress(InvalidReference):
            found.append(Reference.from_file_name(name))
    return tuple(found)


def short_name(name: str) -> str:
    """Return the file name of a reference as people write it: `team/tool:1.2`, without a tag `latest`."""
    # Whoever lists thousands of them must not wait for as many parsers.
    return name.removesuffix(f"+{DEFAULT_TAG}").translate(_FROM_FILE_NAME)


class ReferenceGlob(NamedTuple):
    """A reference with wildcards `*`, `?`, `[…]` and `[!…]`, which stand for any characters, `/` and `:` too.

    A glob only chooses among references that are there; it never becomes a path. Made by `parse`.
    """

    pattern: str
    """In the usual form (`/` and `:`)."""

    @classmethod
    def parse(cls, text: str) -> "ReferenceGlob":
        """Read a glob, or a plain reference. Raises InvalidReference for what could match no reference."""
        pattern = text.translate(_FROM_FILE_NAME)
        wildcard = re.search(_WILDCARD, pattern)
        if wildcard is None:
            return cls(str(Reference.parse(text)))
        _refuse_paths(text)
        strange = re.search(_STRANGE_IN_GLOB, pattern)
        if strange:
            raise InvalidReference(text, strange.start(), f"{strange.group()!r} is not allowed here")
        unclosed = re.search(r"\[(?![!^]?\]?+[^\]]*\])", pattern)
        if unclosed:
            raise InvalidReference(text, unclosed.start(), "“[” without “]”")
        return cls(pattern.replace("[^", "[!"))

    def __str__(self) -> str:
        return self.pattern

    def matches(self, reference: Reference) -> bool:
        """Tell whether this is the reference, however its tag `latest` is spelled, or the wildcards fit it."""
        import fnmatch

        match = re.compile(fnmatch.translate(self.pattern)).match
        return any(match(spelling) for spelling in _spellings(reference))

    def matches_stage(self, reference: Reference) -> bool:
        """Tell whether the reference is a build stage (`…_stageN`) of an image that matches."""
        for spelling in _spellings(reference):
            base = re.sub(_STAGE, "", spelling, count=1)
            if base != spelling and self.matches(Reference.parse(base)):
                return True
        return False


def _spellings(reference: Reference) -> tuple[str, ...]:
    """Return the ways to write a reference that differ in the tag `latest` only."""
    full = str(reference.full)
    return (full,) if reference.alias is None else (full, full.removesuffix(f":{DEFAULT_TAG}"))


_Fields = tuple[str | None, int | None, tuple[str, ...], str, str | None, "Digest | None"]


def _fields(text: str) -> _Fields:
    """Take a reference apart, in the order of the fields of Reference. Raises InvalidReference."""
    _refuse_paths(text)
    at = text.find("@")
    digest = None if at < 0 else _digest(text, at + 1)
    end = len(text) if at < 0 else at
    slash = text.find("/", 0, end)
    host, port, start = None, None, 0
    if slash >= 0 and _is_host(text[:slash]):
        host, port = _host_and_port(text, slash)
        start = slash + 1
    colon = text.find(":", max(start, text.rfind("/", 0, end) + 1), end)
    tag = None if colon < 0 else _tag(text, colon + 1, end)
    components = _components(text, start, end if colon < 0 else colon)
    return host, port, components[:-1], components[-1], tag, digest


def _refuse_paths(text: str) -> None:
    if not text:
        raise InvalidReference(text, 0, "it is empty")
    scheme = text.find("://")
    if scheme >= 0:
        raise InvalidReference(text, scheme, "a reference, not a URL, is expected", hint=f"omit “{text[: scheme + 3]}”")
    if text[0] == "/" or text in (".", "..") or text.startswith(("./", "../", "~")):
        raise InvalidReference(text, 0, "the name of an image, not a path, is expected")


def _is_host(first: str) -> bool:
    return first == "localhost" or "." in first or ":" in first or first.lower() != first


def _host_and_port(text: str, end: int) -> tuple[str, int | None]:
    """Read what stands before the first slash."""
    colon = text.find("]:", 0, end) + 1 if text.startswith("[") else text.find(":", 0, end)
    host_end = colon if colon > 0 else end
    pattern = re.compile(_HOST)
    if not pattern.fullmatch(text, 0, host_end):
        match = pattern.match(text, 0, host_end)
        raise InvalidReference(text, match.end() if match else 0, "not a host name")
    if host_end == end:
        return text[:end], None
    digits = text[colon + 1 : end]
    # `isdecimal` alone would let the digits of all scripts pass.
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits) < 65536 and digits[0] != "0"):
        raise InvalidReference(text, colon + 1, "a port number from 1 to 65535 is expected")
    return text[:host_end], int(digits)


def _components(text: str, start: int, end: int) -> tuple[str, ...]:
    """Read path and name."""
    found = []
    while True:
        slash = text.find("/", start, end)
        stop = end if slash < 0 else slash
        if not _COMPONENT.fullmatch(text, start, stop):
            match = _COMPONENT.match(text, start, stop)
            column = match.end() if match else start
            raise InvalidReference(text, column, _bad_name_character(text, column, stop))
        found.append(text[start:stop])
        if slash < 0:
            return tuple(found)
        start = slash + 1


def _bad_name_character(text: str, column: int, end: int) -> str:
    """Say what is wrong at a column of path or name."""
    if column == end:
        return "a name is missing"
    if text[column].isupper():
        return "upper-case letters are not allowed in a name"
    return f"{text[column]!r} is not allowed here"


def _tag(text: str, start: int, end: int) -> str:
    if not _TAG.fullmatch(text, start, end):
        match = _TAG.match(text, start, end)
        column = match.end() if match else start
        problem = "a tag is missing" if start == end else "not a tag (up to 128 letters, digits, “_”, “.”, “-”)"
        raise InvalidReference(text, column, problem)
    return text[start:end]


def _digest(text: str, start: int) -> "Digest":
    from chimage_core.image.digest import HEX_LENGTHS, Digest

    try:
        return Digest.parse(text[start:])
    except ValueError as error:
        known = any(text.startswith(f"{algorithm}:", start) for algorithm in HEX_LENGTHS)
        column = text.index(":", start) + 1 if known else start
        raise InvalidReference(text, column, f"not a digest: {error}") from None
