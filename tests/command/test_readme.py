"""The walk-through in the README is what really happens."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Chimage
from tests.support.host import needs_program

ROOT = Path(__file__).parents[2]


def walk_through() -> list[tuple[str, str]]:
    """Return the commands of the README's indented blocks that begin with `$`, each with the output shown for it."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = "".join(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks if block.startswith("    $ "))
    _, *commands = re.split(r"^\$ ", shown, flags=re.MULTILINE)
    return [(command, output) for command, _, output in (text.partition("\n") for text in commands)]


@pytest.mark.userns
@needs_program("ch-run")
def test_the_walk_through_is_what_happens(chimage: Chimage, tmp_path: Path) -> None:
    """It is the first thing that people try; every command and every line that it shows is compared."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    environment = chimage.environment()
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    commands = walk_through()
    assert len(commands) > 4
    for command, output in commands:
        done = subprocess.run(
            ["sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert f"$ {command}\n{done.stdout}" == f"$ {command}\n{output}"
