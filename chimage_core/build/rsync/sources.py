"""The sources of RSYNC: found in the context, and described for the build cache.

Unlike those of COPY they stay as written, because a slash at the end means much to rsync. Symbolic links are not
followed but by a slash at the end, or by rsync itself if its options say so (`+u`, `-L`, `-k`); what they lead to then
counts, too, also outside the context. Source: ch-image manual, "RSYNC", "Arguments" and "Build cache".
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from chimage_core.build.context import SourceTree
from chimage_core.cache.inputs import describe_source
from chimage_core.errors import ContextError, FileError
from chimage_core.fs import xattr

_Found = tuple[str, str, os.stat_result]
"""Path on the host, name relative to the context, status."""


def find(tree: SourceTree, pattern: str, *, follows: bool, may_be_missing: bool) -> list[str]:
    """Return what a source means: paths relative to the context, sorted, as rsync is to get them.

    `follows`: links may lead out of the context. Raises ContextError if there is nothing, or it lies outside.
    """
    relative = pattern.lstrip("/") or "./"
    if os.path.normpath(relative).split("/")[0] == "..":
        raise _outside(tree, pattern, "sources are relative to the context")
    words = [relative]
    if any(character in relative for character in "*?["):
        import glob

        words = sorted(glob.glob(relative, root_dir=tree.root))
    existing = [word for word in words if os.path.lexists(os.path.join(tree.root, word))]
    if existing != words or not words:
        if not may_be_missing:
            raise ContextError(
                f"can't RSYNC: not found in {tree.label}: {pattern}", hint=f"sources are relative to {tree.root}"
            )
    elif not follows:
        for word in existing:
            refuse_outside(tree, word, pattern)
    return words


def means_contents(word: str) -> bool:
    """Return whether a source stands for what is in a directory, and not for the directory."""
    return word.rpartition("/")[2] in ("", ".", "..")


def refuse_outside(tree: SourceTree, word: str, named: str) -> None:
    """Raise ContextError if a link leads from the path `word` out of the context. `named`: what the user wrote."""
    inside = os.path.realpath(tree.root)
    # A link that is named itself is not followed.
    holder = word if means_contents(word) else os.path.dirname(word)
    real = os.path.realpath(os.path.join(tree.root, holder))
    if os.path.commonpath((real, inside)) != inside:
        raise _outside(tree, named, f"{holder.rstrip('/')} leads to {real}; +u follows such links")


def described(
    tree: SourceTree, words: Sequence[str], *, follows: bool, with_xattrs: bool, by_content: bool = False
) -> bytes:
    """Return what changes when a source changes, as `context.described` does. Raises FileError.

    With `follows`, of every link also what it leads to: more than rsync copies, but nothing that it copies is missing.
    """
    content_of = _reader() if by_content else None
    descriptions: list[str] = []
    try:
        for path, name, status in _walk(tree, words, follows=follows):
            is_link = stat.S_ISLNK(status.st_mode)
            target = os.readlink(path) if is_link else None
            xattrs = xattr.read(path) if with_xattrs and not is_link else {}
            content = None if content_of is None else content_of(path, status)
            descriptions.append(describe_source(name, status, target, xattrs, content))
    except OSError as error:
        raise FileError("read", error.filename or tree.root, error) from error
    return "".join(descriptions).encode("utf-8", "surrogateescape")


def _reader() -> Callable[[str, os.stat_result], str | None]:
    from chimage_core.cache.sources import content_of

    return content_of


def _walk(tree: SourceTree, words: Sequence[str], *, follows: bool) -> Iterator[_Found]:
    """Give all sources and what is below them, in a fixed order."""
    entered: set[tuple[int, int]] = set()
    tops = [(os.path.join(tree.root, word), _name(word), means_contents(word)) for word in words]
    pending = [top for top in reversed(tops) if os.path.lexists(top[0])]
    while pending:
        path, name, is_followed = pending.pop()
        status = os.stat(path) if is_followed else os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            yield path, name, status
            if follows and os.path.exists(path):
                pending.append((os.path.realpath(path), f"{name}/", False))
            continue
        yield path, name, status
        if not stat.S_ISDIR(status.st_mode) or (status.st_dev, status.st_ino) in entered:
            continue
        if follows:  # A link may lead back up.
            entered.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            children = sorted(entry.name for entry in entries)
        pending += [(os.path.join(path, child), os.path.join(name, child), False) for child in reversed(children)]


def _name(word: str) -> str:
    name = os.path.normpath(word)
    return "" if name == "." else name


def _outside(tree: SourceTree, pattern: str, hint: str) -> ContextError:
    return ContextError(f"can't RSYNC: outside the {tree.label}: {pattern}", hint=hint)
