"""The parser as a whole: values with their places, all errors at once, and no input that is slow or breaks it."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.dockerfile import ast
from chimage_core.dockerfile.as_json import to_document
from chimage_core.dockerfile.as_text import to_lines
from chimage_core.dockerfile.errors import InstructionProblem, NoInstructions, SyntaxProblem
from chimage_core.dockerfile.instructions import USAGE
from chimage_core.dockerfile.parser import parse, parse_trigger
from chimage_core.errors import DockerfileError


def only(text: str) -> ast.Instruction:
    """Return the one instruction that follows a FROM."""
    _, instruction = parse(f"FROM x\n{text}", "-").instructions
    return instruction


def test_instruction_knows_its_lines_and_column() -> None:
    dockerfile = parse("# c\nFROM x\n\n  RUN a \\\n  # c\n   b\nCOPY <<E /\nx\nE\n", "-")
    ranges = [(i.range.line, i.range.column, i.range.end_line) for i in dockerfile.instructions]
    assert ranges == [(2, 1, 2), (4, 3, 6), (7, 1, 9)]


def test_text_is_one_line_for_announcements() -> None:
    """It goes into the log and into the build cache's commit messages."""
    assert only("run  --network=none echo a  \\\n   b  ").text == "--network=none echo a     b  "
    assert only("ENV a=b  ").text == "a=b"
    assert only("RUN cat <<E\nx\nE").text == "cat <<E <<..."


@pytest.mark.parametrize(
    ("command", "is_lone", "script"),
    [
        ("RUN <<E\n\techo\nE", True, "\techo\n"),
        ("RUN <<-E\n\techo\n\tE", True, "echo\n"),
        ("RUN --network=none <<E \nx\nE", True, "x\n"),
        ("RUN cat <<-'E' >f\n\tx\n\tE", False, "cat <<-'E' >f\n\tx\nE"),
        ("RUN <<A cat && cat <<B\na\nA\nb\nB", False, "<<A cat && cat <<B\na\nA\nb\nB"),
        ("RUN 3<<E\nx\nE", False, "3<<E\nx\nE"),
        ("RUN echo a", False, "echo a"),
    ],
)
def test_script_is_what_the_shell_gets(command: str, is_lone: bool, script: str) -> None:
    """A heredoc alone is the command; with more on the line the shell reads the heredoc itself."""
    instruction = only(command)
    assert isinstance(instruction, ast.Run)
    assert isinstance(instruction.command, ast.ShellCommand)
    assert instruction.command.lone_heredoc is is_lone
    assert instruction.command.script == script


def test_options_have_typed_access() -> None:
    copy = only("COPY --from=b --chmod=600 --chown=1 --link --exclude=x --exclude=y --parents=false a b")
    assert isinstance(copy, ast.Copy)
    assert (copy.from_, copy.chmod, copy.chown, copy.link, copy.parents) == ("b", "600", "1", True, False)
    assert copy.excludes == ("x", "y")
    add = only("ADD --unpack=False --keep-git-dir --checksum=sha256:1 a b")
    assert isinstance(add, ast.Add)
    assert (add.unpack, add.keep_git_dir, add.checksum, add.link) == (False, True, "sha256:1", False)
    run = only("RUN --mount=target=/x --mount=target=/y --network=none --security=sandbox --device=d c")
    assert isinstance(run, ast.Run)
    assert (run.mounts, run.network, run.security, run.devices) == (
        ("target=/x", "target=/y"),
        "none",
        "sandbox",
        ("d",),
    )
    from_ = parse("FROM --platform=linux/arm --arg=A=b=c x", "-").instructions[0]
    assert isinstance(from_, ast.From)
    assert (from_.platform, from_.args) == ("linux/arm", (("A", "b=c"),))


