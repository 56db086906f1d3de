"""Files that options of RSYNC read: exclude and include patterns, filter rules, lists of names.

A relative path is one in the context, an absolute one in the image; neither can lead out of it. Standard input is an
error. Source: ch-image manual, "RSYNC", "Arguments".
"""

import os
import re
import stat
from collections.abc import Iterator

from chimage_core.build.context import SourceTree
from chimage_core.build.rsync.options import Option, OptionProblem
from chimage_core.build.rsync.sources import refuse_outside
from chimage_core.errors import file_errors
from chimage_core.fs.paths import resolve_in_root

_MERGE = re.compile(r"(merge|dir-merge|[.:])([,\-+CenwsrpxF/!]*)(?:[ _](.*))?", re.DOTALL)
"""A rule that names a file: rsync(1), "FILTER RULES IN DEPTH"."""
_NESTED = re.compile(rb"[ \t]*(merge|dir-merge|[.:])")


def file_of(option: Option) -> str | None:
    """Return the path that an option reads, as written; None: it reads none. Raises OptionProblem.

    Files with rules that stand in the source directories do not count: they are sources themselves.
    """
    value = option.value or ""
    if option.kind == "file":
        return _checked(option, value)
    match = _MERGE.fullmatch(value) if option.kind == "filter" else None
    if match is None or not match[3]:
        return None
    if match[1] in ("merge", "."):
        return _checked(option, match[3])
    if "/" in match[3]:
        raise OptionProblem(
            f"disallowed rsync(1) option: {option.argument}: it reads files outside the context",
            "name per-directory files without a slash",
        )
    return None


def with_file(option: Option, path: str) -> Option:
    """Return an option of which `file_of` gave a path, with another path."""
    value = option.value or ""
    match = _MERGE.fullmatch(value) if option.kind == "filter" else None
    return option._replace(value=path if match is None else f"{match[1]}{match[2]} {path}")


def path_in_context(tree: SourceTree, path: str) -> str:
    """Return the path on the host of a file that an option names relative to the context. Raises ContextError."""
    refuse_outside(tree, os.path.join(path, ""), path)
    return os.path.join(tree.root, path)


def path_in_image(root: str, path: str) -> str:
    """Return the path on the host of a file that an option names by an absolute path. Raises FileError."""
    return resolve_in_root(root, path)


def read(option: Option, path: str) -> bytes:
    """Return what an option reads from `path`. Raises FileError, OptionProblem for what may not be in it."""
    with file_errors("read file of rsync(1) option", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(22, "not a regular file")
            content = file.read()
    if option.kind == "filter" and not _has_patterns_only(option):
        for line in re.split(rb"[\n\0]", content):
            if _NESTED.match(line):
                rule = line.decode("utf-8", "surrogateescape").strip()
                raise OptionProblem(
                    f"a file of filter rules may not name another one: {rule}", "name each with --filter"
                )
    return content


def listed_names(content: bytes, *, is_nul_separated: bool) -> Iterator[str]:
    """Give the names in a file for `--files-from`, relative to the source."""
    for line in re.split(rb"\0" if is_nul_separated else rb"[\r\n]", content):
        # As rsync reads them: a comment, by its first character, only where lines are separated by newlines.
        if line and (is_nul_separated or line[:1] not in b"#;"):
            yield os.fsdecode(line).lstrip("/")


def _checked(option: Option, path: str) -> str:
    if path == "-":
        raise OptionProblem(f"no standard input in a build: {option.argument}", "name a file in the context")
    if not path.startswith("/") and os.path.normpath(path).split("/")[0] == "..":
        raise OptionProblem(f"outside the context: {option.argument}", "paths are relative to the context")
    return path


def _has_patterns_only(option: Option) -> bool:
    match = _MERGE.fullmatch(option.value or "")
    return match is not None and bool(set(match[2]) & set("-+C"))
