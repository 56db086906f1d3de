"""Where COPY takes files from: the build context, or the root file system of an earlier stage or of another image.

Nothing outside can be reached. In the context, a symlink is what it is on the host, so one that leads out is an error;
in an image, paths are resolved as if its root were `/`, so none can lead out. What `.dockerignore` excludes is not
there. Sources are described by their metadata only, because a cache lookup must not read the files, unless somebody
asks for their content. Source: ch-image manual, "COPY" and "RSYNC", "Build cache".
"""

import operator
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.cache.inputs import describe_source
from chimage_core.errors import ContextError, FileError, file_errors
from chimage_core.fs import xattr
from chimage_core.fs.paths import resolve_in_root

if TYPE_CHECKING:
    from chimage_core.build.ignore import IgnoreRules

_NAME = operator.attrgetter("name")
_IGNORE_FILES = (".dockerignore", ".containerignore")


class Source(NamedTuple):
    """Something to copy, found."""

    name: str
    """As the instruction names it, relative to the tree, after wildcards: its last part names the copy."""
    path: str
    """The real file or directory on the host, symlinks followed."""
    rules: "tuple[tuple[IgnoreRules, str], ...]" = ()
    """What of a directory does not count, each with the path that `path` has for these rules."""
    parents: tuple[tuple[str, str], ...] = ()
    """Directories that are copied without what is in them, each into the one before it: its name, and its host path.
    A source that is a directory is the last one."""
    is_archive: bool = False
    """A tar archive, whose content is meant."""

    def exclusion(self) -> Callable[[str, bool], bool] | None:
        """Return what says which entries below to leave out, as `copy_tree(exclude=)` asks; None: nothing at all.

        To be used for one walk from the top down: what it was asked before, it remembers.
        """
        if not self.rules:
            return None
        from chimage_core.build.ignore import Sieve

        return Sieve(self.path, self.rules)


class SourceTree(NamedTuple):
    """A tree that sources are taken from."""

    root: str
    label: str
    """For messages: `context`, `stage build`."""
    is_image: bool
    """Symlinks are resolved inside `root`, as in a container."""
    ignored: "IgnoreRules | None" = None
    """Files that are as if they were not there."""

    def find(self, pattern: str, *, any_depth: bool = False) -> list[Source]:
        """Return what a source of COPY means, sorted: Python's wildcards, and with `any_depth` also `**`.

        Raises ContextError if there is nothing, or it lies outside, or all of it is excluded.
        """
        relative = self._relative(pattern)
        locate = _Locator(self)
        if has_wildcard(relative):
            from chimage_core.build.wildcards import matches

            names = sorted(matches(locate.directory, relative, any_depth=any_depth))
        else:
            names = [relative]
        located = [(name, locate.real(name)) for name in names]
        there = [(name, real) for name, real in located if real is not None]
        if not there:
            raise ContextError(f"not found in {self.label}: {pattern}", hint=f"sources are relative to {self.root}")
        if self.ignored is None:
            return [Source(name, real) for name, real in there]
        return self._filtered(pattern, there, locate.root, self.ignored)

    def directories(self, source: Source, depth: int) -> tuple[tuple[str, str], ...]:
        """Return the directories of a source's name, itself included if it is one, as `Source.parents` has them.

        Those of the first `depth` parts of the name are left out. Raises FileError.
        """
        names = [] if source.name == "." else source.name.split("/")
        count = len(names) if os.path.isdir(source.path) else len(names) - 1
        locate = _Locator(self)
        paths = [(names[at], locate.real("/".join(names[: at + 1]))) for at in range(depth, count)]
        return tuple((name, path) for name, path in paths if path is not None)

    def _relative(self, pattern: str) -> str:
        # An absolute source is relative to the root of the tree (an undocumented rule that the manual keeps).
        relative = os.path.normpath(pattern.lstrip("/") or ".")
        if relative == ".." or relative.startswith("../"):
            raise ContextError(f"outside the {self.label}: {pattern}", hint=f"sources are relative to {self.root}")
        if "\0" in pattern:
            raise ContextError(f"not a path: {pattern}")
        return relative

    def _filtered(self, pattern: str, found: list[tuple[str, str]], root: str, rules: "IgnoreRules") -> list[Source]:
        sources, told = [], ""
        for name, real in found:
            inside = os.path.relpath(real, root)
            source = Source(name, real, ((rules, inside),))
            # Both names of what a symlink leads to have to be there.
            excluding = [place for place in {rules.at(name), rules.at(inside)} if rules.excludes(place)]
            if excluding and (not os.path.isdir(real) or _is_empty(source)):
                told = told or rules.told(excluding[0])
            else:
                sources.append(source)
        if not sources:
            raise ContextError(
                f"excluded from the {self.label}: {pattern}\n  by {told}",
                hint="add an exception (“!NAME”) to that file, or build with --no-dockerignore",
            )
        return sources