def test_onbuild_source_can_be_parsed_again() -> None:
    """It is stored in the image and parsed by a later build, heredocs included."""
    onbuild = only("ONBUILD COPY --chmod=600 <<-E /x  \n\tbody\n\tE")
    assert isinstance(onbuild, ast.OnBuild)
    place = ast.SourceRange(line=7, end_line=7)
    trigger = parse_trigger(onbuild.source, path="ONBUILD of base", place=place)
    assert trigger.range == place
    assert isinstance(trigger, ast.Copy)
    assert isinstance(onbuild.trigger, ast.Copy)
    assert trigger.heredocs == onbuild.trigger.heredocs
    assert trigger.options == {"chmod": "600"}
    run = only("ONBUILD RUN true ")
    assert isinstance(run, ast.OnBuild)
    assert run.source == "RUN true "


def test_bad_trigger_of_a_base_image_is_refused() -> None:
    place = ast.SourceRange(line=1, end_line=1)
    with pytest.raises(SyntaxProblem, match="can’t parse: ONBUILD of base:1,1"):
        parse_trigger("NONSENSE x", path="ONBUILD of base", place=place)
    for text in ("", "RUN a\nRUN b"):
        with pytest.raises(NoInstructions, match="ONBUILD of base"):
            parse_trigger(text, path="ONBUILD of base", place=place)


@pytest.mark.parametrize(("bad", "shown", "more"), [(9, 9, False), (10, 10, False), (11, 10, True), (10_000, 10, True)])
def test_at_most_ten_errors_are_shown(bad: int, shown: int, more: bool) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse("FROM x\n" + "BAD\n" * bad, "-")
    assert [fault.line for fault in caught.value.faults] == list(range(2, 2 + shown))
    assert caught.value.message.count("can’t parse: -:") == shown
    assert caught.value.message.endswith("… and more errors") == more


def test_tabs_stay_above_and_in_the_caret_line() -> None:
    """Else the caret is off by the tab's width."""
    with pytest.raises(SyntaxProblem) as caught:
        parse("FROM x\n\tCOPY\t--chown= a b", "-")
    assert caught.value.message.splitlines()[1:3] == ["  \tCOPY\t--chown= a b", "  \t    \t        ^"]


def test_control_characters_of_a_dockerfile_do_not_reach_the_terminal() -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse("FROM x\nBAD \x1b[31m\n", "-")
    assert "\x1b" not in caught.value.message


def test_bytes_text_and_surrogate_escapes_agree() -> None:
    decoded, text = parse(b"FROM caf\xc3\xa9", "-"), parse("FROM café", "-")
    assert decoded.instructions[0].text == text.instructions[0].text == "café"
    messages = []
    for bad in (b"FROM \xff", "FROM \udcff"):
        with pytest.raises(SyntaxProblem, match="byte 0xff is not UTF-8") as caught:
            parse(bad, "-")
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


def test_problem_of_an_instruction_names_line_and_file() -> None:
    """The first line is what scripts that know ch-image look for."""
    place = ast.SourceRange(line=3, end_line=3)
    problem = InstructionProblem("Dockerfile", place, "COPY: no context", hint="give one")
    assert problem.message == "  3 COPY: no context"
    assert (problem.path, problem.range, problem.hint) == ("Dockerfile", place, "give one")


@pytest.mark.parametrize("indent", [20, 27, 60, 2000])
def test_indented_continuations_take_linear_time(indent: int) -> None:
    """The original needs 2^indent steps; a backtracking terminal would never end here."""
    line = " " * indent + "package \\\n"
    for head in (
        "RUN apt-get install \\\n",
        "ENV a=b \\\n",
        "COPY \\\n",
        "LABEL \\\n",
        "RUN --mount=type=x \\\n",
        "FROM \\\n",
    ):
        text = "FROM x\n" + head + line * 200 + " " * indent + "'"
        started = time.process_time()
        try:
            parse(text, "-")
        except SyntaxProblem:
            pass
        assert time.process_time() - started < 5


