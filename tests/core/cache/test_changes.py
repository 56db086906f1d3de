"""Inputs of steps: the key that is made of them, and what differs between two of them."""

import os
from pathlib import Path

import pytest

from chimage_core.build.context import SourceTree, described
from chimage_core.cache.changes import compare
from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.sources import source_files
from chimage_core.events.explain import Change


def run(text: str, *command: str) -> StepInputs:
    return StepInputs("RUN", text, {"--force": "seccomp", "command": command, "script": None})


def names(before: StepInputs, after: StepInputs) -> list[str]:
    return [change.name for changes in compare(before, after) for change in changes]


def test_the_key_says_all_but_the_text() -> None:
    assert run("a", "x").key() == run("b", "x").key()
    different = [
        run("a", "x"),
        run("a", "x", ""),
        run("a", "x y"),
        StepInputs("COPY", "a", {"patterns": ["x"]}),
        StepInputs("COPY", "a", {"patterns": ["x"]}, b"\0"),
        StepInputs("ENV", "", {"variables": {"A": "1", "B": "2"}}),
        StepInputs("ENV", "", {"variables": {"B": "2", "A": "1"}}),
        StepInputs("ENV", "", {"variables": {"A": "1", "B": None}}),
    ]
    assert len({inputs.key() for inputs in different}) == len(different)


def test_inputs_can_be_read_back_from_their_key() -> None:
    inputs = StepInputs("COPY", "text", {"patterns": ["\udcff\0"], "target": "/", "stage": None}, b"\xff\0\0")
    assert StepInputs.from_key("text", inputs.key()) == inputs


def test_what_is_equal_has_no_changes_whatever_kind_of_sequence_it_is() -> None:
    assert compare(StepInputs.from_key("a", run("a", "x").key()), run("a", "x")) == []


def test_a_change_of_the_text_is_told_once() -> None:
    assert names(run("a", "sh", "a"), run("b", "sh", "b")) == ["RUN"]
    assert names(run("a", "sh", "a"), run("a", "sh", "a -o")) == ["command"]


def test_another_order_of_values_is_a_change_too() -> None:
    before = StepInputs("ENV", "", {"variables": {"A": "1", "B": "2"}})
    after = StepInputs("ENV", "", {"variables": {"B": "2", "A": "1"}})
    assert compare(before, after) == [(Change("text", "variables", None, "A B", "B A"),)]


def test_a_value_that_is_not_set_differs_from_none() -> None:
    before = StepInputs("ARG", "", {"arguments": {"A": None}})
    after = StepInputs("ARG", "", {"arguments": {"A": ""}})
    assert compare(before, after) == [(Change("arguments", "A", None, None, ""),)]


def test_sources_in_another_order_are_not_the_same() -> None:
    """The last one of a name wins."""
    one, two = "a\x00100644\x001 1\x00\x00", "b\x00100644\x001 1\x00\x00"
    before = StepInputs("COPY", "", {}, (one + two).encode())
    after = StepInputs("COPY", "", {}, (two + one).encode())
    assert names(before, after) == ["order of sources"]


def test_hostile_names_and_link_targets_are_taken_apart_as_they_were(tmp_path: Path) -> None:
    """A line feed, or what looks like another record, must not turn one file into two."""
    directory = tmp_path / "d"
    directory.mkdir()
    hostile = ["\n", "a\nb 100644", "\udcff", " ", "100644"]
    for name in hostile:
        (directory / name).write_text("x")
    (directory / "link").symlink_to("\nb\n100644 1 1")
    os.mkfifo(directory / "fifo")
    files = source_files(described(SourceTree(str(tmp_path), "context", is_image=False).find("d"), with_xattrs=False))
    assert sorted(file.name for file in files) == sorted(["d", "d/link", "d/fifo", *(f"d/{name}" for name in hostile)])
    (link,) = (file for file in files if file.name == "d/link")
    assert link.attributes() == {"type": "symlink", "target": "\nb\n100644 1 1"}
    (fifo,) = (file for file in files if file.name == "d/fifo")
    assert fifo.attributes()["type"] == "FIFO"


def test_extended_attributes_are_compared_by_name(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    tree = SourceTree(str(tmp_path), "context", is_image=False)
    before = StepInputs("COPY", "", {}, described(tree.find("f"), with_xattrs=True))
    try:
        os.setxattr(path, "user.x\udcff", b"\0\1")
    except OSError:
        pytest.skip("file system without user xattrs")
    after = StepInputs("COPY", "", {}, described(tree.find("f"), with_xattrs=True))
    assert compare(before, after) == [(Change("source", "f", "xattr user.x\udcff", None, "0x0001"),)]
