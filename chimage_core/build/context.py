"""Where COPY takes files from: the build context, or the root file system of an earlier stage.

Nothing outside can be reached. In the context, a symlink is what it is on the host, so one that leads out is an error;
in a stage, paths are resolved as if its root were `/`, so none can lead out. Sources are described by their
metadata only, because a cache lookup must not read the files. Source: ch-image manual, "COPY" and "RSYNC", "Build
cache".
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.cache.inputs import describe_source
from chimage_core.errors import ContextError, FileError
from chimage_core.fs import xattr
from chimage_core.fs.paths import resolve_in_root


class Source(NamedTuple):
    """Something to copy, found."""

    name: str
    """As the instruction names it, relative to the tree, after wildcards: its last part names the copy."""
    path: str
    """The real file or directory on the host, symlinks followed."""


class SourceTree(NamedTuple):
    """A tree that sources are taken from."""

    root: str
    label: str
    """For messages: `context`, `stage build`."""
    is_image: bool
    """Symlinks are resolved inside `root`, as in a container."""

    def find(self, pattern: str) -> list[Source]:
        """Return what a source of COPY means, sorted. Raises ContextError if there is nothing, or it lies outside."""
        relative = self._relative(pattern)
        names = self._matches(relative) if _has_wildcard(pattern) else [relative]
        if not names:
            raise self._missing(pattern)
        return [Source(name, self._real(name, pattern)) for name in names]

    def _relative(self, pattern: str) -> str:
        # An absolute source is relative to the root of the tree (an undocumented rule that the manual keeps).
        relative = os.path.normpath(pattern.lstrip("/") or ".")
        if relative == ".." or relative.startswith("../"):
            raise ContextError(
                f"can't COPY: outside the {self.label}: {pattern}", hint=f"sources are relative to {self.root}"
            )
        return relative

    def _missing(self, pattern: str) -> ContextError:
        return ContextError(
            f"can't COPY: not found in {self.label}: {pattern}", hint=f"sources are relative to {self.root}"
        )

    def _matches(self, pattern: str) -> list[str]:
        import glob

        # The directories before the first wildcard are resolved by our rules, the rest by Python's glob.
        parts = pattern.split("/")
        literal = next(index for index, part in enumerate(parts) if _has_wildcard(part))
        head = "/".join(parts[:literal])
        top = resolve_in_root(self.root, head) if self.is_image else os.path.join(self.root, head)
        return sorted(os.path.join(head, name) for name in glob.glob("/".join(parts[literal:]), root_dir=top))

    def _real(self, name: str, pattern: str) -> str:
        if self.is_image:
            real = resolve_in_root(self.root, name)
        else:
            real = os.path.realpath(os.path.join(self.root, name))
            root = os.path.realpath(self.root)
            if os.path.commonpath((real, root)) != root:
                raise ContextError(
                    f"can't COPY: outside the {self.label}: {pattern}",
                    hint=f"{name} leads to {real}; copy the file into the {self.label}",
                )
        if not os.path.lexists(real):
            raise self._missing(pattern)
        return real


def _has_wildcard(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def described(sources: list[Source], *, with_xattrs: bool) -> bytes:
    """Return what changes when a source changes: names, types, permissions, sizes, mtimes, link targets and (if asked
    for) extended attributes of all files, as `describe_source` has them. Raises FileError.
    """
    descriptions: list[str] = []
    for source in sources:
        try:
            for path, name, status in _walk(source):
                is_link = stat.S_ISLNK(status.st_mode)
                target = os.readlink(path) if is_link else None
                xattrs = xattr.read(path) if with_xattrs and not is_link else {}
                descriptions.append(describe_source(name, status, target, xattrs))
        except OSError as error:
            raise FileError("read", error.filename or source.path, error) from error
    return "".join(descriptions).encode("utf-8", "surrogateescape")


def _walk(source: Source) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield path, name and status of a source and of all below it, in a fixed order, symlinks not followed."""
    pending = [(source.path, source.name)]
    while pending:
        path, name = pending.pop()
        status = os.lstat(path)
        yield path, name, status
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                children = sorted(entry.name for entry in entries)
            pending += [(f"{path}/{child}", f"{name}/{child}") for child in reversed(children)]
