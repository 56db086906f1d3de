"""`modify`: a new image from another one by commands, a script, or a shell."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.builds import Builds, announced, contents, marks
from tests.support.cli import CliResult

pytestmark = pytest.mark.userns


def modify(builds: Builds, *words: str | Path, stdin: str = "", check: bool = True) -> CliResult:
    return builds.chimage.run("modify", *words, stdin=stdin, check=check)


def test_commands_are_runs(builds: Builds) -> None:
    """Each has a state of its own, which is also that of the Dockerfile that says the same."""
    result = modify(builds, "-c", "echo one > /one", "-c", 'echo "$(cat /one) two" > /two', "base", "new")
    assert announced(result) == [
        "  1* FROM base",
        "  2. RUN.S echo one > /one",
        '  3. RUN.S echo "$(cat /one) two" > /two',
    ]
    assert builds.read("two", "new+latest") == "one two\n"
    again = modify(builds, "-c", "echo one > /one", "-c", "true", "base", "new")
    assert marks(again) == "**."
    assert not (builds.image("new+latest") / "two").exists()
    assert marks(builds.build("FROM base\nRUN echo one > /one\nRUN true")) == "***"


def test_a_script_is_a_run_with_a_here_document(builds: Builds, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("a='$HOME'\necho \"$a\" > /a\n")
    result = modify(builds, "base", "new", script)
    assert announced(result)[1] == "  2. RUN.S <<script.sh"
    assert builds.read("a", "new+latest") == "$HOME\n"
    script.touch()
    assert marks(modify(builds, "base", "other", script)) == "**"
    assert marks(modify(builds, "base", "third", stdin=script.read_text())) == "**"
    assert marks(modify(builds, "base", "third", "-", stdin=script.read_text())) == "**"
    assert marks(builds.build(f"FROM base\nRUN <<'EOF'\n{script.read_text()}EOF\n")) == "**"
    assert contents(builds.image("new+latest")) == contents(builds.image("third+latest"))


def test_a_script_may_name_its_interpreter(builds: Builds) -> None:
    modify(builds, "base", "new", stdin='#!/bin/awk -f\nBEGIN { print 1 + 1 > "/sum" }\n')
    assert builds.read("sum", "new+latest") == "2\n"


def test_another_shell(builds: Builds) -> None:
    builds.build("FROM base\nRUN printf '#!/bin/sh\\necho \"mine: $(tail -n 1 $1)\" > /said\\n' > /sh && chmod 755 /sh")
    modify(builds, "-S", "/sh", "-c", "echo $HOME", "image", "one")
    assert builds.read("said", "one+latest") == "mine: echo $HOME\n"
    modify(builds, "--shell=/sh", "image", "two", stdin="#!/bin/false\nwords\n")
    assert builds.read("said", "two+latest") == "mine: words\n"
    # The image is what it was in every other respect.
    assert marks(builds.build("FROM one\nRUN true", tag="child")) == "*."
    result = modify(builds, "-S", "sh", "-c", "true", "image", "three", check=False).expect(2)
    assert "not an absolute path" in result.stderr


def test_a_failure_leaves_the_destination_as_it_was(builds: Builds) -> None:
    result = modify(builds, "-c", "touch /half", "-c", "exit 3", "base", "new", check=False).expect(1)
    assert "RUN command exited with 3" in result.stderr
    assert "modify:3: RUN.S exit 3" in result.stderr
    assert builds.names() == ["base:latest (amd64)"]
    modify(builds, "-c", "touch /whole", "base", "new")
    modify(builds, "-c", "touch /half", "-c", "exit 3", "base", "new", check=False).expect(1)
    assert (builds.image("new+latest") / "whole").exists()
    assert not (builds.image("new+latest") / "half").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-c", "true", "base", "base"], "SOURCE and DEST are the same image"),
        (["-c", "true", "base", "base:latest"], "SOURCE and DEST are the same image"),
        (["-i", "base", "base"], "SOURCE and DEST are the same image"),
        (["-c", "true", "base", "new", "script"], "only one of -c, -i and SCRIPT"),
        (["-c", "true", "-i", "base", "new"], "only one of -c, -i and SCRIPT"),
        (["base", "new"], "the script is empty: standard input"),
    ],
)
def test_what_makes_no_sense(builds: Builds, words: list[str], message: str) -> None:
    assert message in modify(builds, *words, check=False).expect(2).stderr
    assert builds.names() == ["base:latest (amd64)"]


def test_scripts_that_are_none(builds: Builds, tmp_path: Path) -> None:
    path = tmp_path / "script"
    for content in (b"\x7fELF\0", b"\xff\n"):
        path.write_bytes(content)
        assert "no text in UTF-8: script" in modify(builds, "base", "new", path, check=False).expect(2).stderr
    result = modify(builds, "base", "new", tmp_path / "missing", check=False).expect(1)
    assert "can't read script" in result.stderr


def test_a_source_that_is_missing(builds: Builds) -> None:
    result = modify(builds, "-c", "true", "nothing", "new", check=False).expect(1)
    assert "nothing" in result.stderr


def test_options_of_build(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown/f").write_text("bound")
    command = "cat /mnt/f > /copy; chown nobody /copy"
    modify(builds, "--bind", f"{tmp_path}/shown:/mnt", "-c", command, "base", "new")
    assert builds.read("copy", "new+latest") == "bound"
    result = modify(builds, "--force=none", "-c", "chown nobody /etc/passwd", "base", "other", check=False).expect(1)
    assert "RUN.N" in result.stderr
    dry = modify(builds, "-n", "-c", "true", "base", "dry")
    assert marks(dry) == "*."
    assert "dry:latest (amd64)" not in builds.names()


def test_the_result_as_json(builds: Builds) -> None:
    *events, result = modify(builds, "--json", "-c", "echo said", "base", "new").json_lines()
    assert result["type"] == "result"
    assert (result["reference"], result["hits"], result["misses"]) == ("new", 0, 1)
    assert [event["data"] for event in events if event["type"] == "output_chunk"] == ["said\n"]


# By hand


def test_a_shell_that_ends_well_is_kept_and_never_found(builds: Builds) -> None:
    for content in ("one", "two"):
        result = modify(builds, "-i", "base", "new", stdin=f"echo {content} > /typed\n")
        assert announced(result) == ["  1* FROM base", "  2. RUN.S /bin/sh (interactive)"]
        assert builds.read("typed", "new+latest") == f"{content}\n"
    modify(builds, "-i", "base", "new", stdin="exit 0\n")
    assert not (builds.image("new+latest") / "typed").exists()
    assert marks(builds.build("FROM new\nRUN true")) == "*."
    builds.chimage.run("build-cache", "--check")


def test_a_shell_that_fails_changes_nothing(builds: Builds) -> None:
    modify(builds, "-i", "base", "new", stdin="echo first > /typed\n")
    result = modify(builds, "-i", "base", "new", stdin="echo second > /typed; exit 4\n", check=False).expect(1)
    assert "changes discarded: the shell exited with 4" in result.stderr
    assert builds.read("typed", "new+latest") == "first\n"
    modify(builds, "-i", "base", "other", stdin="touch /x; exit 4\n", check=False).expect(1)
    assert "other:latest (amd64)" not in builds.names()
    result = modify(builds, "-i", "-S", "/no/such", "base", "other", check=False).expect(1)
    assert "can't execute /no/such" in result.stderr
    result = modify(builds, "-S", "/no/such", "-c", "x", "base", "other", check=False).expect(1)
    assert "its interpreter is missing in the image: /no/such\n" in result.stderr


@pytest.mark.parametrize("status", [0, 5])
def test_at_a_terminal_somebody_types(builds: Builds, status: int) -> None:
    """The shell has the terminal, also for Ctrl-C, and knows its kind."""
    pid, terminal = pty.fork()
    argv = builds.chimage.argv("modify", "base", "new")
    if pid == 0:
        os.execve(argv[0], argv, builds.chimage.environment({"TERM": "vt100", "PS1": "> "}))
    said = b""

    def expect(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += os.read(terminal, 4096)
        said = said.partition(text)[2]

    expect(b"(interactive)")
    expect(b"# ")
    # By a process of its own: what comes to the shell itself between two commands stops neither.
    os.write(terminal, b"sh -c 'echo star\"\"ted; exec sleep 600'\n")
    expect(b"started")
    os.write(terminal, b"\x03")
    expect(b"# ")
    os.write(terminal, b"echo $TERM-$(id -u) > /typed; echo do''ne\n")
    expect(b"done")
    os.write(terminal, f"exit {status}\n".encode())
    expect(b"grown in 2 instructions" if status == 0 else b"changes discarded")
    _, ended = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(ended) == (1 if status else 0)
    if status:
        assert builds.names() == ["base:latest (amd64)"]
    else:
        assert builds.read("typed", "new+latest") == "vt100-0\n"


def test_a_shell_that_is_killed_leaves_nothing(builds: Builds) -> None:
    argv = builds.chimage.argv("modify", "-i", "base", "new")
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=builds.chimage.environment(), stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"echo half > /typed; echo ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        process.wait(60)
    assert process.returncode == 128 + 15
    assert builds.names() == ["base:latest (amd64)"]
    modify(builds, "-i", "base", "new", stdin="exit 0\n")
    assert not (builds.image("new+latest") / "typed").exists()
