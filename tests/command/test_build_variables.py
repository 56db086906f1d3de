"""`build`: ARG, `--build-arg`, and where variables come from."""

import pytest

from tests.support.builds import Builds, announced, marks

pytestmark = pytest.mark.userns


def test_arg_is_seen_by_what_follows_in_its_stage(builds: Builds) -> None:
    builds.build("FROM base\nARG A=1\nENV B=<$A>\nRUN echo $A $B > /out")
    assert builds.read("out") == "1 <1>\n"


def test_arg_is_no_part_of_the_environment_of_the_image(builds: Builds) -> None:
    builds.build("FROM base\nARG SECRET=hidden")
    assert "SECRET" not in builds.read("ch/environment")


def test_a_global_arg_is_seen_everywhere(builds: Builds) -> None:
    """As in ch-image; Docker wants it declared again in each stage."""
    builds.build("ARG A=1\nFROM base\nRUN echo $A > /a\nFROM base\nCOPY --from=0 /a /first\nRUN echo $A > /second")
    assert builds.read("first") == builds.read("second") == "1\n"


def test_a_global_arg_chooses_the_base(builds: Builds) -> None:
    result = builds.build("ARG WHICH=nowhere\nFROM $WHICH\nRUN true", "--build-arg", "WHICH=base")
    assert announced(result)[1] == "  2* FROM base" or announced(result)[1] == "  2. FROM base"


def test_an_arg_of_one_stage_is_unknown_in_the_next(builds: Builds) -> None:
    result = builds.build("FROM base\nARG A=1\nFROM base\nENV B=[$A]\nRUN echo $B > /b")
    assert builds.read("b") == "[]\n"
    assert "variable is not set, empty text used: $A" in result.stderr


def test_an_arg_goes_on_in_a_stage_built_on_its_own(builds: Builds) -> None:
    builds.build("FROM base AS one\nARG A=1\nFROM one\nRUN echo $A > /a")
    assert builds.read("a") == "1\n"


def test_env_wins_over_arg(builds: Builds) -> None:
    builds.build("FROM base\nENV A=env\nARG A=arg\nRUN echo $A > /a", "--build-arg", "A=given")
    assert builds.read("a") == "env\n"


def test_build_arg_wins_over_the_default_and_keeps_all_of_its_value(builds: Builds) -> None:
    """ch-image fails if there is a second equals sign."""
    builds.build('FROM base\nARG A=default\nRUN echo "$A" > /a', "--build-arg", "A=x=y z")
    assert builds.read("a") == "x=y z\n"


def test_build_arg_without_value_takes_the_variable(builds: Builds) -> None:
    builds.build("FROM base\nARG A\nRUN echo $A > /a", "--build-arg", "A", env={"A": "from outside"})
    assert builds.read("a") == "from outside\n"


def test_build_arg_without_value_and_variable_is_a_usage_error(builds: Builds) -> None:
    result = builds.build("FROM base\nARG A", "--build-arg", "A", check=False).expect(2)
    assert "A: no value given" in result.stderr


def test_an_arg_without_any_value_is_not_set(builds: Builds) -> None:
    builds.build("FROM base\nARG A\nRUN echo ${A-unset} > /a")
    assert builds.read("a") == "unset\n"


def test_a_build_arg_that_nothing_consumes_is_an_error_before_anything_is_done(builds: Builds) -> None:
    dockerfile = "FROM base\nARG KNOWN\nRUN echo done"
    result = builds.build(dockerfile, "--build-arg=KNOWN=1", "--build-arg=TYPO=1", check=False).expect(1)
    assert "--build-arg: not consumed: TYPO" in result.stderr
    assert result.stdout == ""
    assert builds.names() == ["base:latest (amd64)"]


def test_another_value_misses_from_the_definition_on(builds: Builds) -> None:
    dockerfile = "FROM base\nRUN true\nARG A=1\nRUN echo constant"
    builds.build(dockerfile)
    assert marks(builds.build(dockerfile, "--build-arg", "A=2")) == "**.."
    assert marks(builds.build(dockerfile, "--build-arg", "A=1")) == "****"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "no_proxy", "SSH_AUTH_SOCK", "USER"])
