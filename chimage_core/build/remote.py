"""What ADD has from other machines: how its sources are spelled, and who gets them.

A build does not reach the network itself; it is handed something that does. Source: Dockerfile reference, "ADD".
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^#]+(#.*)?")
"""`git@example.com:team/tool.git`: git(1) takes what ssh(1) and scp(1) take."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Remote(Protocol):
    """Gets files and repositories. All raise RegistryError, FileError and Cancelled; no message names credentials."""

    def look(self, url: str) -> Mapping[str, str]:
        """Return what tells this version of a file from others, without fetching it if possible."""

    def fetch(self, url: str, seen: Mapping[str, str] | None, checksum: str | None) -> str:
        """Return the path of a file (mode 0600), for reading only; also raises IntegrityError.

        `seen` is what `look` returned, None if `checksum` (`sha256:…`) is given instead.
        """

    def commit(self, url: str, ref: str | None) -> str:
        """Return the commit that a name in a repository means; None: its default branch.

        Also raises DependencyMissing.
        """

    def checkout(self, url: str, ref: str | None, commit: str) -> AbstractContextManager[str]:
        """Give the directory with a commit's files, and `.git`. Also raises DependencyMissing."""


class WebFile(NamedTuple):
    """A file by URL."""

    url: str

    @property
    def name(self) -> str:
        """What the file is called; empty if the URL does not say, or says nothing that could be a name."""
        name = unquote(urlsplit(self.url).path.rpartition("/")[2], errors="surrogateescape")
        return "" if name in (".", "..") or "/" in name or "\0" in name else name


class Repository(NamedTuple):
    """A Git repository, or a directory of it."""

    url: str
    ref: str | None
    """Branch, tag, other ref, or commit; None: the default branch."""
    subdirectory: str
    """Empty: all of it."""


def parse_source(word: str) -> WebFile | Repository | None:
    """Return what a source of ADD means; None: something in the context. Raises ValueError for URLs of other kinds."""
    match = _SCHEME.match(word)
    scheme = match[1].lower() if match else ""
    if _SCP.fullmatch(word) or scheme in ("git", "ssh"):
        return _repository(word)
    if scheme in ("http", "https"):
        # Only the path says it: a query may end in anything.
        return _repository(word) if urlsplit(word).path.endswith(".git") else WebFile(word)
    if scheme:
        raise ValueError(f"URLs of {scheme} can’t be fetched, only http, https, git and ssh")
    return None


def _repository(word: str) -> Repository:
    url, _, fragment = word.partition("#")
    urlsplit(url)  # Raises ValueError for what nobody could take apart.
    ref, _, subdirectory = fragment.partition(":")
    return Repository(url, ref or None, subdirectory.strip("/"))
