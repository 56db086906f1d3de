"""`build --check`: the report, its exit status, and that nothing else happens."""

from pathlib import Path

import pytest

from tests.support.cli import Chimage


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


def test_report_tells_place_severity_code_and_what_to_do(chimage: Chimage, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base:1\nUSER me\n  MAINTAINER you\nCOPY missing /\n")
    done = chimage.run("build", "--check", context, check=False).expect(1)
    file = context / "Dockerfile"
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{file}:2:1: note: USER: not acted on")
    assert lines[0].endswith("[user-ignored]")
    assert lines[1] == f"{file}:3:3: warning: MAINTAINER: deprecated [maintainer]"
    assert lines[2].startswith("    use LABEL")
    assert f"{file}:4:1: error: COPY: not found in context: missing [source-missing]" in lines
    assert lines[-1] == f"{file}: 1 error, 1 warning, 1 note"
    assert done.stderr == ""


def test_nothing_is_built_and_no_storage_directory_is_needed(chimage: Chimage, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base:1\nRUN false\n")
    done = chimage.run("build", "--check", context)
    assert done.stdout == f"{context / 'Dockerfile'}: nothing to say\n"
    assert not Path(chimage.storage).exists()


def test_warnings_fail_only_if_asked_for(chimage: Chimage, context: Path) -> None:
    """So that a site can begin with errors, and become stricter."""
    (context / "Dockerfile").write_text("FROM base:1\nENV a b\n")
    chimage.run("build", "--check", context)
    chimage.run("build", "--check", "--strict", context, check=False).expect(1)
    (context / "Dockerfile").write_text("FROM base\nUSER me\n")
    chimage.run("build", "--check", "--strict", context)


@pytest.mark.parametrize(("bad", "told"), [(9, "10 errors"), (12, "11 errors")])
def test_syntax_errors_are_findings(chimage: Chimage, bad: int, told: str) -> None:
    text = "FROM x\nCOPY a\n" + "".join(f"BAD{number} x\n" for number in range(bad))
    done = chimage.run("build", "--check", "-", stdin=text, check=False).expect(1)
    assert "-:2:7: error: COPY: no destination; expected: COPY" in done.stdout
    assert "-:11:1: error: unknown instruction BAD8" in done.stdout
    assert ("more errors follow" in done.stdout) == (bad > 9)
    assert done.stdout.splitlines()[-1] == f"-: {told}"


def test_a_file_without_instructions_is_an_error(chimage: Chimage) -> None:
    done = chimage.run("build", "--check", "-", stdin="# nothing\n", check=False).expect(1)
    assert done.stdout.splitlines()[0] == "-:1:1: error: there are no instructions [no-instructions]"


def test_report_as_json(chimage: Chimage, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN sudo a\n")
    result = chimage.run("build", "--check", "--json", context).json()
    assert (result["type"], result["path"]) == ("result", str(context / "Dockerfile"))
    assert (result["errors"], result["warnings"], result["notes"]) == (0, 1, 1)
    assert result["findings"][1] == {
        "severity": "warning",
        "code": "sudo",
        "line": 2,
        "column": 1,
        "text": "RUN: sudo: commands run as (emulated) root already, and sudo itself is likely to fail",
        "suggestion": None,
    }


def test_build_arguments_contexts_and_target_count(chimage: Chimage, context: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    (context / "Dockerfile").write_text(
        "ARG tag\nFROM base:$tag AS one\nCOPY --from=more file /\nFROM base:$tag AS two\nCOPY --from=more none /\n"
    )
    chimage.run("build", "--check", "--build-context", f"more={other}", context, check=False).expect(1)
    options = ("--build-arg", "tag=1", "--target", "one", "--build-context", f"more={other}")
    done = chimage.run("build", "--check", *options, context, check=False)
    assert "not found in context more: none" in done.stdout
    assert "variable-without-value" not in done.stdout
    assert "stage one" not in done.stdout


def test_control_characters_do_not_reach_the_terminal(chimage: Chimage) -> None:
    done = chimage.run("build", "--check", "-", stdin="FROM base\nENV a$\x1b[31m=${b\x1b}\nSHELL \x1b\n", check=False)
    assert "\x1b" not in done.text()
    done = chimage.run(
        "build", "--check", "-", stdin="FROM scratch\nCOPY --from=\x1b[1m a /\nENV a=${b:?\x1b}\n", check=False
    )
    assert "\x1b" not in done.text()


def test_a_missing_dockerfile_is_an_error_as_ever(chimage: Chimage, context: Path) -> None:
    done = chimage.run("build", "--check", context, check=False).expect(1)
    assert "can't read Dockerfile" in done.stderr