def test_a_variable_of_the_host_that_every_build_sees_never_causes_a_miss(builds: Builds, name: str) -> None:
    dockerfile = f'FROM base\nRUN echo "${{{name}-unset}}" > /seen'
    builds.build(dockerfile, env={name: "one"})
    assert builds.read("seen") == "one\n"
    assert name not in builds.read("ch/environment")
    assert marks(builds.build(dockerfile, env={name: "two"})) == "**"


def test_no_other_variable_of_the_host_is_seen(builds: Builds) -> None:
    builds.build(
        "FROM base\nRUN env > /env", env={"SECRET": "x", "LD_PRELOAD": "", "GIT_DIR": "/nowhere", "CH_FOO": "1"}
    )
    seen = builds.read("env")
    for name in ("SECRET", "GIT_DIR", "CH_FOO", "CH_IMAGE_STORAGE", "PYTHONDONTWRITEBYTECODE", "HOME=/home"):
        assert name not in seen


def test_predefined_variables_do_not_come_from_the_host(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo $PATH > /path; echo $TAR_OPTIONS > /tar", env={"TAR_OPTIONS": "--bad"})
    assert builds.read("path") == "/ch/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    assert builds.read("tar") == "--no-same-owner\n"


def test_variables_are_replaced_in_all_instructions(builds: Builds) -> None:
    """Not only in those of Docker's list."""
    builds.write("f", "content\n")
    builds.build(
        "FROM base\nARG x=1\nWORKDIR /d$x\nCOPY ${no:-f} g${x}\nLABEL k=$x\n"
        'SHELL ["/bin/sh", "-c", "echo $x > /shell"]\n'
        'RUN anything\nRUN ["/bin/cp", "/d${x}/g$x", "/exec$x"]'
    )
    assert builds.read("d1/g1") == builds.read("exec1") == "content\n"
    assert '"k": "1"' in builds.read("ch/metadata.json")


def test_the_shell_itself_replaces_variables_of_the_shell_form(builds: Builds) -> None:
    builds.build('FROM base\nARG A=arg\nRUN A=shell; echo "$A ${A#s} \\$A" > /out')
    assert builds.read("out") == "shell hell $A\n"


def test_an_undefined_variable_in_from_is_an_error(builds: Builds) -> None:
    result = builds.build("FROM $NOTHING", check=False).expect(1)
    assert "undefined variable" in result.stderr
    assert "$NOTHING" in result.stderr


def test_a_word_that_must_be_set_is_an_error_with_its_line(builds: Builds) -> None:
    result = builds.build('FROM base\nRUN true\nENV A="${B:?say B}"', check=False).expect(1)
    assert "say B" in result.stderr
    assert "/Dockerfile:3" in result.stderr


def test_a_from_argument_serves_as_arg(builds: Builds) -> None:
    builds.build("FROM --arg=A=1 base\nRUN echo $A > /a")
    assert builds.read("a") == "1\n"


def test_each_stage_starts_from_the_global_arguments_again(builds: Builds) -> None:
    builds.build(
        "ARG A=global\nARG B=${A}2\nFROM base\nARG A\nRUN echo $A $B > /a\nARG A=own\nRUN echo $A $B >> /a\n"
        "FROM base\nCOPY --from=0 /a /a\nRUN echo $A $B >> /a"
    )
    assert builds.read("a") == "global global2\nown global2\nglobal global2\n"


def test_arguments_are_inherited_from_an_image_that_was_built_here(builds: Builds) -> None:
    builds.build("FROM base\nARG A=1\nARG B=1\nENV C=1", tag="parent")
    builds.build("ARG B=2\nFROM parent\nRUN echo $A $B $C > /a")
    assert builds.read("a") == "1 2 1\n"


def test_variables_in_a_build_argument_are_replaced_and_quotes_stay(builds: Builds) -> None:
    """As in ch-image; the user's shell has already taken off the quotes that were for it."""
    dockerfile = 'FROM base\nARG A=1\nARG B\nRUN echo "$B" > /b'
    builds.build(dockerfile, "--build-arg", """B={"a": '$A' $NO}""")
    assert builds.read("b") == """{"a": '1' $NO}\n"""


def test_an_image_of_nothing_but_arguments_is_explained(builds: Builds) -> None:
    builds.build("FROM --arg=A=1 base")
    told = builds.chimage.run("build-cache", "--why", "image,1").stdout
    assert "FROM" in told
