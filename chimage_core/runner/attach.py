"""Show things inside an image that has become a mount: paths of the host, with or without what is changed of them, and
directories and files in memory.

Every target is found by descriptors (see `points`), so that no link in the image leads a mount out of it.

Part of the fork server: standard library only.
"""

import errno
import os
import stat

from chimage_core.runner import syscalls
from chimage_core.runner.job import Mount, Overlay
from chimage_core.runner.points import MountPoints, locate
from chimage_core.runner.syscalls import SetupError

HOLD_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# What of a mount a user namespace may not take back when it remounts read-only: statvfs(3) flag and mount(2) flag.
_LOCKED_FLAGS = (
    (0x2, syscalls.MS_NOSUID),
    (0x4, syscalls.MS_NODEV),
    (0x8, syscalls.MS_NOEXEC),
    (0x400, syscalls.MS_NOATIME),
    (0x800, syscalls.MS_NODIRATIME),
    (0x1000, syscalls.MS_RELATIME),
)
_IN_MEMORY = syscalls.MS_NOSUID | syscalls.MS_NODEV
_ACL = "system.posix_acl_"


class Attaching:
    """Mounts things inside one root, one after the other."""

    def __init__(self, path: bytes, root: int) -> None:
        """`path` is the root's on the host, `root` a descriptor of the mount there."""
        self._path = path
        self._root = root
        self._private: set[int] = set()
        """IDs of mounts in which missing targets can just be made: nobody minds, or sees them afterwards."""

    def attach(self, mount: Mount) -> None:
        """Show one thing. Raises SetupError."""
        doing = f"can't bind {text(mount.source)} to" if mount.source is not None else "can't mount memory on"
        doing = f"{doing} {text(mount.target)}"
        fd = self._target(mount, doing)
        try:
            self._mount(mount, b"/proc/self/fd/%d" % fd)
        except OSError as error:
            raise SetupError("mount", f"{doing}: {error.strerror}") from error
        finally:
            os.close(fd)
        # Looked up again: the first descriptor is of what now lies under the mount.
        fd = self._target(mount, doing)
        try:
            if mount.source is None or mount.overlay is not None or mount.is_ours:
                self._private.add(_mount_id(fd))
            if mount.read_only:
                _make_read_only(fd)
        except OSError as error:
            raise SetupError("mount", f"{doing}: can't make it read-only: {error.strerror}") from error
        finally:
            os.close(fd)

    def _target(self, mount: Mount, doing: str) -> int:
        """Return a descriptor of the place to mount on."""
        try:
            located = locate(self._root, mount.target)
            if located.missing and _mount_id(located.fd) in self._private:
                os.close(located.fd)
                MountPoints().make(self._root, mount.target, mount.is_directory)
                located = locate(self._root, mount.target)
        except OSError as error:
            raise SetupError("mount", f"{doing}: {error.strerror}") from error
        if not located.found or located.missing:
            os.close(located.fd)
            reason = "another mount hides this path" if located.missing else "the target is the root of the image"
            raise SetupError("mount", f"{doing}: {reason}")
        return located.fd

    def _mount(self, mount: Mount, here: bytes) -> None:
        if mount.content is not None:
            self._show_file(mount, mount.content, here)
        elif mount.source is None:
            options = b"mode=%o" % mount.mode + (b",size=%d" % mount.size if mount.size else b"")
            syscalls.mount(b"tmpfs", here, b"tmpfs", _IN_MEMORY, options)
        elif mount.overlay is not None:
            copy_attributes(mount.source, mount.overlay.upper)
            mount_layers(here, [mount.source], mount.overlay)
        else:
            bind(mount.source, here)

    def _show_file(self, mount: Mount, content: bytes, here: bytes) -> None:
        """Bind a file of a file system in memory that is reachable for a moment only: over the root, by its name on the
        host, which nobody looks up any more."""
        syscalls.mount(b"tmpfs", self._path, b"tmpfs", _IN_MEMORY | syscalls.MS_NOEXEC, b"mode=700")
        store = os.open(self._path, HOLD_DIRECTORY)
        try:
            fd = os.open(b"file", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=store)
            with open(fd, "wb") as file:
                file.write(content)
                os.fchmod(fd, mount.mode)
            bind(b"/proc/self/fd/%d/file" % store, here)
        finally:
            syscalls.unmount(b"/proc/self/fd/%d" % store)
            os.close(store)


def bind(source: bytes, target: bytes) -> None:
    """Bind-mount `source` on `target`. Raises OSError.

    With all mounts below: to show a directory without what covers parts of it needs privilege.
    """
    syscalls.mount(source, target, None, syscalls.MS_BIND | syscalls.MS_REC)


def mount_layers(target: bytes, layers: list[bytes], overlay: Overlay) -> None:
    """Mount an overlay of `layers`, the uppermost first, on `target`; changes go to `overlay`. Raises OSError.

    Directories are named by descriptor, because names may hold what separates mount options.
    """
    _forget_last_use(overlay.work)
    held = [os.open(path, HOLD_DIRECTORY) for path in (*layers, overlay.upper, overlay.work)]
    names = [b"/proc/self/fd/%d" % fd for fd in held]
    # `userxattr`: the trusted.* attributes that overlays normally use need real privilege.
    # `index=off`: or else hard links would leave extra entries in the work directory and wrong link counts.
    options = b"lowerdir=%s,upperdir=%s,workdir=%s,userxattr,index=off" % (b":".join(names[:-2]), *names[-2:])
    try:
        # `volatile`: unmounting would otherwise wait until the whole file system of `upper` is on disk.
        syscalls.mount(b"overlay", target, b"overlay", 0, options + b",volatile")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        syscalls.mount(b"overlay", target, b"overlay", 0, options)
    finally:
        for fd in held:
            os.close(fd)


def _forget_last_use(work: bytes) -> None:
    """Let the directories of a `volatile` overlay be mounted again.

    The kernel leaves a mark that forbids it, because after a crash of the machine they may be incomplete. We have seen
    none: all commands of one overlay run in one go.
    """
    mark = os.path.join(work, b"work/incompat/volatile")
    if os.path.isdir(mark):
        for name in os.listdir(mark):
            os.unlink(os.path.join(mark, name))
        os.rmdir(mark)


def copy_attributes(source: bytes, target: bytes) -> None:
    """Give a directory the mode, times and extended attributes of another: an overlay shows the upper one's."""
    status = os.stat(source)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    copy_named(source, target, are_acls=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_named(source: bytes, target: bytes, *, are_acls: bool) -> None:
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


def text(path: bytes) -> str:
    """Return a path for messages."""
    return path.decode("utf-8", "surrogateescape")


def _mount_id(fd: int) -> int:
    """Return which mount a descriptor is in: proc(5), fdinfo."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if name == b"mnt_id":
                return int(value)
    raise OSError(errno.ENODATA, "no mount ID in /proc")


def _make_read_only(fd: int) -> None:
    try:
        syscalls.make_all_read_only(fd)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        kept = os.statvfs(fd).f_flag
        flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
        for seen, flag in _LOCKED_FLAGS:
            flags |= flag if kept & seen else 0
        syscalls.mount(None, b"/proc/self/fd/%d" % fd, None, flags)
