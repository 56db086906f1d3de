"""Results as text on stdout: image lists, the summary and the tree of the build cache."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chimage_core.image.reference import Reference
from chimage_core.text import printable, size

if TYPE_CHECKING:
    from chimage_core.cache.protocol import CacheGraph, CacheSummary, GraphNode
    from chimage_core.ops.list import ListedImage


def image_line(image: "ListedImage") -> str:
    """Return `debian:12 (amd64)`."""
    return f"{image.reference} ({printable(image.architecture or 'unknown')})"


def long_image_lines(images: "Sequence[ListedImage]") -> Iterator[str]:
    """Yield name, architecture and time of the last change (local time), in columns."""
    import datetime

    names = [image_line(image) for image in images]
    width = max(map(len, names), default=0)
    for name, image in zip(names, images, strict=True):
        changed = datetime.datetime.fromtimestamp(image.modified_ns // 1_000_000_000)
        yield f"{name:<{width}} | {changed:%a %b %d %H:%M:%S %Y}"


def summary_lines(summary: "CacheSummary") -> Iterator[str]:
    """Yield the facts about the build cache, numbers in a column."""
    amount, _, unit = size(summary.disk_bytes).partition(" ")
    rows = [
        ("named images:", str(summary.named_images), ""),
        ("state IDs:", str(summary.state_ids), ""),
        ("large files:", str(summary.large_files), ""),
        ("commits:", str(summary.commits), ""),
        ("internal files:", str(summary.files), ""),
        ("disk used:", amount, unit),
    ]
    width = max(len(number) for _, number, _ in rows)
    for label, number, unit in rows:
        yield f"{label:<15} {number:>{width}} {unit}".rstrip()


def tree_lines(graph: "CacheGraph", *, verbose: bool) -> Iterator[str]:
    """Yield the build cache as a tree, newest first, in the manner of `git log --graph`.

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
    for root in roots:
        yield from _subtree(root, children, verbose)


def _subtree(root: "GraphNode", children: "dict[str, list[GraphNode]]", verbose: bool) -> Iterator[str]:
    # Depth first and without recursion: a chain of instructions may be longer than Python's stack.
    pending: list[tuple[GraphNode, str, int]] = [(root, "", 0)]
    while pending:
        node, prefix, drawn = pending.pop()
        branches = children.get(node.token, [])
        if drawn > 1:
            yield f"{prefix}|/"
        if drawn < len(branches):
            pending.append((node, prefix, drawn + 1))
            pending.append((branches[drawn], prefix + ("| " if drawn else ""), 0))
        else:
            yield from _node_lines(node, prefix, bool(node.parents), verbose)


def _node_lines(node: "GraphNode", prefix: str, has_parent: bool, verbose: bool) -> Iterator[str]:
    names = f"({', '.join(map(_short_name, node.images))}) " if node.images else ""
    yield f"{prefix}*  {printable(names + node.text)}"
    if verbose:
        import datetime

        when = datetime.datetime.fromtimestamp(node.time)
        yield f"{prefix}{'|' if has_parent else ' '}  {node.state.hex[:12]}  {when:%Y-%m-%d %H:%M:%S}"


def _short_name(name: str) -> str:
    """Return an image name in file form as the user would write it."""
    reference = Reference.from_file_name(name)
    return (reference.alias or name).replace("%", "/").replace("+", ":")
