"""Options, help, facts about the program, and what it says of wrong use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import chimage_core
from tests.support.cli import Chimage

SUBCOMMANDS = ("build", "build-cache", "delete", "gestalt", "import", "list", "reset", "storage-path")


def test_version(chimage: Chimage) -> None:
    assert chimage.run("--version").stdout == f"{chimage_core.__version__}\n"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_general_help_lists_the_subcommands(chimage: Chimage, storage: Path, option: str) -> None:
    result = chimage.run(option)
    assert all(f" {name} " in result.stdout for name in SUBCOMMANDS)
    assert result.stderr == ""
    assert not storage.exists()


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_each_subcommand(chimage: Chimage, storage: Path, name: str) -> None:
    result = chimage.run(name, "--help")
    assert result.stdout.startswith("usage: chimage")
    assert "--storage" in result.stdout
    assert not storage.exists()


def test_help_of_build_has_every_option_of_the_manual(chimage: Chimage) -> None:
    text = chimage.run("build", "--help").stdout
    for option in ("--bind", "--build-arg", "--file", "--force", "--force-cmd", "--dry-run", "--parse-only", "--tag"):
        assert option in text


def test_dependencies_are_all_there_without_a_word(chimage: Chimage) -> None:
    result = chimage.run("--dependencies")
    assert result.stdout == result.stderr == ""


@pytest.mark.parametrize("command", [["storage-path"], ["gestalt", "storage-path"]])
def test_the_storage_path(chimage: Chimage, storage: Path, command: list[str]) -> None:
    assert chimage.run(*command).stdout == f"{storage}\n"
    assert chimage.run("-s", "/else/where", *command).stdout == "/else/where\n"
    assert chimage.run(*command, "--storage=/else/where").stdout == "/else/where\n"
    assert chimage.run(*command, "-s", "relative", cwd="/usr").stdout == "/usr/relative\n"
    assert not storage.exists()


def test_gestalt(chimage: Chimage) -> None:
    assert chimage.run("gestalt", "python-path").stdout == f"{sys.executable}\n"
    assert chimage.run("gestalt", "bucache").stdout == ""
    assert "pygit2: " in chimage.run("gestalt", "bucache", "-v").stdout
    drawn = chimage.run("gestalt", "bucache-dot", check=False)
    assert drawn.status == 0 if shutil.which("dot") else (drawn.status == 1 and "graphviz" in drawn.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["--frobnicate"],
        ["list", "--frobnicate"],
        ["build"],
        ["import", "x"],
        ["delete"],
        ["gestalt"],
        ["gestalt", "nothing"],
        ["--cache", "--no-cache", "list"],
        ["-q", "-v", "list"],
        ["-q", "list", "-v"],
        ["--lock-timeout=-1", "list"],
        ["--lock-timeout=x", "list"],
        ["list", "--stor", "/x"],
        ["build", "--force=magic", "."],
        ["build", "--build-arg", "=x", "."],
        ["build", "--bind", ":/x", "."],
        ["-s", "", "list"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_2_with_one_message(chimage: Chimage, storage: Path, arguments: list[str]) -> None:
    result = chimage.run(*arguments, check=False).expect(2)
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr
    assert not storage.exists()


@pytest.mark.parametrize(
    ("arguments", "message", "help_"),
    [
        (["list", "a", "--frobnicate", "b c"], "unknown: --frobnicate 'b c'", "chimage list --help"),
        (["--frobnicate"], "unknown: --frobnicate", "chimage --help"),
        (["build"], "the following arguments are required: CONTEXT", "chimage build --help"),
        (["list", "--lock-timeout=x"], "expected a number of seconds, 0 or more, not 'x'", "chimage list --help"),
    ],
    ids=str,
)
def test_wrong_use_is_told_in_two_lines(chimage: Chimage, arguments: list[str], message: str, help_: str) -> None:
    """And not below ten lines of all options, of the wrong subcommand perhaps."""
    error, hint = chimage.run(*arguments, check=False).expect(2).stderr.splitlines()
    assert error.startswith("error: ")
    assert error.endswith(message)
    assert hint == f"hint: “{help_}” tells what there is"


def test_wrong_use_is_told_as_json_if_asked_for(chimage: Chimage) -> None:
    (error,) = chimage.run("list", "--json", "--frobnicate", check=False).expect(2).json_lines()
    assert (error["type"], error["code"], error["exit_code"]) == ("error", "usage", 2)


def test_without_a_subcommand_the_help_is_shown(chimage: Chimage) -> None:
    assert chimage.run(check=False).expect(2).stderr == chimage.run("--help").stdout


def test_a_misspelt_option_gets_the_nearest_one(chimage: Chimage) -> None:
    for arguments, near in ((["build", "--biuld-arg=x", "."], "--build-arg"), (["list", "--jsn"], "--json")):
        assert f"; did you mean {near}?\n" in chimage.run(*arguments, check=False).expect(2).stderr
    assert "did you mean" not in chimage.run("list", "--zzz", check=False).expect(2).stderr


def test_options_stand_before_or_after_the_subcommand(chimage: Chimage, tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    for arguments in (["-q", "-q", "import"], ["-q", "import", "-q"], ["import", "-qq"]):
        assert chimage.run(*arguments, tmp_path / "tree", "foo").stderr == ""
    assert chimage.run("list", "--json").stdout == chimage.run("--json", "list").stdout


def test_quiet_levels(chimage: Chimage, tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    normal, quiet, very = (
        chimage.run(*options, "import", tmp_path / "tree", "foo") for options in ([], ["-q"], ["-qq"])
    )
    assert "importing" in normal.stderr
    assert quiet.stderr.splitlines() == ["warning: no metadata to load; using defaults"]
    assert very.stderr == ""
    assert "error:" in chimage.run("-qq", "import", "/nowhere", "foo", check=False).expect(2).stderr
    assert chimage.run("-qqq", "import", "/nowhere", "foo", check=False).expect(2).stderr == ""


def test_verbose_tells_more(chimage: Chimage, tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    normal = chimage.run("import", tmp_path / "tree", "foo")
    assert len(chimage.run("import", "-v", tmp_path / "tree", "foo").stderr) > len(normal.stderr)


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_adds_a_trace_to_errors(chimage: Chimage, how: str) -> None:
    options, env = (["--debug"], {}) if how == "option" else ([], {"CH_IMAGE_DEBUG": "1"})
    assert "Traceback" in chimage.run(*options, "import", "/nowhere", "foo", env=env, check=False).expect(2).stderr
    assert "Traceback" not in chimage.run("-q", *options, "import", "/nowhere", "foo", env=env, check=False).stderr


def test_a_reader_that_goes_away_is_no_error_message(chimage: Chimage, tmp_path: Path) -> None:
    """`chimage list | head -0`."""
    (tmp_path / "tree/etc").mkdir(parents=True)
    for number in range(3):
        chimage.run("import", tmp_path / "tree", f"image{number}")
    for arguments in (["list"], ["build-cache", "--tree"], ["list", "--json"], ["--help"], ["storage-path"]):
        reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
        assert reader.stdin is not None
        reader.wait()
        done = subprocess.run(
            chimage.argv(*arguments),
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            env=chimage.environment(),
            text=True,
            check=False,
        )
        reader.stdin.close()
        assert done.stderr == "", arguments
        assert done.returncode in (0, 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", ">/dev/full 2>&1"])
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["list", "--json"], ["build-cache"], ["list", "--nope"]], ids=str
)
def test_output_that_cannot_be_written_is_no_bug(
    chimage: Chimage, arguments: list[str], redirection: str, unbuffered: str
) -> None:
    """A full disk under a log file."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *chimage.argv(*arguments)]
    environment = chimage.environment({"PYTHONUNBUFFERED": unbuffered})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if redirection == ">/dev/full" and "--nope" not in arguments:
        assert done.stderr == "error: can't write: output: No space left on device\n"
        assert done.returncode == 1
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


def test_a_reader_of_errors_that_goes_away_ends_the_command(chimage: Chimage, tmp_path: Path) -> None:
    """`chimage build … 2>&1 | head -1`: the status is the same whichever stream it was."""
    (tmp_path / "tree/etc").mkdir(parents=True)
    command = ["bash", "-c", '"$@" 2>&1 | true; echo ${PIPESTATUS[0]}', "bash"]
    arguments = chimage.argv("import", tmp_path / "tree", "foo")
    done = subprocess.run(
        [*command, *arguments], env=chimage.environment(), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_closed_standard_output_does_no_harm(chimage: Chimage, tmp_path: Path) -> None:
    """Cron jobs and daemons start programs like this; a file opened next must not become the output."""
    (tmp_path / "tree/etc").mkdir(parents=True)
    for closed in (">&-", "<&-", "2>&-", "<&- >&- 2>&-"):
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *chimage.argv("import", tmp_path / "tree", "foo")]
        done = subprocess.run(command, env=chimage.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert chimage.run("list").stdout == "foo:latest (amd64)\n"
