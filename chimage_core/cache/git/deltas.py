"""Let git(1) store versions of the same file as differences to one another.

Git compares an object with its neighbours in a list, however unlike they are, and that is nearly all the time that its
own collection takes. Only versions of the same path are worth comparing, and only if one of them is new: those are
handed to `git pack-objects` with their paths. On eleven related states of a Debian image that takes a fifth of the
time of `git repack -adf`, for the same effect on what changed.

Git writes into a directory of its own, and sees nothing of the user's configuration or environment.
Source: git-pack-objects(1).
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from chimage_core.cache.git.entries import Entry, read_entries
from chimage_core.cache.git.packfile import REPAIR_HINT, Pack
from chimage_core.cancel import CancelToken
from chimage_core.errors import CacheError
from chimage_core.proc import ProgramOutput, run

_WINDOW = 3
"""Versions that each one is compared with. 2 and 10 gave the same size, where versions differ in a few places."""
_DEPTH = 20
"""Differences that may have to be put together for one object. Git's 50 would gain a thousandth."""
_BIGGEST = "64m"
"""Bigger objects are not compared: that takes several times their size of memory."""
_MEMORY = "256m"
"""Memory for the objects that are compared, per thread."""


class Tool(NamedTuple):
    """How git(1) may be used."""

    program: str
    """Its path."""
    threads: int
    cancel: CancelToken


def versions(paths: Mapping[bytes, int], fresh: set[bytes]) -> dict[bytes, int]:
    """Return the objects that share a path with others, new ones among them, by name with the checksum of the path.

    `paths` are the objects to choose from; `fresh` those that were never compared.
    """
    by_path: dict[int, list[bytes]] = defaultdict(list)
    for name, path in paths.items():
        by_path[path].append(name)
    return {
        name: path
        for path, names in by_path.items()
        if len(names) > 1 and not fresh.isdisjoint(names)
        for name in names
    }


def connected(names: Iterable[bytes], entries: Mapping[bytes, Entry]) -> set[bytes]:
    """Return these objects with all that are differences to them, or that they are differences to, over any number of
    steps: chains that are handed to Git in parts could grow without limit."""
    neighbours: dict[bytes, list[bytes]] = defaultdict(list)
    for entry in entries.values():
        if entry.base is not None:
            neighbours[entry.name].append(entry.base)
            neighbours[entry.base].append(entry.name)
    found, pending = set(), list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += neighbours.get(name, ())
    return found


def compare(repository: str, objects: Mapping[bytes, int], directory: str, tool: Tool, *, reuse: bool) -> list[Entry]:
    """Have Git pack these objects (names, and checksums of their paths) into `directory`; return the entries.

    `reuse`: differences that are there already are taken as they are, and objects of one pack are not compared again.
    Raises CacheError, CacheBroken, Cancelled.
    """
    if not objects:
        return []
    lines = b"".join([b"%s %08x\n" % (name.hex().encode(), path) for name, path in objects.items()])
    argv = [*_command(tool, reuse), os.path.join(directory, "pack")]
    output = run(argv, environment=_environment(repository), cancel=tool.cancel, stdin=lines, check=False)
    if output.status != 0:
        raise _failed(output)
    indexes = [name for name in os.listdir(directory) if name.endswith(".idx")]
    return [entry for index in indexes for entry in read_entries(Pack(os.path.join(directory, index)))]


def _command(tool: Tool, reuse: bool) -> Sequence[str]:
    settings = (
        f"core.bigFileThreshold={_BIGGEST}",
        "core.multiPackIndex=false",
        "pack.writeReverseIndex=false",
        "pack.deltaCacheSize=64m",
    )
    return [
        tool.program,
        *(word for setting in settings for word in ("-c", setting)),
        "pack-objects",
        "--quiet",
        "--delta-base-offset",
        *([] if reuse else ["--no-reuse-delta"]),
        f"--window={_WINDOW}",
        f"--depth={_DEPTH}",
        f"--window-memory={_MEMORY}",
        f"--threads={tool.threads}",
        "--compression=6",
    ]


def _failed(output: ProgramOutput) -> CacheError:
    if output.status < 0:
        return CacheError(
            f"git was ended by signal {-output.status} while it compared files in the build cache",
            hint="is there enough memory?",
        )
    said = output.stderr.decode("utf-8", "surrogateescape").strip().splitlines() or ["no reason given"]
    return CacheError(f"git can’t compare files in the build cache: {said[-1]}", hint=REPAIR_HINT)


def _environment(repository: str) -> dict[str, str]:
    # The repository is named, so Git does not look for it and does not ask whose it is.
    return {
        "GIT_DIR": repository,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "PATH": os.defpath,
    }
