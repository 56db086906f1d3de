"""The bare Git repository that holds the build cache: an ordinary one, valid for git(1) and pygit2.

It is created without either, since it is only a handful of small files. Ours in the configuration: `chimage.format`,
the version of what we store in it, and `chimage.id`, which tells this repository from one that was here before a reset.
Source: gitrepository-layout(5), git-config(1).
"""

import bisect
import contextlib
import os
import re

from chimage_core.errors import CacheBroken, CacheError, file_errors
from chimage_core.fs.atomic import temporary_directory, write_file

FORMAT = 1
MANY_PACKS = 32
"""Packs of a size class are merged if there are more: every look-up has to try them all, and holds them open."""
SIZE_CLASSES = (16 << 20, 256 << 20)
"""Bytes up to which a pack belongs to each class. What is bigger stays as it is. So a byte is copied seldom, and two
classes of 32 packs, and the biggest, are far from the usual limit of 1024 open files."""

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
[gc]
\tauto = 0
\tpackRefs = true
[maintenance]
\tauto = false
[pack]
\tcompression = 1
[repack]
\twriteBitmaps = false
[transfer]
\tfsckObjects = true
[chimage]
\tformat = {format}
\tid = {id}
"""
_HEAD = "ref: refs/heads/main\n"
_SETTING = re.compile(r'\s*(\[[\w.-]+( ".*")?\]|[A-Za-z][\w-]*( *=.*)?|[#;].*)?')
"""A line of a configuration."""
_FORMAT = re.compile(r"^\s*format = ([0-9]+)$", re.MULTILINE)
_ID = re.compile(r"^\s*id = ([0-9a-f]+)$", re.MULTILINE)


def large_directory(path: str) -> str:
    """Return where the large files of the repository at `path` are: beside it."""
    return os.path.join(os.path.dirname(path), "large")


class Repository:
    """Where things are in the repository."""

    def __init__(self, path: str) -> None:
        """Open the repository at `path`, which need not exist yet.

        Raises FileError, CacheBroken for something else at that place, CacheError for a newer format.
        """
        self.path = path
        self.objects = os.path.join(path, "objects")
        self.packs = os.path.join(path, "objects", "pack")
        self.id = ""
        """Random, given at its creation; empty before."""
        self._read()

    def create(self) -> None:
        """Create the repository if it is missing. Raises as opening it does."""
        if not self.id:
            with file_errors("create build cache", self.path):
                _create(self.path)
            self._read()

    def has_many_packs(self) -> bool:
        """Return whether there are packs to be merged."""
        counts = [0] * (len(SIZE_CLASSES) + 1)
        with file_errors("read build cache", self.packs), os.scandir(self.packs) as entries:
            for entry in entries:
                if entry.name.endswith(".pack"):
                    with contextlib.suppress(FileNotFoundError):  # Merged by somebody else just now.
                        counts[bisect.bisect_left(SIZE_CLASSES, entry.stat().st_size)] += 1
        return max(counts[:-1]) > MANY_PACKS

    def _read(self) -> None:
        with file_errors("open build cache", self.path):
            try:
                config = _read_config(self.path)
            except FileNotFoundError:
                return
        self.id = self._check(config)

    def _check(self, config: str) -> str:
        version, identity = _FORMAT.search(config), _ID.search(config)
        if version is None or identity is None:
            raise CacheBroken(
                f"not a build cache of this program: {self.path}",
                hint="build-cache --repair mends its configuration; build-cache --reset deletes it",
            )
        if int(version[1]) != FORMAT:
            raise CacheError(
                f"build cache has format {version[1]}, this version of the program knows {FORMAT}: {self.path}",
                hint="use a newer version, or delete the cache with build-cache --reset",
            )
        return identity[1]


def damaged_parts(path: str) -> list[str]:
    """Return what a repository needs but this one lacks or has in a damaged form, by path in it.

    That is nothing if there is none at all. Raises FileError.
    """
    if not os.path.lexists(path):
        return []
    parts = [part for part in ("objects", "refs") if not os.path.isdir(os.path.join(path, part))]
    with file_errors("read build cache", path):
        if _read(path, "HEAD") != _HEAD:
            parts.append("HEAD")
        lines = _read(path, "config").splitlines()
    ours = [line for line in _CONFIG.splitlines() if "{" not in line]
    if not set(ours).issubset(lines) or not all(map(_SETTING.fullmatch, lines)):
        parts.append("config")
    return parts


def mend(path: str, identity: str) -> None:
    """Make what the repository at `path` lacks, and a configuration with this identity. Raises FileError."""
    with file_errors("write build cache", path):
        for directory in ("objects/pack", "objects/info", "refs"):
            os.makedirs(os.path.join(path, directory), exist_ok=True)
        for name, text in (("HEAD", _HEAD), ("config", _CONFIG.format(format=FORMAT, id=identity))):
            write_file(os.path.join(path, name), text.encode())


def _read(path: str, name: str) -> str:
    try:
        with open(os.path.join(path, name), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _read_config(path: str) -> str:
    with open(os.path.join(path, "config"), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _create(path: str) -> None:
    """Make an empty repository, complete or not at all; somebody else may do the same at this moment."""
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    # Nobody else may enter it: packs hold the content of files that in images only their owner may read.
    with temporary_directory(parent, "git-") as temporary:
        for directory in ("objects/pack", "objects/info", "refs/heads", "refs/states", "refs/images", "refs/deleted"):
            os.makedirs(os.path.join(temporary, directory))
        _write(temporary, "HEAD", _HEAD)
        _write(temporary, "description", "build cache of chimage\n")
        _write(temporary, "config", _CONFIG.format(format=FORMAT, id=os.urandom(8).hex()))
        try:
            os.rename(temporary, path)
        except OSError:
            if not os.path.exists(os.path.join(path, "config")):
                raise


def _write(directory: str, name: str, text: str) -> None:
    with open(os.path.join(directory, name), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
