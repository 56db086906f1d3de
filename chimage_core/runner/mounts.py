"""Turn a directory into the root of a process, without privilege.

The order matters: first a user namespace, which gives every capability over the namespaces made after it; then its ID
maps; then a mount namespace; then the mounts, whose sources are still visible under the old root; then the change of
root. Old kernels and containers that hide parts of /proc refuse a new /proc; the caller then tries again without a PID
namespace.

Part of the fork server: standard library only.
Sources: user_namespaces(7), mount_namespaces(7), pivot_root(2), Documentation/filesystems/overlayfs.rst.
"""

import errno
import os
import stat

from chimage_core.runner import syscalls
from chimage_core.runner.job import Job, Mount
from chimage_core.runner.points import MountPoints, locate
from chimage_core.runner.syscalls import SetupError

_HOLD_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# What of a mount a user namespace may not take back when it remounts read-only: statvfs(3) flag and mount(2) flag.
_LOCKED_FLAGS = (
    (0x2, syscalls.MS_NOSUID),
    (0x4, syscalls.MS_NODEV),
    (0x8, syscalls.MS_NOEXEC),
    (0x400, syscalls.MS_NOATIME),
    (0x800, syscalls.MS_NODIRATIME),
    (0x1000, syscalls.MS_RELATIME),
)


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
            _copy_named(job.root, job.overlay.upper, are_acls=True)
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
            _copy_attributes(job.root, job.overlay.upper)
            for name in (_POINTS, _WORK):
                # They are there if the same was tried before, with a PID namespace.
                os.makedirs(os.path.join(job.overlay.work, name), 0o755, exist_ok=True)
            _forget_last_use(job.overlay.work)
            beside = _open_directory(os.path.join(job.overlay.work, _POINTS), "overlay", "open")
        for path, is_directory in job.points:
            try:
                made.make(root, path, is_directory, beside)
            except OSError as error:
                raise SetupError("mount", f"can't make mount point {_text(path)}: {error.strerror}") from error
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
        _bind(job.root, job.root, job.root)
    root = _open_directory(job.root, "root", "open image")
    try:
        for mount in job.mounts:
            _attach(root, mount)
        os.fchdir(root)
        syscalls.move_root_here()
    except OSError as error:
        raise SetupError("root", f"can't change root to {_text(job.root)}: {error.strerror}") from error
    finally:
        os.close(root)


_ACL = "system.posix_acl_"
_POINTS = b"points"
_WORK = b"work"


def mount_overlay(root: bytes, upper: bytes, work: bytes) -> None:
    """Mount an overlay over `root` itself: changes go to `upper`. `prepare` has been called. Raises SetupError.

    Directories are named by descriptor, because names may hold what separates mount options.
    """
    try:
        points = os.path.join(work, _POINTS)
        layers = [root, points] if os.listdir(points) else [root]
        held = [os.open(path, _HOLD_DIRECTORY) for path in (*layers, upper, os.path.join(work, _WORK))]
        names = [b"/proc/self/fd/%d" % fd for fd in held]
        # `userxattr`: the trusted.* attributes that overlays normally use need real privilege.
        # `index=off`: or else hard links would leave extra entries in the work directory and wrong link counts.
        options = b"lowerdir=%s,upperdir=%s,workdir=%s,userxattr,index=off" % (b":".join(names[:-2]), *names[-2:])
        try:
            # `volatile`: unmounting would otherwise wait until the whole file system of `upper` is on disk.
            syscalls.mount(b"overlay", root, b"overlay", 0, options + b",volatile")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            syscalls.mount(b"overlay", root, b"overlay", 0, options)
        for fd in held:
            os.close(fd)
    except OSError as error:
        message = f"can't mount overlay on {_text(root)}, with changes in {_text(upper)}: {error.strerror}"
        raise SetupError("overlay", message) from error


def _forget_last_use(work: bytes) -> None:
    """Let the directories of a `volatile` overlay be mounted again.

    The kernel leaves a mark that forbids it, because after a crash of the machine they may be incomplete. We have seen
    none: all commands of one overlay run in one go.
    """
    mark = os.path.join(work, _WORK, b"work/incompat/volatile")
    if os.path.isdir(mark):
        for name in os.listdir(mark):
            os.unlink(os.path.join(mark, name))
        os.rmdir(mark)


def _attach(root: int, mount: Mount) -> None:
    """Show a path of the host, or an empty directory, inside the image."""
    doing = f"can't bind {_text(mount.source)} to {_text(mount.target)}"
    fd = _locate(root, mount.target, doing)
    try:
        here = b"/proc/self/fd/%d" % fd
        if mount.source:
            _bind(mount.source, here, mount.target)
        else:
            _mount_empty(here, mount.target)
    finally:
        os.close(fd)
    if mount.read_only:
        _make_read_only(root, mount, doing)


def _locate(root: int, target: bytes, doing: str) -> int:
    try:
        located = locate(root, target)
    except OSError as error:
        raise SetupError("mount", f"{doing}: {error.strerror}") from error
    if not located.found or located.missing:
        os.close(located.fd)
        reason = "another mount hides this path" if located.missing else "the target is the root of the image"
        raise SetupError("mount", f"{doing}: {reason}")
    return located.fd


def _make_read_only(root: int, mount: Mount, doing: str) -> None:
    # Looked up again: the first descriptor is of what now lies under the mount.
    fd = _locate(root, mount.target, doing)
    try:
        here = b"/proc/self/fd/%d" % fd
        kept = os.statvfs(fd).f_flag
        flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
        for seen, flag in _LOCKED_FLAGS:
            flags |= flag if kept & seen else 0
        syscalls.mount(None, here, None, flags)
    except OSError as error:
        raise SetupError("mount", f"{doing}: can't make it read-only: {error.strerror}") from error
    finally:
        os.close(fd)


def _bind(source: bytes, place: bytes, target: bytes) -> None:
    """Bind-mount `source` on `place`, which the user knows as `target`.

    With all mounts below: to show a directory without what covers parts of it needs privilege.
    """
    try:
        syscalls.mount(source, place, None, syscalls.MS_BIND | syscalls.MS_REC)
    except OSError as error:
        message = f"can't bind {_text(source)} to {_text(target)}: {error.strerror}"
        raise SetupError("mount", message) from error


def _mount_empty(place: bytes, target: bytes) -> None:
    try:
        syscalls.mount(b"tmpfs", place, b"tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, b"mode=1777")
    except OSError as error:
        raise SetupError("mount", f"can't mount a tmpfs on {_text(target)}: {error.strerror}") from error


def _copy_attributes(source: bytes, target: bytes) -> None:
    """Give a directory the mode, times and extended attributes of another: an overlay shows the upper one's."""
    status = os.stat(source)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    _copy_named(source, target, are_acls=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_named(source: bytes, target: bytes, *, are_acls: bool) -> None:
    """Copy the ACLs of a directory, or all its other extended attributes, as far as we may."""
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return
    for name in names:
        if name.startswith(_ACL) is are_acls:
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA):
                    raise


def _cannot_prepare(error: OSError) -> SetupError:
    return SetupError("overlay", f"can't prepare overlay: {error.strerror}: {_name_of(error)}")


def _open_directory(path: bytes, kind: str, doing: str) -> int:
    try:
        return os.open(path, _HOLD_DIRECTORY)
    except OSError as error:
        raise SetupError(kind, f"can't {doing}: {_text(path)}: {error.strerror}") from error


def _write(path: str, text: str) -> None:
    # One write(2): the kernel takes a map only whole.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _name_of(error: OSError) -> str:
    name = error.filename
    return _text(name) if isinstance(name, bytes) else str(name)
