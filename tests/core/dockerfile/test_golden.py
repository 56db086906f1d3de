"""Golden pairs: a Dockerfile and its parse as data, or the message it is refused with.

A directory `golden/NAME` holds `Dockerfile` and either `result.json` (with warnings) or `error.txt`. To add one, write
the Dockerfile, run `python -m tests.core.dockerfile.test_golden NAME`, and read what came out.
"""

import json
import os
import sys

import pytest

from chimage_core.dockerfile.as_json import to_document
from chimage_core.dockerfile.parser import parse
from chimage_core.errors import DockerfileError

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")


def outcome(name: str) -> tuple[str, str]:
    """Return the file name and content that belong to the Dockerfile of a pair."""
    with open(os.path.join(GOLDEN, name, "Dockerfile"), "rb") as file:
        data = file.read()
    try:
        dockerfile = parse(data, "Dockerfile")
    except DockerfileError as error:
        return "error.txt", error.message + "\n"
    document = to_document(dockerfile)
    document["warnings"] = [[warning.line, warning.text] for warning in dockerfile.warnings]
    return "result.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", sorted(os.listdir(GOLDEN)))
def test_dockerfile_parses_to_its_golden_result(name: str) -> None:
    """The parse as data is a contract with scripts, and so is the first line of an error."""
    file_name, content = outcome(name)
    with open(os.path.join(GOLDEN, name, file_name), encoding="utf-8") as file:
        assert content == file.read()


if __name__ == "__main__":
    for pair in sys.argv[1:]:
        target, text = outcome(pair)
        with open(os.path.join(GOLDEN, pair, target), "w", encoding="utf-8") as output:
            output.write(text)
