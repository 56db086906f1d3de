"""What importing drags along: the core must work without the app, and short commands without heavy libraries."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import chimage_core
from tests.support import apt_repository
from tests.support.cli import Chimage

PACKAGE = Path(chimage_core.__file__).parent

APP = {"chimage_tui", "textual", "rich"}
HEAVY = APP | {"requests", "urllib3", "lark", "pygit2", "humanize", "asyncio", "sqlite3", "difflib"}
"""Libraries that take longer to import than a short command may take in all."""
WORK = {
    "chimage_core.runner.mount_kinds",
    "chimage_core.runner.namespace",
    "chimage_core.runner.probe",
    "chimage_core.rootfs.overlay",
    "chimage_core.rootfs.skeleton",
    "chimage_core.fs.copy",
    "chimage_core.fs.filecopy",
    "chimage_core.cache.git.places",
    "chimage_core.cache.git.recording",
    "chimage_core.cache.git.restoring",
    "chimage_core.build.explaining",
    "chimage_core.build.mounts",
    "chimage_core.build.offers",
    "chimage_core.build.instructions.rsync",
    "chimage_core.cache.inputs_store",
    "chimage_core.events.explain",
    "chimage_core.events.steps",
    "chimage_core.events.locks",
}
"""What works on images: needed by who changes one."""

MODULES = sorted(
    ".".join(("chimage_core", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


def imported(stderr: str) -> set[str]:
    """Return the names of all modules and packages in the log of `python -X importtime`."""
    names = (line.rpartition("|")[2].strip() for line in stderr.splitlines() if line.startswith("import time:"))
    return {part for name in names for part in (name, name.partition(".")[0])}


def imports_of(chimage: Chimage, *argv: str) -> set[str]:
    """Carry out a command and return what it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chimage_core", *argv],
        capture_output=True,
        text=True,
        env=chimage.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = imported(done.stderr)
    assert "chimage_core" in names
    return names


def import_base(chimage: Chimage, directory: Path) -> None:
    """Import an image `base` of nearly nothing."""
    for name in ("bin", "etc", "usr"):
        (directory / name).mkdir(parents=True)
    chimage.run("import", directory, "base")


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
    assert not (HEAVY | WORK) & imports_of(chimage, *argv)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["build", "--help"]], ids=" ".join)
def test_help_needs_only_the_grammar_of_the_command_line(chimage: Chimage, argv: list[str]) -> None:
    """`dataclasses` alone takes as long as all the rest."""
    names = imports_of(chimage, *argv)
    unwanted = {"dataclasses", "json", "chimage_core.cli.commands", "chimage_core.workspace"}
    assert not (unwanted | {"chimage_core.runner.protocol"}) & names


def test_listing_images_opens_neither_the_cache_nor_what_computes_hashes(chimage: Chimage, tmp_path: Path) -> None:
    import_base(chimage, tmp_path / "base")
    names = imports_of(chimage, "list")
    assert "chimage_core.ops.list" in names
    assert not {"chimage_core.cache", "chimage_core.build", "chimage_core.dockerfile", "hashlib"} & names


def test_a_build_that_is_all_hits_imports_nothing_that_changes_images(chimage: Chimage, tmp_path: Path) -> None:
    """Rebuilding what has not changed is the most frequent thing that people do; of libraries it needs the parser."""
    import_base(chimage, tmp_path / "base")
    (tmp_path / "file").touch()
    (tmp_path / "Dockerfile").write_text("FROM base\nENV a=b\nWORKDIR /etc\nCOPY file /etc\nLABEL c=d\n")
    build = ["build", "-t", "image", "-f", os.fspath(tmp_path / "Dockerfile"), os.fspath(tmp_path)]
    first = imports_of(chimage, *build)
    assert {"chimage_core.fs.copy", "chimage_core.cache.git.recording", "chimage_core.events.steps"} <= first
    again = imports_of(chimage, *build)
    assert "lark" in again
    assert not ((HEAVY | WORK) - {"lark"}) & again


def test_an_add_that_hits_needs_no_network(chimage: Chimage, tmp_path: Path) -> None:
    import_base(chimage, tmp_path / "base")
    content = tmp_path / "file"
    content.write_text("content")
    digest = hashlib.sha256(b"content").hexdigest()
    with apt_repository.serve(os.fspath(tmp_path)) as server:
        url = f"{server.url}/file"
        (tmp_path / "Dockerfile").write_text(f"FROM base\nADD file /a\nADD --checksum=sha256:{digest} {url} /b\n")
        build = ["build", "-t", "image", "-f", os.fspath(tmp_path / "Dockerfile"), os.fspath(tmp_path)]
        assert {"requests", "chimage_core.registry"} <= imports_of(chimage, *build)
    again = imports_of(chimage, *build)
    assert not ((HEAVY | WORK | {"chimage_core.registry", "subprocess"}) - {"lark"}) & again