def test_every_keyword_has_a_class_a_usage_and_forms_as_data_and_text() -> None:
    examples = {
        "FROM": "x", "RUN": "x", "CMD": "x", "ENTRYPOINT": "x", "SHELL": '["x"]', "COPY": "a b", "ADD": "a b",
        "RSYNC": "a b", "NSYNC": "a b", "ENV": "a=b", "LABEL": "a=b", "ARG": "a", "WORKDIR": "x", "USER": "x",
        "EXPOSE": "1", "VOLUME": "x", "STOPSIGNAL": "x", "HEALTHCHECK": "NONE", "MAINTAINER": "x", "ONBUILD": "RUN x",
    }  # fmt: skip
    assert examples.keys() == USAGE.keys()
    dockerfile = parse("FROM y\n" + "".join(f"{key} {value}\n" for key, value in examples.items()), "-")
    names = [instruction["name"] for instruction in to_document(dockerfile)["instructions"][1:]]
    assert names == [key.replace("NSYNC", "RSYNC") for key in examples]
    listing = list(to_lines(dockerfile))
    assert all(any(line.endswith(f" {name}") for line in listing) for name in names)


def test_listing_shows_words_apart() -> None:
    dockerfile = parse("# escape=`\nFROM x\nCOPY --link a b /c\nCOPY <<E /d\n\x1bx\nE\nONBUILD ENV k=v", "-")
    assert list(to_lines(dockerfile)) == [
        "    # escape = “`”",
        "  2 FROM",
        "      image: “x”",
        "  3 COPY",
        "      --link",
        "      sources: “a” “b”",
        "      dest: “/c”",
        "  4 COPY",
        "      sources: ",
        "      dest: “/d”",
        "      heredoc “E”, expanded",
        "      | \\x1bx",
        "  7 ONBUILD",
        "        7 ENV",
        "            k = “v”",
    ]


KEYWORDS = [*USAGE, "from", "OnBuild RUN", "ſhell", "# c", "# escape=`\n"]
PARTS = [
    *" \t\n=\"'\\$}[],#|",
    "\\\n",
    "`\n",
    "\r\n",
    "a",
    "${",
    "--",
    "--from=",
    '["a"]',
    "<<E",
    "<<-E",
    "E\n",
    "\nE\n",
]
PARTS += ["AS", "é", "\xa0", "\x0b", "\x1c", "\udcff", "\0", "((", ":-"]


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(KEYWORDS), st.lists(st.sampled_from(PARTS), max_size=8)), max_size=5))
def test_anything_like_a_dockerfile_parses_or_is_refused(lines: list[tuple[str, list[str]]]) -> None:
    """Never a traceback; and all places lie inside the file."""
    text = "".join(f"{keyword} {''.join(parts)}\n" for keyword, parts in lines)
    _parse_or_refuse(text)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(), st.binary()))
def test_any_input_parses_or_is_refused(text: str | bytes) -> None:
    _parse_or_refuse(text)


def _parse_or_refuse(text: str | bytes) -> None:
    count = text.count("\n") if isinstance(text, str) else text.count(b"\n")
    try:
        dockerfile = parse(text, "-")
    except SyntaxProblem as problem:
        for fault in problem.faults:
            assert 1 <= fault.line <= count + 1
            assert fault.excerpt is not None
            assert 1 <= fault.column <= len(fault.excerpt) + 1
        return
    except DockerfileError:
        return
    end = 0
    for instruction in dockerfile.instructions:
        assert end < instruction.range.line <= instruction.range.end_line <= count + 1
        end = instruction.range.end_line
    assert list(to_lines(dockerfile))


@pytest.mark.parametrize("column", [1, 2, 60, 5_000, 9_999])
def test_of_a_long_line_only_the_part_around_the_error_is_shown(column: int) -> None:
    """It may be a binary file, all in one line."""
    text = "x" * (column - 1) + "\0" + "y" * (10_000 - column)
    with pytest.raises(SyntaxProblem) as caught:
        parse(text.encode(), "-")
    head, line, caret, _ = caught.value.message.splitlines()
    assert head.endswith(f"-:1,{column}")
    assert len(line) < 140
    assert line[caret.index("^") :].startswith("\\x00")
