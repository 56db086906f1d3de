"""The build cache as a graph in DOT."""

import json
import subprocess

from chimage_core.cache.protocol import CacheGraph, GraphNode
from chimage_core.cache.state import StateID
from chimage_core.ops.draw import dot_lines
from tests.support.cli import PATH
from tests.support.host import needs_program

HOSTILE = 'RUN echo "a\\n\\N\\G" & &lt; <b>x</b> \x1b[2J\n{|} \udcff ünï \\'


def node(token: str, parent: str | None, text: str, *images: str) -> GraphNode:
    parents = () if parent is None else (parent,)
    return GraphNode(token=token, state=StateID.root(b"x"), parents=parents, text=text, time=0, images=images)


def test_each_state_is_a_node_and_leads_to_its_children() -> None:
    graph = CacheGraph((node("b", "a", "RUN true", "team%tool+latest"), node("a", None, "IMPORT x")))
    text = "".join(dot_lines(graph))
    state = StateID.root(b"x").hex[:12]
    assert f'"b" [label="team/tool\\nRUN true\\n{state}" style=filled' in text
    assert f'"a" [label="IMPORT x\\n{state}" ]' in text
    assert '"a" -> "b"' in text


def test_what_is_kept_for_deleted_images_or_for_nothing_looks_different() -> None:
    nodes = [node("b", "a", "1")._replace(kept_by="deleted", deleted=("x+latest",)), node("a", None, "2")]
    text = "".join(dot_lines(CacheGraph((*nodes, node("c", None, "3")._replace(kept_by="nothing")))))
    assert "style=dashed" in text
    assert "style=dotted" in text
    assert "deleted: x\\n1" in text


def test_a_parent_that_is_gone_is_no_node() -> None:
    assert "gone" not in "".join(dot_lines(CacheGraph((node("a", "gone", "RUN true"),))))


def test_long_instructions_are_cut() -> None:
    assert max(map(len, dot_lines(CacheGraph((node("a", None, "x" * 5000),))))) < 200


@needs_program("dot")
def test_graphviz_reads_any_text_as_it_was_meant() -> None:
    hostile = [HOSTILE[start : start + 40] for start in range(0, len(HOSTILE), 7)]
    nodes = tuple(node(f"n{number}", None, text) for number, text in enumerate(hostile))
    text = "".join(dot_lines(CacheGraph(nodes)))
    done = subprocess.run(["dot", "-Tjson"], input=text.encode(), capture_output=True, env={"PATH": PATH}, check=True)
    assert done.stderr == b""
    drawn = {found["name"]: _shown(found) for found in json.loads(done.stdout)["objects"]}
    state = StateID.root(b"x").hex[:12]
    for number, line in enumerate(hostile):
        shown = line.replace("\x1b", "\\x1b").replace("\n", "\\n").replace("\udcff", "\\xff")
        assert drawn[f"n{number}"] == [shown, state]


def _shown(found: dict[str, object]) -> list[str]:
    """Return the lines of a node's text as Graphviz draws them."""
    drawing = found["_ldraw_"]
    assert isinstance(drawing, list)
    return [operation["text"] for operation in drawing if operation["op"] == "T"]
