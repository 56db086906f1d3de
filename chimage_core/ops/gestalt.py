"""`gestalt` and `--dependencies`: what is there, and what is missing."""

import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass

from chimage_core import proc
from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing

REQUIRED = ("humanize", "lark", "pygit2", "requests", "textual")
"""Packages that some command cannot do without."""


@dataclass(frozen=True, slots=True)
class Component:
    """A package or program that a feature uses."""

    name: str
    version: str | None
    """None: not there."""


def dependency_problems() -> tuple[str, ...]:
    """Return one text for each missing dependency; none if all is well."""
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    return tuple(f"missing Python package: {name}" for name in missing)


def cache_components() -> tuple[Component, ...]:
    """Return what the build cache uses. Raises DependencyMissing if it cannot work."""
    pygit2 = _package("pygit2")
    git = _program("git", "--version")
    if pygit2.version is None and git.version is None:
        raise DependencyMissing("build cache not available: neither pygit2 nor git is there", hint="install either")
    return (pygit2, git)


def dot_components() -> tuple[Component, ...]:
    """Return what drawing the build cache uses. Raises DependencyMissing if it cannot work."""
    dot = _program("dot", "-V")
    if dot.version is None:
        raise DependencyMissing("build cache can’t be drawn: dot is not there", hint="install graphviz")
    return (dot,)


def python_path() -> str:
    """Return the path of the Python interpreter in use."""
    return sys.executable


def _program(name: str, option: str) -> Component:
    """Return a program with what it answers when it is asked for its version."""
    path = proc.find_program(name)
    if path is None:
        return Component(name, None)
    said = proc.run([path, option], environment={"PATH": os.defpath}, cancel=CancelToken(), check=False)
    lines = (said.stdout or said.stderr).decode("utf-8", "replace").splitlines()
    return Component(name, lines[0].strip() if lines else "unknown")


def _package(name: str) -> Component:
    try:
        return Component(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Component(name, None)
