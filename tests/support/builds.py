"""Builds of small images, as command tests do them: a storage directory with a base image, and a build context."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli import Chimage, CliResult

BASE = "base"
"""The imported busybox image that the Dockerfiles of tests start from."""

_ANNOUNCED = re.compile(r"^[ \d]{2}\d([*. ]) (.*)$")


@dataclass(frozen=True, slots=True)
class Builds:
    """A storage directory that has the image BASE, and a context directory."""

    chimage: Chimage
    context: Path

    def build(
        self,
        dockerfile: str,
        *options: str,
        tag: str = "image",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> CliResult:
        """Write the Dockerfile into the context and build it."""
        self.write("Dockerfile", dockerfile)
        return self.chimage.run("build", "-t", tag, *options, self.context, check=check, env=env)

    def write(self, name: str, content: str = "", *, mode: int = 0o644) -> Path:
        """Write a file into the context, with the directories it needs."""
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def image(self, name: str = "image+latest") -> Path:
        """Return the directory of an image by its name in file form."""
        return Path(self.chimage.storage, "img", name)

    def read(self, path: str, name: str = "image+latest") -> str:
        """Return the content of a file of an image."""
        return (self.image(name) / path.lstrip("/")).read_text()

    def metadata(self, name: str = "image+latest") -> dict[str, Any]:
        """Return the configuration that an image has inside."""
        found: dict[str, Any] = json.loads(self.read("ch/metadata.json", name))
        return found

    def names(self) -> list[str]:
        """Return what `list` lists."""
        return self.chimage.run("list").stdout.splitlines()


def announced(result: CliResult) -> list[str]:
    """Return the lines that announce instructions."""
    return [line for line in result.stderr.splitlines() if _ANNOUNCED.match(line)]


def marks(result: CliResult) -> str:
    """Return the marks of all announced instructions: `*` hit, `.` miss, blank neither."""
    return "".join(match[1] for line in announced(result) if (match := _ANNOUNCED.match(line)))


def contents(root: str | os.PathLike[str]) -> dict[str, tuple[str, int, str]]:
    """Return path → (kind, permissions, content) of all that is below a directory: two images are equal if these are.

    Of times nothing is said: two executions of the same command leave different ones.
    """
    found = {}
    for path in _paths(os.fspath(root)):
        status = os.lstat(path)
        kind = stat.filemode(status.st_mode)[0]
        found[os.path.relpath(path, root)] = (kind, stat.S_IMODE(status.st_mode), _content(path, status.st_mode))
    return found


def traces(root: str | os.PathLike[str]) -> dict[str, tuple[object, ...]]:
    """Return all that can be seen of a directory and of what is below, but for times of access: equal before and after
    means that nobody has changed anything."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (os.fspath(root), *_paths(os.fspath(root))):
        status = os.lstat(path)
        numbers = (status.st_ino, status.st_mode, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns)
        found[path] = (*numbers, _content(path, status.st_mode))
    return found


def _paths(root: str) -> list[str]:
    return [os.path.join(parent, name) for parent, folders, files in os.walk(root) for name in (*folders, *files)]


def _content(path: str, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return os.readlink(path)
    if not stat.S_ISREG(mode):
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
