"""What the client asks the fork server for, as it travels: JSON in a memory file.

Every text is bytes, one character per byte (Latin-1), so that it does not matter which encodings the two processes
believe in. Values are trusted: both ends are the same program of the same user.

Part of the fork server: standard library only.
"""

import json
import os


class Overlay:
    """Where the changes of a command go."""

    __slots__ = ("upper", "work")

    def __init__(self, upper: bytes, work: bytes) -> None:
        self.upper = upper
        self.work = work


class Mount:
    """A path of the host shown inside; without a source, an empty directory in memory."""

    __slots__ = ("read_only", "source", "target")

    def __init__(self, source: bytes, target: bytes, read_only: bool) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only


class Job:
    """One thing to do in a process of its own."""

    __slots__ = (
        "argv",
        "emulate",
        "env",
        "interactive",
        "is_container",
        "is_wrapped",
        "mounts",
        "overlay",
        "pid_namespace",
        "points",
        "root",
        "trial",
        "workdir",
    )

    def __init__(self, value: dict[str, object]) -> None:
        """Decode the JSON object that `encode` made."""
        self.argv = [_bytes(word) for word in _list(value["argv"])]
        self.env = {_bytes(name): _bytes(text) for name, text in map(_list, _list(value["env"]))}
        self.workdir = _bytes(value["workdir"])
        self.emulate = value["emulate"] is True
        """The system call filter is put on the command."""
        self.interactive = value["interactive"] is True
        """The command stays in our session, so that the terminal is its own."""
        self.is_container = value["is_container"] is True
        """False: argv is a program of the host that makes a container itself."""
        self.pid_namespace = value["pid_namespace"] is True
        self.is_wrapped = value["is_wrapped"] is True
        """The main process is not the command but waits for it, so it must not get the command's SIGTERM."""
        self.root = _bytes(value["root"])
        self.overlay = None if value["overlay"] is None else Overlay(*map(_bytes, _list(value["overlay"])))
        self.points = [(_bytes(path), kind is True) for path, kind in map(_list, _list(value["points"]))]
        """Paths inside the root that have to exist, and whether as directory."""
        self.mounts = [
            Mount(_bytes(source), _bytes(target), read_only is True)
            for source, target, read_only in map(_list, _list(value["mounts"]))
        ]
        self.trial = value["trial"]
        """None, or what to try instead of running a command: `namespaces`, `overlay`, `seccomp`."""


def encode(
    *,
    argv: tuple[str, ...] = (),
    env: tuple[tuple[str, str], ...] = (),
    workdir: str = "/",
    emulate: bool = False,
    interactive: bool = False,
    is_container: bool = True,
    pid_namespace: bool = True,
    is_wrapped: bool = False,
    root: str = "/",
    overlay: tuple[str, str] | None = None,
    points: tuple[tuple[str, bool], ...] = (),
    mounts: tuple[tuple[str, str, bool], ...] = (),
    trial: str | None = None,
) -> bytes:
    """Return a job as the fork server reads it; what the fields mean is said in `Job`."""
    value = {
        "argv": [_wire(word) for word in argv],
        "env": [(_wire(name), _wire(text)) for name, text in env],
        "workdir": _wire(workdir),
        "emulate": emulate,
        "interactive": interactive,
        "is_container": is_container,
        "pid_namespace": pid_namespace,
        "is_wrapped": is_wrapped,
        "root": _wire(root),
        "overlay": overlay and [_wire(path) for path in overlay],
        "points": [(_wire(path), is_directory) for path, is_directory in points],
        "mounts": [(_wire(source), _wire(target), read_only) for source, target, read_only in mounts],
        "trial": trial,
    }
    return json.dumps(value).encode()


def decode(data: bytes) -> Job:
    """Return the job that `encode` made."""
    return Job(json.loads(data))


def _wire(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


def _bytes(value: object) -> bytes:
    assert isinstance(value, str)
    return value.encode("latin-1")


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
