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
    """Something shown inside. What it is depends on what is given, see `mount`."""

    __slots__ = ("content", "is_directory", "is_ours", "mode", "overlay", "read_only", "size", "source", "target")

    def __init__(self, value: dict[str, object]) -> None:
        """Decode the JSON object that `mount` made."""
        self.target = _bytes(value["target"])
        self.source = None if value["source"] is None else _bytes(value["source"])
        """Path of the host."""
        self.overlay = _overlay(value["overlay"])
        """Changes of the source go there."""
        self.content = None if value["content"] is None else _bytes(value["content"])
        """Of a file in memory. With neither source nor content, it is an empty directory in memory."""
        self.mode = _number(value["mode"])
        """Of what is in memory."""
        self.size = _number(value["size"])
        """Bytes that fit into a directory in memory; 0: no limit of ours."""
        self.is_directory = value["is_directory"] is True
        self.is_ours = value["is_ours"] is True
        """A missing target of a later mount may be made in there, to stay."""
        self.read_only = value["read_only"] is True


def mount(
    target: str,
    *,
    source: str | None = None,
    overlay: tuple[str, str] | None = None,
    content: bytes | None = None,
    mode: int = 0o1777,
    size: int = 0,
    is_directory: bool = True,
    is_ours: bool = False,
    read_only: bool = False,
) -> dict[str, object]:
    """Return a mount as it travels; what the fields mean is said in `Mount`."""
    return {
        "target": _wire(target),
        "source": None if source is None else _wire(source),
        "overlay": overlay and [_wire(path) for path in overlay],
        "content": None if content is None else content.decode("latin-1"),
        "mode": mode,
        "size": size,
        "is_directory": is_directory,
        "is_ours": is_ours,
        "read_only": read_only,
    }


class Job:
    """One thing to do in a process of its own."""

    __slots__ = (
        "argv",
        "emulate",
        "env",
        "interactive",
        "is_container",
        "is_offline",
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
        self.is_offline = value["is_offline"] is True
        """The command gets a network namespace of its own."""
        self.is_wrapped = value["is_wrapped"] is True
        """The main process is not the command but waits for it, so it must not get the command's SIGTERM."""
        self.root = _bytes(value["root"])
        self.overlay = _overlay(value["overlay"])
        self.points = [(_bytes(path), kind is True) for path, kind in map(_list, _list(value["points"]))]
        """Paths inside the root that have to exist, and whether as directory."""
        self.mounts = [Mount(_object(one)) for one in _list(value["mounts"])]
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
    is_offline: bool = False,
    is_wrapped: bool = False,
    root: str = "/",
    overlay: tuple[str, str] | None = None,
    points: tuple[tuple[str, bool], ...] = (),
    mounts: tuple[dict[str, object], ...] = (),
    trial: str | None = None,
) -> bytes:
    """Return a job as the fork server reads it; what the fields mean is said in `Job`. `mounts` are of `mount`."""
    value = {
        "argv": [_wire(word) for word in argv],
        "env": [(_wire(name), _wire(text)) for name, text in env],
        "workdir": _wire(workdir),
        "emulate": emulate,
        "interactive": interactive,
        "is_container": is_container,
        "pid_namespace": pid_namespace,
        "is_offline": is_offline,
        "is_wrapped": is_wrapped,
        "root": _wire(root),
        "overlay": overlay and [_wire(path) for path in overlay],
        "points": [(_wire(path), is_directory) for path, is_directory in points],
        "mounts": mounts,
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


def _overlay(value: object) -> Overlay | None:
    return None if value is None else Overlay(*map(_bytes, _list(value)))


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
