"""What makes an instruction miss: everything that its result depends on, and nothing else."""

import pytest

from chimage_core.build.builder import scratch_state
from tests.support.builds import Builds, marks

pytestmark = pytest.mark.userns


def test_a_build_without_xattrs_is_no_hit_for_one_with_them(builds: Builds) -> None:
    """The first has lost what the second promises to keep."""
    dockerfile = "FROM base\nRUN true\nENV A=1"
    builds.build(dockerfile, "--no-xattrs")
    assert marks(builds.build(dockerfile)) == "*.."
    assert marks(builds.build(dockerfile, "--no-xattrs")) == "***"
    assert marks(builds.build(dockerfile)) == "***"


def test_a_command_that_is_changed_otherwise_is_executed_again(builds: Builds) -> None:
    builds.write("foo", '#!/bin/sh\necho "$@" > /arguments\n', mode=0o755)
    dockerfile = "FROM base\nCOPY foo /bin/\nRUN foo -c"
    builds.build(dockerfile)
    assert marks(builds.build(dockerfile, "--force-cmd=foo,-a")) == "**."
    assert builds.read("arguments") == "-a -c\n"
    assert marks(builds.build(dockerfile, "--force-cmd=bar,-b")) == "***"
    assert builds.read("arguments") == "-c\n"


def test_nothing_is_something_else_on_another_architecture() -> None:
    """Hosts of several architectures may share a storage directory; FROM scratch must not mix them up."""
    assert scratch_state("amd64") != scratch_state("arm64")


def test_an_argument_of_from_wins_in_a_stage_built_on_another(builds: Builds) -> None:
    """It is an ARG; the stage before has the value from before the first FROM."""
    builds.build("ARG X=1\nFROM base AS one\nFROM --arg=X=2 one\nRUN echo $X > /x")
    assert builds.read("x") == "2\n"


def test_what_the_host_passed_in_is_not_inherited_from_an_image(builds: Builds) -> None:
    """A proxy that was right where the base was built is wrong here."""
    builds.build("FROM base\nARG HTTP_PROXY\nRUN true", tag="proxied", env={"HTTP_PROXY": "there"})
    builds.build("FROM proxied\nRUN echo $HTTP_PROXY > /proxy", env={"HTTP_PROXY": "here"})
    assert builds.read("proxy") == "here\n"


@pytest.mark.parametrize("dockerfile", ["ARG A=$NOWHERE\nFROM base", "FROM --arg=A=$NOWHERE base"])
def test_unset_variables_in_arguments_of_the_file_are_told(builds: Builds, dockerfile: str) -> None:
    assert builds.build(dockerfile).stderr.count("variable is not set, empty text used: $NOWHERE") == 1


def test_a_storage_directory_in_the_context_is_not_copied_into_itself(builds: Builds) -> None:
    """It would fill the disk."""
    storage = builds.context / "storage"
    result = builds.chimage.run(
        "build", "-s", storage, "-t", "image", "-f", "-", builds.context, stdin="FROM scratch\nCOPY . /x", check=False
    )
    assert result.status == 1
    assert "the storage directory is inside the source" in result.stderr


def test_a_context_that_is_missing_is_an_error_also_for_a_dockerfile_from_standard_input(builds: Builds) -> None:
    result = builds.chimage.run("build", "-t", "x", "-f", "-", "nowhere", stdin="FROM base", check=False).expect(1)
    assert "context is not a directory: nowhere" in result.stderr
