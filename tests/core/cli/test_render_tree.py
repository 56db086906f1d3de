"""The build cache as a tree of text."""

from chimage_core.cache.protocol import CacheGraph, GraphNode
from chimage_core.cache.state import StateID
from chimage_core.cli.render_tree import tree_lines


def node(token: str, parent: str | None, *images: str, text: str | None = None) -> GraphNode:
    parents = () if parent is None else (parent,)
    state = StateID.root(token.encode())
    return GraphNode(token=token, state=state, parents=parents, text=text or token, time=0, images=images)


def tree(*nodes: GraphNode, verbose: bool = False) -> list[str]:
    return list(tree_lines(CacheGraph(nodes), verbose=verbose))


def test_fork_is_drawn_as_in_the_manual() -> None:
    nodes = [
        node("RUN echo qux", "RUN echo foo", "c+latest"),
        node("RUN echo bar", "RUN echo foo", "a+latest"),
        node("RUN echo foo", "PULL"),
        node("PULL", None, "alpine+3.17", text="PULL alpine:3.17"),
    ]
    assert tree(*nodes) == [
        "*  (c) RUN echo qux",
        "| *  (a) RUN echo bar",
        "|/",
        "*  RUN echo foo",
        "*  (alpine:3.17) PULL alpine:3.17",
    ]


def test_three_children_and_a_fork_in_a_branch_do_not_cross() -> None:
    nodes = [
        node("a", "base"),
        node("b2", "b"),
        node("b1", "b"),
        node("b", "base"),
        node("c", "base"),
        node("base", None),
    ]
    assert tree(*nodes) == [
        "*  a",
        "| *  b2",
        "| | *  b1",
        "| |/",
        "| *  b",
        "|/",
        "| *  c",
        "|/",
        "*  base",
    ]


def test_chain_longer_than_the_stack_is_drawn() -> None:
    nodes = [node(str(number), str(number + 1)) for number in range(5000)]
    lines = tree(*nodes, node("5000", None))
    assert (lines[0], lines[-1], len(lines)) == ("*  0", "*  5000", 5001)


def test_parents_that_are_not_listed_are_no_parents() -> None:
    """While the cache is being collected, a parent may just have gone."""
    assert tree(node("a", "gone")) == ["*  a"]


def test_instructions_cannot_steer_the_terminal() -> None:
    assert tree(node("a", None, text="RUN \x1b[2J")) == ["*  RUN \\x1b[2J"]


def test_what_only_deleted_images_keep_and_what_nothing_keeps_is_marked_and_explained() -> None:
    nodes = [
        node("lost", "base")._replace(kept_by="nothing"),
        node("gone", "base")._replace(kept_by="deleted", deleted=("team%tool+1.2", "x+latest")),
        node("base", None, "base+latest")._replace(deleted=("old+latest",)),
    ]
    assert tree(*nodes) == [
        "!  lost",
        "| o  (deleted: team/tool:1.2, deleted: x) gone",
        "|/",
        "*  (base, deleted: old) base",
        "",
        "o  only of deleted images, which can be undeleted: 1 state",
        "!  of no image any more: 1 state",
    ]


def test_the_detailed_tree_has_the_state_under_each_instruction() -> None:
    lines = tree(node("b", "a"), node("a", None), verbose=True)
    states = [StateID.root(token).hex[:12] for token in (b"b", b"a")]
    assert [line[:15] for line in lines] == ["*  b", f"|  {states[0]}", "*  a", f"   {states[1]}"]


def test_a_drawing_of_nested_forks_does_not_get_ever_wider() -> None:
    """Each state has a newer branch beside the one that goes on; drawn newest first, each would add a column."""
    chain = 3000
    nodes = []
    for number in range(chain, 0, -1):
        parent = str(number - 1)
        nodes += [node(f"leaf {number}", parent), node(str(number), parent)]
    lines = tree(*nodes, node("0", None))
    assert len(lines) > 2 * chain
    assert max(map(len, lines)) < 120
    assert sum(line.endswith("leaf 7") for line in lines) == 1
