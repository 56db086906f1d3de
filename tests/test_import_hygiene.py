"""What importing drags along: the core must work without the app, and short commands without heavy libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import chimage_core
from tests.support.cli import Chimage

PACKAGE = Path(chimage_core.__file__).parent

APP = {"chimage_tui", "textual", "rich"}
HEAVY = APP | {"requests", "urllib3", "lark", "pygit2", "humanize", "asyncio"}
"""Libraries that take longer to import than a short command may take in all."""

MODULES = sorted(
    ".".join(("chimage_core", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


def imported(stderr: str) -> set[str]:
    """Return the top-level names of all modules in the log of `python -X importtime`."""
    lines = (line for line in stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("module", MODULES)
def test_a_core_module_does_not_import_the_app(module: str) -> None:
    """Static contracts cannot see an import by a third party, so ask a fresh interpreter."""
    show = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    fresh = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=False)
    assert fresh.returncode == 0, fresh.stderr
    assert not APP & set(fresh.stdout.split())


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["build", "--help"], ["list"], ["storage-path"]], ids=" ".join
)
def test_short_commands_import_nothing_heavy(chimage: Chimage, argv: list[str]) -> None:
    """They are to end within a tenth of a second."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chimage_core", *argv],
        capture_output=True,
        text=True,
        env=chimage.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "chimage_core" in imported(done.stderr)
    assert not HEAVY & imported(done.stderr)


def test_a_build_that_is_all_hits_needs_no_library_but_the_parser(chimage: Chimage, tmp_path: Path) -> None:
    """Rebuilding what has not changed is the most frequent thing that people do."""
    base = tmp_path / "base"
    for name in ("bin", "etc", "usr"):
        (base / name).mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM base\nENV a=b\nLABEL c=d\n")
    chimage.run("import", base, "base")
    build = ["build", "-t", "image", "-f", os.fspath(tmp_path / "Dockerfile"), os.fspath(tmp_path)]
    chimage.run(*build)
    again = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chimage_core", *build],
        capture_output=True,
        text=True,
        env=chimage.environment(),
        check=False,
    )
    assert again.returncode == 0, again.stderr[-2000:]
    assert "3* LABEL" in again.stdout + again.stderr
    assert not (HEAVY - {"lark"}) & imported(again.stderr)
