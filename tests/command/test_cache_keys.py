"""What makes an instruction miss: everything that its result depends on, and nothing else."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chimage_core.build.builder import scratch_state
from chimage_core.settings import PASSED_VARIABLES
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


# What the base is: its content, not when or whence it came


@pytest.fixture
def source(busybox: Path, tmp_path: Path) -> Path:
    """Return a root file system to import."""
    source = tmp_path / "source"
    subprocess.run(["cp", "-a", busybox, source], check=True)
    return source


DOCKERFILE = "FROM other\nENV A=1\nRUN true"


def test_the_same_image_imported_again_hits(builds: Builds, source: Path) -> None:
    builds.chimage.run("import", source, "other")
    builds.build(DOCKERFILE)
    again = source.with_name("again")
    subprocess.run(["cp", "-a", "--no-preserve=timestamps", source, again], check=True)
    builds.chimage.run("import", again, "other")
    assert marks(builds.build(DOCKERFILE)) == "***"
    builds.chimage.run("delete", "other")
    builds.chimage.run("import", source, "other")
    assert marks(builds.build(DOCKERFILE)) == "***"


def change_content(source: Path) -> None:
    (source / "etc/group").write_text("root:x:0:\nnogroup:x:65533:\n")


def change_mode(source: Path) -> None:
    (source / "etc/group").chmod(0o600)


def change_type(source: Path) -> None:
    (source / "etc/group").unlink()
    (source / "etc/group").symlink_to("passwd")


def change_name(source: Path) -> None:
    (source / "etc/group").rename(source / "etc/group2")


@pytest.mark.parametrize("change", [change_content, change_mode, change_type, change_name])
def test_an_image_imported_again_that_differs_misses_from_the_first_step(
    builds: Builds, source: Path, change: Callable[[Path], None]
) -> None:
    """ch-image goes on hitting what was built on the old one."""
    builds.chimage.run("import", source, "other")
    builds.build(DOCKERFILE)
    original = source.with_name("original")
    subprocess.run(["cp", "-a", source, original], check=True)
    change(source)
    builds.chimage.run("import", source, "other")
    assert marks(builds.build(DOCKERFILE)) == "*.."
    builds.chimage.run("import", original, "other")
    assert marks(builds.build(DOCKERFILE)) == "***"


def test_the_same_image_under_another_name_is_the_same_base(builds: Builds, source: Path) -> None:
    for name in ("other", "same"):
        builds.chimage.run("import", source, name)
    builds.build(DOCKERFILE)
    assert marks(builds.build(DOCKERFILE.replace("other", "same"))) == "***"


# Variables


def test_another_value_of_env_misses_from_its_definition_on(builds: Builds) -> None:
    dockerfile = "FROM base\nRUN true\nENV A={}\nRUN echo constant"
    builds.build(dockerfile.format(1))
    assert marks(builds.build(dockerfile.format(2))) == "**.."
    assert marks(builds.build(dockerfile.format(1))) == "****"


def test_an_argument_that_nobody_uses_misses_as_well(builds: Builds) -> None:
    """Whether a command uses a variable cannot be known."""
    builds.build("FROM base\nARG A=1\nRUN true")
    assert marks(builds.build("FROM base\nARG A=2\nRUN true")) == "*.."
    assert marks(builds.build("FROM base\nARG A=1\nRUN true")) == "***"


@pytest.mark.parametrize("is_declared", [False, True])
def test_variables_that_never_miss(builds: Builds, is_declared: bool) -> None:
    """With --build-arg, too, if they are declared. Such an ARG is neither hit nor miss."""
    lines = [f"ARG {name}" for name in PASSED_VARIABLES] if is_declared else []
    dockerfile = "\n".join(["FROM base", *lines, "RUN true"])
    builds.build(dockerfile, env=dict.fromkeys(PASSED_VARIABLES, "one"))
    assert "." not in marks(builds.build(dockerfile, env=dict.fromkeys(PASSED_VARIABLES, "two")))
    arguments = [f"--build-arg={name}=three" for name in PASSED_VARIABLES]
    assert "." not in marks(builds.build(dockerfile, *arguments))


# Modes


def test_rebuild_by_the_variable_is_rebuild_by_the_option(builds: Builds) -> None:
    dockerfile = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id"
    builds.build(dockerfile)
    first = builds.read("id")
    assert marks(builds.build(dockerfile, env={"CH_IMAGE_CACHE": "rebuild"})) == "*."
    assert builds.read("id") != first
    assert marks(builds.build(dockerfile, "--no-cache", env={"CH_IMAGE_CACHE": "enabled"}))[1] == "."
    assert marks(builds.build(dockerfile, "--rebuild", env={"CH_IMAGE_CACHE": "disabled"})) == "*."
    rebuilt = builds.read("id")
    assert marks(builds.build(dockerfile, tag="other")) == "**"
    assert builds.read("id", "other+latest") == rebuilt
