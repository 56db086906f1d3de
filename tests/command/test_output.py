"""Text reaches standard output whatever the locale, and JSON is what was asked for."""

import subprocess

import pytest

from tests.support.cli import Chimage


def test_help_in_a_locale_without_our_quotes(chimage: Chimage) -> None:
    done = subprocess.run(
        chimage.argv("build", "--help"),
        env=chimage.environment({"PYTHONIOENCODING": "latin-1"}),
        capture_output=True,
        check=True,
    )
    assert b"don?t execute" in done.stdout
    assert done.stderr == b""


def test_a_path_that_is_no_utf_8_is_printed_as_it_is(chimage: Chimage) -> None:
    """Scripts use it; in most locales Python would refuse to print it."""
    done = subprocess.run(
        [*chimage.argv("-s"), b"/\xff", "storage-path"],
        env=chimage.environment({"PYTHONIOENCODING": "utf-8:strict"}),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"/\xff\n"


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("storage-path", "storage_path"),
        ("gestalt storage-path", "storage_path"),
        ("gestalt python-path", "python_path"),
        ("gestalt bucache", "components"),
        ("--dependencies", "problems"),
    ],
)
def test_facts_as_json(chimage: Chimage, command: str, key: str) -> None:
    result = chimage.run("--json", *command.split()).json()
    assert set(result) == {"type", key}
