"""The build cache as a tree of text, newest first, in the manner of `git log --graph`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chimage_core.image.reference import short_name
from chimage_core.text import plural, printable

if TYPE_CHECKING:
    from chimage_core.cache.protocol import CacheGraph, GraphNode

MARKS = {"image": "*", "deleted": "o", "nothing": "!"}
"""By what a snapshot is kept for."""
_WIDE = 40
"""Columns of a drawing that is getting too wide."""


def tree_lines(graph: "CacheGraph", *, verbose: bool) -> Iterator[str]:
    """Yield the lines of the tree, then a legend if there is something to explain.

    A snapshot has one parent at most. The children of a fork are drawn one below the other, each but the first in a
    column of its own that ends at the fork, so lines never cross.
    """
    children: dict[str, list[GraphNode]] = {}
    known = {node.token for node in graph.nodes}
    roots = []
    for node in graph.nodes:
        parents = [token for token in node.parents if token in known]
        if parents:
            children.setdefault(parents[0], []).append(node)
        else:
            roots.append(node)
    drawing = _Drawing(children, _sizes(graph, children), verbose)
    for root in roots:
        yield from drawing.subtree(root)
    yield from _legend(graph)


def _sizes(graph: "CacheGraph", children: "dict[str, list[GraphNode]]") -> dict[str, int]:
    """Return the number of snapshots in each subtree. The graph has children before parents."""
    sizes: dict[str, int] = {}
    for node in graph.nodes:
        sizes[node.token] = 1 + sum(sizes[child.token] for child in children.get(node.token, ()))
    return sizes


class _Drawing:
    def __init__(self, children: "dict[str, list[GraphNode]]", sizes: dict[str, int], verbose: bool) -> None:
        self._children = children
        self._sizes = sizes
        self._verbose = verbose

    def subtree(self, root: "GraphNode") -> Iterator[str]:
        # Depth first and without recursion: a chain of instructions may be longer than Python's stack.
        pending = [(root, "", self._branches(root, ""), 0)]
        while pending:
            node, prefix, branches, drawn = pending.pop()
            if drawn > 1:
                yield f"{prefix}|/"
            if drawn < len(branches):
                pending.append((node, prefix, branches, drawn + 1))
                child, beside = branches[drawn], prefix + ("| " if drawn else "")
                pending.append((child, beside, self._branches(child, beside), 0))
            else:
                yield from _node_lines(node, prefix, self._verbose)

    def _branches(self, node: "GraphNode", prefix: str) -> "list[GraphNode]":
        """Return the children in the order in which they are drawn: newest first, as they are in the graph.

        In a drawing that is getting wide, the biggest comes first, because it goes on in its parent's column: the
        width then grows only with the logarithm of the number of snapshots.
        """
        branches = self._children.get(node.token, [])
        if len(prefix) < _WIDE or len(branches) < 2:
            return branches
        return sorted(branches, key=lambda child: self._sizes[child.token], reverse=True)


def _node_lines(node: "GraphNode", prefix: str, verbose: bool) -> Iterator[str]:
    names = [short_name(name) for name in node.images]
    names += [f"deleted: {short_name(name)}" for name in node.deleted]
    label = f"({', '.join(names)}) " if names else ""
    yield f"{prefix}{MARKS[node.kept_by]}  {printable(label + node.text)}"
    if verbose:
        import datetime

        when = datetime.datetime.fromtimestamp(node.time)
        yield f"{prefix}{'|' if node.parents else ' '}  {node.state.hex[:12]}  {when:%Y-%m-%d %H:%M:%S}"


def _legend(graph: "CacheGraph") -> Iterator[str]:
    amounts = {kept_by: sum(node.kept_by == kept_by for node in graph.nodes) for kept_by in ("deleted", "nothing")}
    texts = {
        "deleted": "only of deleted images, which can be undeleted",
        "nothing": "of no image any more",
    }
    present = [kept_by for kept_by, amount in amounts.items() if amount]
    if present:
        yield ""
    for kept_by in present:
        yield f"{MARKS[kept_by]}  {texts[kept_by]}: {plural(amounts[kept_by], 'state')}"
