"""When states were last used: a log that every build appends one line to.

A line has a fixed size: the beginning of the state ID and seconds since the epoch. It is written by one small append,
so that builds side by side need no lock. What is malformed or lost only makes a state look older than it is, and never
older than its commit. Whoever holds the storage lock exclusively may write the log anew with the newest lines alone.
"""

import os
import re
from collections.abc import Iterable, Mapping

from chimage_core.cache.protocol import GraphNode
from chimage_core.cache.state import StateID

_PREFIX = 20
"""Bytes of the state ID in a line."""
_LINE = re.compile(rb"(?m)^([0-9a-f]{40}) ([0-9]{11})$")


def note_use(path: str, state: StateID, now: float) -> None:
    """Append that a state was used. A failure is nothing that a build should end for."""
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError:
        return
    try:
        os.write(log, _line(state.value[:_PREFIX], int(now)))
    except OSError:
        pass
    finally:
        os.close(log)


def last_uses(path: str, nodes: Iterable[GraphNode]) -> dict[bytes, int]:
    """Return when each state was last used, in seconds since the epoch, by state ID.

    `nodes` are those of the graph: children before parents. Whoever uses a state uses all that it was made from, and
    making a state is a use. Raises OSError.
    """
    noted = _read(path)
    of_commits: dict[str, int] = {}
    uses: dict[bytes, int] = {}
    for node in nodes:
        state = node.state.value
        used = max(noted.get(state[:_PREFIX], 0), node.time, of_commits.get(node.token, 0))
        uses[state] = max(used, uses.get(state, 0))
        for parent in node.parents:
            of_commits[parent] = max(used, of_commits.get(parent, 0))
    return uses


def compact(path: str, states: Iterable[bytes]) -> None:
    """Leave one line for each of these states that the log knows. The caller holds the storage lock exclusively.

    Raises OSError.
    """
    noted = _read(path)
    if noted:
        from chimage_core.fs.atomic import write_file

        kept = sorted({state[:_PREFIX] for state in states} & noted.keys())
        write_file(path, b"".join([_line(prefix, noted[prefix]) for prefix in kept]), sync=False)


def _line(prefix: bytes, seconds: int) -> bytes:
    return b"%s %011d\n" % (prefix.hex().encode(), seconds)


def _read(path: str) -> Mapping[bytes, int]:
    """Return the newest time of each state in the log, by the beginning of its ID."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    noted: dict[bytes, int] = {}
    for prefix, seconds in _LINE.findall(data):
        name = bytes.fromhex(prefix.decode())
        noted[name] = max(noted.get(name, 0), int(seconds))
    return noted
