"""`build-cache --check`: is everything in the build cache what it should be, and the image directories what they claim?

Others may work meanwhile, and what they are changing can look like damage for a moment. So a finding counts only if a
second look shows it, too.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from chimage_core.cache.git.check import Finding, findings
from chimage_core.cache.git.examine import Examination, examine
from chimage_core.cache.git.placecheck import claim, claim_problem, difference
from chimage_core.cache.git.refs import IMAGES, escape
from chimage_core.cache.git.repository import damaged_parts
from chimage_core.errors import CacheBroken, CacheError, FileError, StorageBusy
from chimage_core.events.check import CheckProgress
from chimage_core.image.reference import Reference
from chimage_core.text import plural
from chimage_core.workspace import Workspace

_SHOWN_PATHS = 3


class Checked(NamedTuple):
    """How much was looked at."""

    packs: int = 0
    objects: int = 0
    bytes: int = 0
    """Of the packs."""
    references: int = 0
    snapshots: int = 0
    directories: int = 0
    """Different ones in all snapshots."""
    images: int = 0
    """Image directories that were compared with their snapshots."""
    seconds: float = 0


class CheckReport(NamedTuple):
    """The outcome of a check."""

    findings: tuple[Finding, ...]
    checked: Checked

    @property
    def problems(self) -> int:
        """Number of findings that call for a repair."""
        return sum(finding.is_wrong for finding in self.findings)


def check(workspace: Workspace) -> CheckReport:
    """Check everything. Raises CacheDisabled; CacheError for a newer format; FileError, Cancelled."""
    began = time.monotonic()
    workspace.require_cache()
    with _shared(workspace):
        report = _look(workspace)
        if report.problems:
            seen = {(finding.kind, finding.subject) for finding in report.findings}
            again = _look(workspace)
            lasting = tuple(each for each in again.findings if (each.kind, each.subject) in seen)
            report = CheckReport(lasting, again.checked)
    return report._replace(checked=report.checked._replace(seconds=time.monotonic() - began))


def image_findings(workspace: Workspace) -> tuple[list[Finding], int]:
    """Return what is wrong with image directories, and how many were compared."""
    found: list[Finding] = []
    compared = 0
    for name in workspace.images.names():
        workspace.cancel.check()
        try:
            with workspace.locks.at_once().images(write=(name,)):
                finding, was_compared = _image_finding(workspace, name)
        except (StorageBusy, FileError, CacheError):
            continue  # Somebody changes it right now; it is not ours to lock; its snapshot is damaged, as was told.
        found += [finding] if finding else []
        compared += was_compared
    return found, compared


@contextlib.contextmanager
def _shared(workspace: Workspace) -> Iterator[None]:
    """Keep those away who remove things, if nobody does so already, and if we may lock at all."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(StorageBusy, FileError):
            stack.enter_context(workspace.locks.at_once().storage())
        yield


def _look(workspace: Workspace) -> CheckReport:
    try:
        engine = workspace.engine
    except CacheBroken as error:
        return CheckReport((Finding("error", "configuration", "config", error.message),), Checked())
    configuration = [
        Finding("error", "configuration", path, "it is missing or damaged, so that git cannot work with the repository")
        for path in damaged_parts(engine.repository.path)
    ]
    if not engine.repository.id:
        return CheckReport(tuple(configuration), Checked())
    found = examine(engine, progress(workspace))
    # A pack that cannot be opened stops everybody who reads.
    images, compared = ([], 0) if found.objects.damaged else image_findings(workspace)
    inputs = inputs_problem(workspace.layout.inputs)
    if inputs:
        images.append(Finding("warning", "inputs", "inputs", f"{inputs}; what states were made of can’t be told"))
    return CheckReport((*configuration, *findings(engine, found), *images), _amounts(found, compared))


def progress(workspace: Workspace) -> Callable[[int, int], None]:
    """Return what tells how far the verification of objects is."""
    return lambda done, total: workspace.emit(CheckProgress(done=done, total=total))


def inputs_problem(path: str) -> str | None:
    """Return what is wrong with the record of inputs; None if nothing is, or if there is none."""
    if not os.path.exists(path):
        return None
    import sqlite3
    import urllib.parse

    uri = f"file:{urllib.parse.quote(os.fsencode(path))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:  # Somebody writes, or it cannot be opened at all.
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else str(answer)


def _image_finding(workspace: Workspace, name: str) -> tuple[Finding | None, bool]:
    """Return what is wrong with an image directory, and whether it was compared. The name is locked."""
    engine, place, shown = workspace.engine, workspace.images.published(name), str(Reference.from_file_name(name))
    stamp = claim(engine, place)
    if stamp is None:
        return None, False
    problem = claim_problem(engine, stamp)
    if problem is not None:
        return Finding("warning", "stamp", shown, problem, images=(shown,)), False
    if engine.references.get(IMAGES + escape(name)) is None:
        return Finding("warning", "image", shown, "the build cache has lost its name", images=(shown,)), False
    different = difference(engine, place)
    if not different:
        return None, different is not None
    paths = ", ".join(different[:_SHOWN_PATHS]) + (", …" if len(different) > _SHOWN_PATHS else "")
    text = f"{plural(len(different), 'path')} not as in the build cache: {paths}"
    return Finding("warning", "directory", shown, text, images=(shown,)), True


def _amounts(found: Examination, compared: int) -> Checked:
    return Checked(
        packs=found.objects.packs,
        objects=len(found.objects.kinds),
        bytes=found.objects.size,
        references=len(found.references),
        snapshots=len(found.commits),
        directories=found.directories,
        images=compared,
    )