def open_context(root: str, dockerfile: str | None, *, label: str = "context", is_filtered: bool = True) -> SourceTree:
    """Return the tree of a context directory.

    If it `is_filtered`, the first of these says what is excluded: DOCKERFILE.dockerignore, `.dockerignore` and
    `.containerignore` in the directory. Raises ContextError for a bad pattern, FileError.
    """
    root = os.path.abspath(root)
    beside = () if dockerfile is None else (f"{dockerfile}.dockerignore",)
    candidates = (*beside, *(f"{root}/{name}" for name in _IGNORE_FILES)) if is_filtered else ()
    path = next(filter(os.path.isfile, candidates), None)
    if path is None:
        return SourceTree(root, label, is_image=False)
    from chimage_core.build import ignore

    with file_errors("read", path), open(path, "rb") as file:
        text = file.read().decode("utf-8", "surrogateescape")
    rules = ignore.parse(text, os.path.basename(path))
    return SourceTree(root, label, is_image=False, ignored=rules if rules.rules else None)


def described(sources: Iterable[Source], *, with_xattrs: bool, by_content: bool = False) -> bytes:
    """Return what changes when a source changes: names, types, permissions, sizes, mtimes (or, `by_content`, a hash
    instead of these), link targets and (if asked for) extended attributes of all files, as `describe_source` has them.

    Raises FileError.
    """
    content_of = _reader() if by_content else None
    descriptions: list[str] = []
    seen: set[str] = set()
    for source in sources:
        try:
            for path, name, status in _walk(source, seen):
                is_link = stat.S_ISLNK(status.st_mode)
                target = os.readlink(path) if is_link else None
                xattrs = xattr.read(path) if with_xattrs and not is_link else {}
                content = content_of(path, status) if content_of is not None else None
                descriptions.append(describe_source(name, status, target, xattrs, content))
        except OSError as error:
            raise FileError("read", error.filename or source.path, error) from error
    return "".join(descriptions).encode("utf-8", "surrogateescape")


def _reader() -> Callable[[str, os.stat_result], str | None]:
    from chimage_core.cache.sources import content_of

    return content_of


def has_wildcard(pattern: str) -> bool:
    """Return whether a source is a pattern."""
    return any(character in pattern for character in "*?[")


def _is_empty(source: Source) -> bool:
    from chimage_core.build.ignore import Sieve

    with file_errors("read", source.path):
        return Sieve(source.path, source.rules).is_empty()


class _Locator:
    """Finds out where names of one tree really are. Remembers directories, since many files are in few of them."""

    def __init__(self, tree: SourceTree) -> None:
        self._tree = tree
        self.root = tree.root if tree.is_image else os.path.realpath(tree.root)
        self._directories: dict[str, str | None] = {}

    def real(self, name: str) -> str | None:
        """Return the host path of what a name leads to, None if there is nothing. Raises ContextError if it is outside,
        FileError."""
        parent, _, last = name.rpartition("/")
        if name == ".":
            return self.root
        directory = self._resolved(parent)
        path = f"{directory}/{last}"
        try:
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                return path
            path = self._follow(name)
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FileError("read", path, error) from error
        return path

    def directory(self, name: str) -> str | None:
        """Return the host path of a directory to look for names in; None if it is none, or outside."""
        try:
            path = self._resolved(name)
        except ContextError:
            return None
        return path if os.path.isdir(path) else None

    def _resolved(self, name: str) -> str:
        path = self._directories.get(name)
        if path is None:
            path = self._directories[name] = self._follow(name)
        return path

    def _follow(self, name: str) -> str:
        if self._tree.is_image:
            return resolve_in_root(self.root, name)
        path = os.path.realpath(os.path.join(self.root, name))
        if os.path.commonpath((path, self.root)) != self.root:
            label = self._tree.label
            raise ContextError(
                f"outside the {label}: {name}", hint=f"{name} leads to {path}; copy the file into the {label}"
            )
        return path


def _walk(source: Source, seen: set[str]) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield path, name and status of a source and of all below it that counts, in a fixed order, symlinks not
    followed; and of the directories that are copied with it, but for those `seen` before."""
    parent = ""
    for name, path in source.parents:
        parent = f"{parent}{name}/"
        if parent not in seen:
            seen.add(parent)
            yield path, parent, os.lstat(path)
    status = os.lstat(source.path)
    yield source.path, source.name, status
    if stat.S_ISDIR(status.st_mode):
        yield from _walk_below(source)


def _walk_below(source: Source) -> Iterator[tuple[str, str, os.stat_result]]:
    excludes = source.exclusion()
    below = len(source.path) + 1
    pending = [_listed(source.path)]
    names = [f"{source.name}/"]
    while pending:
        if not pending[-1]:
            pending.pop()
            names.pop()
            continue
        entry = pending[-1].pop()
        path = entry.path
        is_directory = entry.is_dir(follow_symlinks=False)
        if excludes is not None and excludes(path[below:], is_directory):
            continue
        name = names[-1] + entry.name
        yield path, name, entry.stat(follow_symlinks=False)
        if is_directory:
            pending.append(_listed(path))
            names.append(f"{name}/")


def _listed(path: str) -> "list[os.DirEntry[str]]":
    """Return the entries of a directory, last first."""
    with os.scandir(path) as entries:
        return sorted(entries, key=_NAME, reverse=True)
