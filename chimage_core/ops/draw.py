"""`build-cache --dot`: the build cache as a graph in the language of Graphviz, and as a PDF where that is installed.

Source: https://graphviz.org/doc/info/lang.html and https://graphviz.org/docs/attr-types/escString/.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core import proc
from chimage_core.cache.protocol import CacheGraph, GraphNode
from chimage_core.errors import FileError, file_errors
from chimage_core.events import Notice, Warned
from chimage_core.fs.atomic import write_file
from chimage_core.image.reference import short_name
from chimage_core.text import printable
from chimage_core.workspace import Workspace

DOT_FILE, PDF_FILE = "build-cache.dot", "build-cache.pdf"
MOST_DRAWN = 2000
"""States. Laying out twice as many takes Graphviz four times as long, and nobody finds anything in the result."""

_MARK = "// Build cache of chimage, oldest state at the bottom. Rewritten by “build-cache --dot”.\n"
_LONGEST_TEXT = 60
_STYLES = {
    "image": "",
    "deleted": "style=dashed",
    "nothing": 'style=dotted color="#808080" fontcolor="#808080"',
}
"""By what a state is kept for."""
_NAMED = 'style=filled fillcolor="#cfe2f3"'
_LEGEND = "filled: images; dashed: only of deleted images; dotted: of no image any more"


class Drawing(NamedTuple):
    """The files that were written."""

    dot: str
    pdf: str | None
    """None: Graphviz is not there, or cannot do it."""


def draw(workspace: Workspace, directory: str) -> Drawing:
    """Write the build cache as a graph into a directory; files of an earlier call are replaced.

    Raises CacheDisabled, CacheError, Cancelled; FileError where the directory cannot be written, or holds something
    else of those names.
    """
    workspace.require_cache()
    dot, pdf = os.path.join(directory, DOT_FILE), os.path.join(directory, PDF_FILE)
    _refuse_foreign(dot, pdf)
    graph = workspace.cache.graph()
    text = "".join(dot_lines(graph)).encode()
    _write(workspace, dot, text)
    if len(graph.nodes) > MOST_DRAWN:
        problem = f"{len(graph.nodes)} states are too many to draw"
    else:
        drawn = _rendered(workspace, text)
        if isinstance(drawn, bytes):
            _write(workspace, pdf, drawn)
            return Drawing(dot, pdf)
        problem = drawn
    stale = "; the one there shows an earlier cache" if os.path.lexists(pdf) else ""
    workspace.emit(Warned(text=f"no PDF written: {problem}{stale}"))
    return Drawing(dot, None)


def dot_lines(graph: CacheGraph) -> Iterator[str]:
    """Yield the lines of a DOT file, with their ends."""
    known = {node.token for node in graph.nodes}
    yield _MARK
    yield "digraph build_cache {\n"
    yield f"  rankdir=BT; label={_quoted([_LEGEND])}; fontname=Helvetica;\n"
    yield "  node [shape=box fontname=Helvetica]; edge [arrowhead=none];\n"
    for node in graph.nodes:
        yield f'  "{node.token}" [label={_quoted(_label(node))} {_style(node)}];\n'
        for parent in node.parents:
            if parent in known:
                yield f'  "{parent}" -> "{node.token}";\n'
    yield "}\n"


def _label(node: GraphNode) -> list[str]:
    names = [short_name(name) for name in node.images]
    names += [f"deleted: {short_name(name)}" for name in node.deleted]
    text = node.text if len(node.text) <= _LONGEST_TEXT else f"{node.text[: _LONGEST_TEXT - 1]}…"
    return [*names, text, node.state.hex[:12]]


def _style(node: GraphNode) -> str:
    return _NAMED if node.images else _STYLES[node.kept_by]


def _quoted(lines: list[str]) -> str:
    """Return text as a DOT string. Backslashes begin escapes in it, and ampersands HTML entities."""
    escaped = [printable(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines]
    return '"' + "\\n".join(escaped) + '"'


def _rendered(workspace: Workspace, text: bytes) -> bytes | str:
    """Return the graph as PDF, or why there is none."""
    program = proc.find_program("dot")
    if program is None:
        return "Graphviz is not installed (program not found: dot)"
    try:
        environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
        return proc.run([program, "-Tpdf"], environment=environment, cancel=workspace.cancel, stdin=text).stdout
    except proc.ProgramFailed as error:
        return str(error)


def _refuse_foreign(dot: str, pdf: str) -> None:
    """Raise FileError if one of the files is there and not by us. A PDF is ours if it is beside such a DOT file."""
    there = [path for path in (dot, pdf) if os.path.lexists(path)]
    if there and not _is_ours(dot):
        raise FileError(
            "write",
            there[0],
            FileExistsError(errno.EEXIST, "something else of that name is there"),
            hint="move it away, or change to another directory",
        )


def _is_ours(dot: str) -> bool:
    with file_errors("read", dot):
        try:
            if not stat.S_ISREG(os.lstat(dot).st_mode):
                return False
            with open(dot, "rb") as file:
                mark = _MARK.encode()
                return file.read(len(mark)) == mark
        except FileNotFoundError:
            return False


def _write(workspace: Workspace, path: str, data: bytes) -> None:
    with file_errors("write", path):
        write_file(path, data, sync=False)
    workspace.emit(Notice(level="info", text=f"wrote: {path}"))
