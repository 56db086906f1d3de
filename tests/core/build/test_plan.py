"""Stages of a Dockerfile, and what is refused before a disk is touched."""

import pytest

from chimage_core.build.plan import make_plan
from chimage_core.dockerfile.parser import parse
from chimage_core.errors import UnusedBuildArgs
from chimage_core.image.reference import Reference

TEXT = "ARG A=1\nFROM x AS one\nRUN true\nFROM --arg=C=3 y\nARG B\nRUN true\nRUN false\n"


def test_file_is_divided_at_each_from() -> None:
    plan = make_plan(parse(TEXT, "f"), Reference.parse("img:1"), {}, set())
    assert [len(stage.instructions) for stage in plan.stages] == [1, 3]
    assert [stage.first_step for stage in plan.stages] == [2, 4]
    assert [str(stage.reference) for stage in plan.stages] == ["img:1_stage0", "img:1"]
    assert (len(plan.global_args), plan.instruction_count) == (1, 7)


@pytest.mark.parametrize("name", ["A", "B", "C", "http_proxy"])
def test_declared_build_arguments_are_consumed(name: str) -> None:
    make_plan(parse(TEXT, "f"), Reference.parse("img"), {name: "x"}, {"http_proxy"})


def test_undeclared_build_arguments_are_refused_by_name() -> None:
    """A typo must not be found out after an hour of building."""
    with pytest.raises(UnusedBuildArgs, match=r"not consumed: D E$"):
        make_plan(parse(TEXT, "f"), Reference.parse("img"), {"E": "", "D": "", "A": ""}, set())
