"""`build`: options that users of podman and docker expect."""

import pytest

from tests.support.builds import Builds, announced

pytestmark = pytest.mark.userns

STAGES = "FROM base AS one\nRUN echo 1 > /n\nFROM base AS Two\nRUN echo 2 > /n\nFROM base\nRUN echo 3 > /n"


@pytest.mark.parametrize(
    ("target", "content", "made"), [("one", "1", 1), ("0", "1", 1), ("TWO", "2", 2), ("2", "3", 3)]
)
def test_a_build_stops_at_its_target(builds: Builds, target: str, content: str, made: int) -> None:
    result = builds.build(STAGES, "--target", target)
    assert builds.read("n") == f"{content}\n"
    assert len(announced(result)) == 2 * made
    assert f"grown in {2 * made} instructions: image" in result.stderr
    names = [name.partition(":")[0] for name in builds.names()]
    assert names == ["base", "image", *(f"image_stage{number}" for number in range(made - 1))]


def test_a_target_that_is_not_there_is_an_error_before_anything_is_done(builds: Builds) -> None:
    result = builds.build(STAGES, "--target=three", check=False).expect(1)
    assert "--target: no such stage: three" in result.stderr
    assert "stages: one, two, 2" in result.stderr
    assert announced(result) == []


USED = """FROM base AS unused
COPY missing /
FROM nowhere AS other
FROM base AS first
RUN echo x > /x
FROM first AS second
RUN echo y > /y
FROM base
COPY --from=second /x /y /
"""


def test_all_stages_are_built_unless_asked_for_less(builds: Builds) -> None:
    """As ch-image does; Docker leaves out what is not needed."""
    result = builds.build(USED, check=False).expect(1)
    assert "nowhere" in result.stderr or "missing" in result.stderr
    result = builds.build(USED, "--skip-unused-stages")
    assert builds.read("x") + builds.read("y") == "x\ny\n"
    assert "skipping unused stages: unused, other\n" in result.stderr
    assert "grown in 6 instructions" in result.stderr
    names = [name.partition(":")[0] for name in builds.names()]
    assert names == ["base", "image", "image_stage2", "image_stage3"]


def test_what_may_be_needed_is_not_skipped(builds: Builds) -> None:
    """A variable and a trigger may name any stage."""
    builds.build("FROM base AS one\nRUN echo x > /x\nFROM base\nARG S=one\nCOPY --from=$S /x /", "--skip-unused-stages")
    assert builds.read("x") == "x\n"
    builds.build("FROM base\nONBUILD COPY --from=one /x /y", tag="parent")
    dockerfile = "FROM base AS one\nRUN echo x > /x\nFROM parent"
    builds.build(dockerfile, "--skip-unused-stages")
    assert builds.read("y") == "x\n"
    assert "skipping" not in builds.build(dockerfile, "--skip-unused-stages", "--dry-run").stderr


@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_an_image_may_have_several_names(builds: Builds, options: tuple[str, ...]) -> None:
    builds.build("FROM base\nRUN echo old > /n", *options, tag="third")
    result = builds.build("FROM base\nRUN echo x > /n", *options, "-t", "second", "--tag=third", "-t", "image:latest")
    assert [name.partition(":")[0] for name in builds.names()] == ["base", "image", "second", "third"]
    assert builds.read("n") == builds.read("n", "third+latest") == "x\n"
    assert "another name of it: second" in result.stderr
    assert result.stderr.count("another name") == 2
    builds.build("FROM second\nRUN cat /n", *options, tag="fourth")
    assert builds.read("n", "fourth+latest") == "x\n"


def test_another_name_gets_a_directory_when_asked_for(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo x > /n", "-t", "second")
    builds.chimage.run("undelete", "second")
    assert builds.read("n", "second+latest") == "x\n"


def test_names_go_ways_of_their_own(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo x > /n", "-t", "second")
    builds.build("FROM base\nRUN echo y > /n", tag="second")
    builds.chimage.run("delete", "second")
    assert builds.read("n") == "x\n"


def test_all_names_are_in_the_result(builds: Builds) -> None:
    result = builds.build("FROM base\nENV A=1", "--json", "-t", "second").json_lines()[-1]
    assert result["names"] == ["image", "second"]
    assert result["reference"] == "image"
