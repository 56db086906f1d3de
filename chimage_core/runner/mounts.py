"""Turn a directory into the root of a process, without privilege.

The order matters: first a user namespace, which gives every capability over the namespaces made after it; then its ID
maps; then a mount namespace; then the mounts, whose sources are still visible under the old root; then the change of
root. Old kernels and containers that hide parts of /proc refuse a new /proc; the caller then tries again without a PID
namespace.

Part of the fork server: standard library only.
Sources: user_namespaces(7), mount_namespaces(7), pivot_root(2), Documentation/filesystems/overlayfs.rst.
"""

import os

from chimage_core.runner import syscalls
from chimage_core.runner.attach import (
    HOLD_DIRECTORY,
    Attaching,
    bind,
    copy_attributes,
    copy_named,
    mount_layers,
    text,
)
from chimage_core.runner.job import Job, Overlay
from chimage_core.runner.points import MountPoints
from chimage_core.runner.syscalls import SetupError


def enter_user_namespace(pid_namespace: bool) -> None:
    """Become root of a new user namespace whose only user and group are ours.

    With `pid_namespace`, the next child is process 1 of a new PID namespace. Raises SetupError.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | (syscalls.CLONE_NEWPID if pid_namespace else 0))
        # Without CAP_SETGID outside, a group map is accepted only once setgroups(2) is off: user_namespaces(7).
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    except OSError as error:
        raise SetupError("namespaces", f"can't make a user namespace: {error.strerror}") from error


def enter_mount_namespace() -> None:
    """Get a private copy of the mount tree. Raises SetupError."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # Slave and not private: what an automounter mounts on the host must still appear here.
        syscalls.mount(None, b"/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    except OSError as error:
        raise SetupError("namespaces", f"can't make a mount namespace: {error.strerror}") from error


def mount_new_proc() -> None:
    """Mount a /proc for the PID namespace over the host's. Raises SetupError of kind `proc` if that is refused."""
    try:
        syscalls.mount(b"proc", b"/proc", b"proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    except OSError as error:
        raise SetupError("proc", f"can't mount a new /proc: {error.strerror}") from error


def prepare_outside(job: Job) -> None:
    """Give an overlay's upper directory the ACLs of the root it stands for. Raises SetupError.

    That is for before the user namespace is entered, where most users whom they name are unknown.
    """
    if job.overlay is not None:
        try:
            copy_named(job.root, job.overlay.upper, are_acls=True)
        except OSError as error:
            raise _cannot_prepare(error) from error


def prepare(job: Job, made: MountPoints) -> None:
    """Make missing mount points, and give an overlay's upper directory the attributes of the root it stands for.

    Raises SetupError. What was made is recorded in `made`, also then.
    """
    root = _open_directory(job.root, "root", "open image")
    beside = None
    try:
        if job.overlay is not None:
            copy_attributes(job.root, job.overlay.upper)
            for name in (_POINTS, _WORK):
                # They are there if the same was tried before, with a PID namespace.
                os.makedirs(os.path.join(job.overlay.work, name), 0o755, exist_ok=True)
            beside = _open_directory(os.path.join(job.overlay.work, _POINTS), "overlay", "open")
        for path, is_directory in job.points:
            try:
                made.make(root, path, is_directory, beside)
            except OSError as error:
                raise SetupError("mount", f"can't make mount point {text(path)}: {error.strerror}") from error
    except OSError as error:
        raise _cannot_prepare(error) from error
    finally:
        for fd in (root, beside):
            if fd is not None:
                os.close(fd)


def change_root(job: Job) -> None:
    """Mount the image and what belongs into it, and make it the root and the current directory. Raises SetupError."""
    if job.overlay is not None:
        mount_overlay(job.root, job.overlay.upper, job.overlay.work)
    else:
        _bind_itself(job.root)
    root = _open_directory(job.root, "root", "open image")
    try:
        attaching = Attaching(job.root, root)
        for mount in job.mounts:
            attaching.attach(mount)
        os.fchdir(root)
        syscalls.move_root_here()
    except OSError as error:
        raise SetupError("root", f"can't change root to {text(job.root)}: {error.strerror}") from error
    finally:
        os.close(root)


_POINTS = b"points"
_WORK = b"work"


def mount_overlay(root: bytes, upper: bytes, work: bytes) -> None:
    """Mount an overlay over `root` itself: changes go to `upper`. `prepare` has been called. Raises SetupError."""
    try:
        points = os.path.join(work, _POINTS)
        layers = [root, points] if os.listdir(points) else [root]
        mount_layers(root, layers, Overlay(upper, os.path.join(work, _WORK)))
    except OSError as error:
        message = f"can't mount overlay on {text(root)}, with changes in {text(upper)}: {error.strerror}"
        raise SetupError("overlay", message) from error


def _bind_itself(root: bytes) -> None:
    try:
        bind(root, root)
    except OSError as error:
        raise SetupError("mount", f"can't bind {text(root)} to itself: {error.strerror}") from error


def _cannot_prepare(error: OSError) -> SetupError:
    return SetupError("overlay", f"can't prepare overlay: {error.strerror}: {_name_of(error)}")


def _open_directory(path: bytes, kind: str, doing: str) -> int:
    try:
        return os.open(path, HOLD_DIRECTORY)
    except OSError as error:
        raise SetupError(kind, f"can't {doing}: {text(path)}: {error.strerror}") from error


def _write(path: str, text: str) -> None:
    # One write(2): the kernel takes a map only whole.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _name_of(error: OSError) -> str:
    name = error.filename
    return text(name) if isinstance(name, bytes) else str(name)
