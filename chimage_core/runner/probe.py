"""What this kernel and a file system allow a container to do, found out by trying.

To guess from version numbers would be wrong in both directions: distributions backport, and administrators forbid.
"""

import errno
import os
import stat
from dataclasses import asdict, dataclass, fields

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError
from chimage_core.fs.remove import remove_tree
from chimage_core.runner import job
from chimage_core.runner.forkserver import ForkServer, JobError

_FORBIDDING = (
    ("kernel.unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("user.max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or add an AppArmor profile with `userns,` for Python",
    ),
)
"""Settings that forbid user namespaces: name, the forbidding value, what an administrator can do."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What worked when it was tried. The answer holds for one `key`."""

    namespaces: bool
    """We can make containers ourselves."""
    pid_namespace: bool
    """They can have a /proc, and so processes, of their own."""
    seccomp: bool
    """System calls can be filtered."""
    overlay: bool
    """The file system can hold the changes of an overlay."""
    problem: str
    """Why not `namespaces`; else empty."""

    def to_json(self) -> dict[str, object]:
        """Return the value as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "Abilities | None":
        """Return what `to_json` made, or None if `value` is anything else, say of another version: then probe again."""
        if not isinstance(value, dict) or set(value) != {field.name for field in fields(cls)}:
            return None
        if any(type(value[field.name]) is not field.type for field in fields(cls)):
            return None
        return cls(**value)


def key(directory: str) -> str:
    """Return what the answers depend on: kernel, user, and the file system that holds `directory` (which exists).

    Raises OSError.
    """
    device = os.stat(directory).st_dev
    return f"{os.uname().release} uid={os.geteuid()} dev={device:#x} fs={_file_system(device)}"


def probe(server: ForkServer, directory: str) -> Abilities:
    """Try everything. `directory` exists, and is on the file system where overlays would be."""
    seccomp = _works(server, job.encode(trial="seccomp", is_container=False))
    try:
        found = server.run(job.encode(trial="namespaces"), CancelToken())
    except JobError as refused:
        return Abilities(False, False, seccomp, False, refused.message)
    return Abilities(True, found.pid_namespace, seccomp, can_overlay(server, directory), "")


def can_overlay(server: ForkServer, directory: str) -> bool:
    """Return whether an overlay works whose directories are in `directory`, and records changes as we read them."""
    import tempfile

    try:
        place = tempfile.mkdtemp(prefix="overlay-", dir=directory)
    except OSError:
        return False
    try:
        lower, upper, work = (os.path.join(place, name) for name in ("lower", "upper", "work"))
        for path in (lower, upper, work, f"{lower}/replaced"):
            os.mkdir(path)
        for path in (f"{lower}/deleted", f"{lower}/replaced/file", f"{lower}/changed"):
            with open(path, "xb"):
                pass
        trial = job.encode(trial="overlay", pid_namespace=False, root=lower, overlay=(upper, work))
        return _works(server, trial) and _has_marks(upper)
    except OSError:
        return False
    finally:
        try:
            remove_tree(place)
        except FileError:
            # A file system so strange is no place for an overlay either, and a stray directory does no harm.
            pass


def advice() -> str:
    """Return what the user or an administrator can do about refused namespaces."""
    for name, forbidding, remedy in _FORBIDDING:
        if _setting(name) == forbidding:
            return f"{name} is {forbidding}; ask your administrator: {remedy}"
    if os.geteuid() == 0:
        return "root without CAP_SYS_ADMIN or CAP_SETFCAP, as in some containers? run as an ordinary user"
    return "user namespaces may be forbidden by a container, a security module or the kernel's configuration"


def _works(server: ForkServer, trial: bytes) -> bool:
    try:
        server.run(trial, CancelToken())
    except JobError:
        return False
    return True


def _has_marks(upper: str) -> bool:
    whiteout = os.lstat(f"{upper}/deleted")
    return (
        stat.S_ISCHR(whiteout.st_mode)
        and whiteout.st_rdev == 0
        and os.getxattr(f"{upper}/replaced", "user.overlay.opaque") == b"y"
        and os.stat(f"{upper}/changed").st_size > 0
    )


def _setting(name: str) -> str | None:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
            return None
        raise


def _file_system(device: int) -> str:
    """Return the type of a mounted file system: proc(5), mountinfo."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields_ = line.split()
            if fields_[2] == wanted:
                return fields_[fields_.index("-") + 1]
    return "unknown"
