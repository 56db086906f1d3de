"""The project's own files agree with each other: what is promised in one is there in the other."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import chimage_core

ROOT = Path(chimage_core.__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
SOURCES = sorted(
    path
    for folder in ("chimage_core", "chimage_tui", "tests", "bench", "tools", "docs", "examples", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
) + [ROOT / name for name in ("Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml")]

UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
"""Marks of what somebody meant to do later, written so that this file has none itself."""

PACKAGE_INDEX = re.compile(r"pyp[i]\.org|pythonhoste[d]\.org")
"""Where pip gets packages from is each host's own configuration."""


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    """Return every requirement of the project: to build, to run, of all extras."""
    project = pyproject()["project"]
    build = pyproject()["build-system"]
    assert isinstance(project, dict)
    assert isinstance(build, dict)
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in (*build["requires"], *project["dependencies"], *extras)]


def locked() -> dict[str, str]:
    """Return the exact version of each package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_the_version_has_one_place() -> None:
    """It is in the package; the installed metadata is made from it."""
    assert metadata.version("chimage") == chimage_core.__version__
    assert pyproject()["project"]["dynamic"] == ["version"]  # type: ignore[index]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_each_requirement_is_bounded_and_locked(requirement: Requirement) -> None:
    """Else two installs of the same commit would differ."""
    assert {"<", ">="} <= {bound.operator for bound in requirement.specifier}
    assert requirement.specifier.contains(locked()[requirement.name.lower()])


def test_the_readme_starts_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_make_targets_that_exist(document: Path) -> None:
    named = set(re.findall(r"`(?:[A-Z]+=\S+ )?make ([a-z-]+)", document.read_text()))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets


def test_the_guide_to_the_code_names_every_package() -> None:
    guide = (ROOT / "docs/codebase.md").read_text()
    packages = {path.parent for path in (ROOT / "chimage_core").rglob("__init__.py")} - {ROOT / "chimage_core"}
    names = {".".join(path.relative_to(ROOT / "chimage_core").parts) for path in packages}
    assert sorted(name for name in names if f"`{name}`" not in guide) == []


def test_the_newest_change_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[(Unreleased|{re.escape(chimage_core.__version__)})\]", changelog, re.MULTILINE)


def test_nothing_is_left_unfinished_and_no_package_index_is_named() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in SOURCES
        for pattern in (UNFINISHED, PACKAGE_INDEX)
        if (match := pattern.search(path.read_bytes().decode("utf-8", "replace")))
    ]
    assert found == []
