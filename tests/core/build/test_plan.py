"""Stages of a Dockerfile, and what is refused before a disk is touched."""

import pytest

from chimage_core.build.plan import add_labels, make_plan, refuse_unconsumed, stop_at
from chimage_core.dockerfile.ast import Label
from chimage_core.dockerfile.parser import parse
from chimage_core.dockerfile.substitute import expand
from chimage_core.errors import StageError, UnusedBuildArgs
from chimage_core.image.reference import Reference

TEXT = "ARG A=1\nFROM x AS one\nRUN true\nFROM --arg=C=3 y\nARG B\nRUN true\nRUN false\n"


def test_file_is_divided_at_each_from() -> None:
    plan = make_plan(parse(TEXT, "f"), Reference.parse("img:1"), {}, set())
    assert [len(stage.instructions) for stage in plan.stages] == [1, 3]
    assert [stage.first_step for stage in plan.stages] == [2, 4]
    assert [str(stage.reference) for stage in plan.stages] == ["img:1_stage0", "img:1"]
    assert (len(plan.global_args), plan.instruction_count) == (1, 7)


@pytest.mark.parametrize("name", ["A", "B", "C", "D", "http_proxy"])
def test_declared_build_arguments_are_consumed(name: str) -> None:
    """Also by triggers, which the file itself carries out if a stage starts from one that has them."""
    file = parse(f"{TEXT}ONBUILD ARG D\n", "f")
    assert make_plan(file, Reference.parse("img"), {name: "x"}, {"http_proxy"}).unconsumed == ()


def test_undeclared_build_arguments_are_refused_by_name() -> None:
    """A typo must not be found out after an hour of building."""
    plan = make_plan(parse(TEXT, "f"), Reference.parse("img"), {"E": "", "D": "", "A": ""}, set())
    with pytest.raises(UnusedBuildArgs, match=r"not consumed: D E$"):
        refuse_unconsumed(plan.unconsumed, "f")


@pytest.mark.parametrize("target", ["one", "ONE", "0"])
def test_a_plan_can_end_early(target: str) -> None:
    plan = stop_at(make_plan(parse(TEXT, "f"), Reference.parse("img"), {}, set()), target, Reference.parse("img"))
    assert [str(stage.reference) for stage in plan.stages] == ["img"]
    assert plan.instruction_count == 3


def test_a_plan_cannot_end_at_a_stage_that_is_not_there() -> None:
    plan = make_plan(parse(TEXT, "f"), Reference.parse("img"), {}, set())
    with pytest.raises(StageError, match="no such stage: two") as caught:
        stop_at(plan, "two", Reference.parse("img"))
    assert caught.value.hint == "stages: one, 1"


def test_a_label_of_the_command_line_stands_behind_everything() -> None:
    """Whatever is in it, quotes and variables too, is meant as it is."""
    plan = add_labels(make_plan(parse(TEXT, "f"), Reference.parse("img"), {}, set()), {"k": """a'b"c$d\\"""})
    label = plan.stages[-1].instructions[-1]
    assert isinstance(label, Label)
    assert [expand(word, {}).value for pair in label.pairs for word in pair] == ["k", """a'b"c$d\\"""]
    assert label.range.line == 8
    assert plan.instruction_count == 8
