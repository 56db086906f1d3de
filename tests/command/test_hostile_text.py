"""Text from strangers (Dockerfiles, file names, labels, images) never reaches the terminal raw."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.support.builds import Builds
from tests.support.cli import Chimage, CliResult
from tests.support.servers import serve_files

pytestmark = pytest.mark.userns

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x7f"
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\udc80-\udcff]")


def assert_harmless(*results: CliResult) -> None:
    for result in results:
        for text in (result.stdout, result.stderr):
            found = _RAW.search(text)
            assert found is None, f"raw {found!r} in {text!r}"


def test_instructions(builds: Builds) -> None:
    result = builds.build(f'FROM base\nENV A="{EVIL}"\nLABEL k="{EVIL}"\nRUN : "{EVIL}"\nUSER {EVIL}\nWORKDIR /{EVIL}')
    again = builds.build((builds.context / "Dockerfile").read_text(), "-v")
    tree = builds.chimage.run("build-cache", "--tree", "-v")
    assert_harmless(result, again, tree)
    assert "\\x1b" in result.stderr


@pytest.mark.parametrize(
    "dockerfile",
    [
        f"FROM {EVIL}",
        f"FROM base\n{EVIL} x",
        f"FROM base\nRUN false '{EVIL}'",
        f"FROM base\nCOPY {EVIL} /",
        f"FROM base\nCOPY --from={EVIL} /a /",
        f"FROM base\nENV A=${{{EVIL}}}",
        f"FROM base\nENV A=$UNSET{EVIL}",
        f'FROM base\nCOPY ["{EVIL}", "/"]',
        f"FROM base\nRUN <<{EVIL}",
    ],
)
def test_errors(builds: Builds, dockerfile: str) -> None:
    result = builds.build(dockerfile, check=False)
    assert_harmless(result)
    assert_harmless(builds.build(dockerfile, "--parse-only", check=False))


def test_parse_listing(builds: Builds) -> None:
    builds.write("Dockerfile", f'FROM base\nRUN {EVIL}\nLABEL a="{EVIL}"\n')
    assert_harmless(builds.chimage.run("build", "--parse-only", builds.context))
    assert_harmless(builds.chimage.run("build", "--parse-only", "--json", builds.context))


def test_json_is_plain_ascii_and_loses_nothing(builds: Builds) -> None:
    result = builds.build(f"FROM base\nLABEL k='{EVIL}'", "--json")
    assert result.stdout.isascii()
    steps = [line for line in result.json_lines() if line["type"] == "step_resolved"]
    assert EVIL in steps[1]["text"]


def test_file_names(builds: Builds, tmp_path: Path) -> None:
    builds.write(f"d/{EVIL}", "x")
    missing = builds.build(f"FROM base\nCOPY d/{EVIL}x /", check=False)
    context = tmp_path / f"c{EVIL}"
    results = [
        missing,
        builds.build("FROM base\nCOPY d/* /d/"),
        builds.chimage.run("build", "-t", "image", context, check=False),
        builds.chimage.run("build", "-t", "image", "-f", f"/{EVIL}", builds.context, check=False),
        builds.chimage.run("import", f"/{EVIL}", "foo", check=False),
        builds.chimage.run("-s", tmp_path / EVIL, "list", check=False),
        builds.chimage.run("-s", tmp_path / EVIL / "x", "import", builds.context, "foo", check=False),
    ]
    assert_harmless(*results)


def test_what_servers_say(builds: Builds) -> None:
    with serve_files() as server:
        url = server.add("/f", b"x", headers={"ETag": f'"{EVIL.encode().decode("latin-1")}"'})
        results = [builds.build(f"FROM base\nADD {url} /f")]
        server.add("/f", b"x", headers={"ETag": '"other"', "Location": EVIL.encode().decode("latin-1")})
        results.append(builds.build(f"FROM base\nADD {url} /f", "--explain"))
        server.add("/r", b"", statuses=[(302, {"Location": f"ftp://{EVIL.encode().decode('latin-1')}"})] * 9)
        results.append(builds.build(f"FROM base\nADD {server.url}/r /f", check=False).expect(1))
    assert_harmless(*results)


@pytest.mark.parametrize("command", [["delete"], ["list"], ["import", "/etc"], ["gestalt"], ["build", "-t"]])
def test_arguments(chimage: Chimage, command: list[str]) -> None:
    assert_harmless(chimage.run(*command, EVIL, *(["."] if "-t" in command else []), check=False))


def test_undecodable_arguments(chimage: Chimage) -> None:
    for command in (["delete"], ["list"], ["import", "/etc"], ["import", os.fsdecode(b"/\xff")], ["-s"]):
        result = chimage.run(*command, os.fsdecode(b"\xff\xfe"), check=False)
        assert result.status in (1, 2)
        assert_harmless(result)


def test_metadata_of_an_image(chimage: Chimage, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "ch").mkdir(parents=True)
    (tree / "ch/metadata.json").write_text(json.dumps({"arch": EVIL, "labels": {"k": EVIL}, "env": {"A": EVIL}}))
    results = [chimage.run("import", tree, "foo", check=False)]
    results += [
        chimage.run(*command) for command in (["list"], ["list", "-l"], ["list", "foo"], ["build-cache", "--tree"])
    ]
    assert_harmless(*results)


def test_the_command_line_of_who_holds_a_lock(builds: Builds) -> None:
    """It is shown to those who wait."""
    builds.write("Dockerfile", "FROM base\nRUN sleep 20")
    arguments = ("build", "-t", "image", "--build-arg", f"USER={EVIL}", builds.context)
    with builds.chimage.start(*arguments) as holder:
        try:
            assert holder.stderr is not None
            while "RUN.S" not in holder.stderr.readline():
                pass
            waiting = builds.chimage.run("--lock-timeout=0", "delete", "image", check=False)
            other = builds.build("FROM base", "--lock-timeout=0", check=False).expect(1)
        finally:
            holder.terminate()
            holder.communicate()
    assert_harmless(waiting, other)
    assert "USER=" in other.stderr
