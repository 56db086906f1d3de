"""`build`: ONBUILD, stored in one image and carried out in the next."""

import json

import pytest

from tests.support.builds import Builds, announced, marks

pytestmark = pytest.mark.userns


def test_a_trigger_does_nothing_where_it_is_stored(builds: Builds) -> None:
    builds.build("FROM base\nONBUILD RUN echo $A > /trigger", tag="parent")
    assert not (builds.image("parent+latest") / "trigger").exists()
    assert builds.metadata("parent+latest")["onbuild"] == ["RUN echo $A > /trigger"]


def test_triggers_run_first_and_in_order(builds: Builds) -> None:
    builds.build("FROM base\nONBUILD RUN echo 1 >> /n\nONBUILD ENV A=2\nONBUILD RUN echo $A >> /n", tag="parent")
    dockerfile = "# comment\nFROM parent\nRUN echo 3 >> /n"
    result = builds.build(dockerfile)
    assert builds.read("n") == "1\n2\n3\n"
    assert [line[:9] for line in announced(result)] == ["  2* FROM", "  2. RUN.", "  2. ENV ", "  2. RUN.", "  3. RUN."]
    assert marks(builds.build(dockerfile)) == "*****"


def test_triggers_are_not_inherited_further(builds: Builds) -> None:
    builds.build("FROM base\nONBUILD RUN echo x >> /n", tag="parent")
    builds.build("FROM parent\nONBUILD LABEL a=b", tag="child")
    assert builds.metadata("child+latest")["onbuild"] == ["LABEL a=b"]
    builds.build("FROM child")
    assert builds.read("n") == "x\n"
    assert "onbuild" not in builds.metadata()
    assert builds.metadata()["labels"] == {"a": "b"}


@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_nothing_but_from_uses_up_triggers(builds: Builds, options: tuple[str, ...]) -> None:
    """An ARG of a variable that never counts makes no state of its own."""
    builds.build("FROM base\nONBUILD ARG USER", *options, tag="parent")
    for _ in range(2):
        builds.build("FROM parent", *options)
        assert "onbuild" not in builds.metadata()


def test_a_trigger_has_its_heredocs(builds: Builds) -> None:
    builds.write("f", "from the context of the child\n")
    builds.build("FROM base\nONBUILD RUN <<E cat > /doc\n  two $A\nlines\nE\nONBUILD COPY f /", tag="parent")
    builds.build("FROM parent\nENV A=no")
    assert builds.read("doc") == "  two \nlines\n"
    assert builds.read("f") == "from the context of the child\n"


def test_triggers_of_a_stage_run_in_stages_built_on_it(builds: Builds) -> None:
    builds.build("FROM base AS one\nONBUILD RUN echo x > /n\nFROM one\nFROM one\nRUN cat /n")
    assert builds.read("n") == "x\n"
    assert not (builds.image("image_stage0+latest") / "n").exists()


def test_a_trigger_may_declare_a_build_argument(builds: Builds) -> None:
    builds.build("FROM base\nONBUILD ARG A=1\nONBUILD RUN echo $A > /a", tag="parent")
    builds.build("FROM parent", "--build-arg=A=2")
    assert builds.read("a") == "2\n"
    result = builds.build("FROM parent", "--build-arg=A=2", "--build-arg=B=2", check=False).expect(1)
    assert "--build-arg: not consumed: B\n" in result.stderr


def test_a_command_of_a_trigger_counts_as_of_this_stage(builds: Builds) -> None:
    builds.build('FROM base\nONBUILD CMD ["c"]', tag="parent")
    builds.build('FROM parent\nENTRYPOINT ["e"]')
    assert builds.metadata()["cmd"] == ["c"]


@pytest.mark.parametrize("trigger", ["RUN false", "COPY missing /"])
def test_a_failing_trigger_is_named(builds: Builds, trigger: str) -> None:
    builds.build(f"FROM base\nONBUILD {trigger}", tag="parent")
    result = builds.build("# comment\nFROM parent", check=False).expect(1)
    assert f"ONBUILD trigger of parent: {trigger}\n" in result.stderr
    assert "/Dockerfile:2: " in result.stderr


@pytest.mark.parametrize(
    "trigger", ["NONSENSE x", "FROM base", "ONBUILD RUN x", "MAINTAINER x", "RUN a\nRUN b", "\x1b[31m"]
)
def test_a_bad_trigger_from_elsewhere_is_an_error(builds: Builds, trigger: str) -> None:
    """An image is data from strangers."""
    tree = builds.context.parent / "tree"
    for name in ("bin", "etc", "ch"):
        (tree / name).mkdir(parents=True)
    (tree / "ch/metadata.json").write_text(json.dumps({"onbuild": ["ENV A=1", trigger]}))
    builds.chimage.run("import", tree, "strange")
    result = builds.build("FROM strange", check=False).expect(1)
    assert "ONBUILD trigger of strange: " in result.stderr
    assert "\x1b" not in result.stderr
    assert announced(result) == []
