"""System calls that Python does not offer, through the C library.

Part of the fork server: standard library only. Everything is looked up when this module is imported, because nothing
can be loaded any more once the process has moved into an image.
"""

import ctypes
import os
import signal

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_MNT_DETACH = 0x2
_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SET_MODE_FILTER = 1
_ALLOW_SPECULATION = 4
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_SETATTR = 442
"""Has the same number everywhere but on Alpha."""

_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = _libc.umount2
_umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_pivot_root = _libc.pivot_root
_pivot_root.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_unshare = _libc.unshare
_unshare.argtypes = (ctypes.c_int,)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
_syscall = _libc.syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long)
_syscall.restype = ctypes.c_long
# Another object for the same function: the types of its arguments are others.
_mount_setattr = ctypes.CDLL(None, use_errno=True).syscall
_mount_setattr.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.c_void_p,
    ctypes.c_size_t,
)
_mount_setattr.restype = ctypes.c_long


class _MountAttributes(ctypes.Structure):
    """struct mount_attr, include/uapi/linux/mount.h."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


class SetupError(Exception):
    """A container that cannot be set up. `kind` is one word for the client to find a hint by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class _Filter(ctypes.Structure):
    """struct sock_fprog, include/uapi/linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def fork() -> int:
    """fork(2). Raises SetupError, as when the user has too many processes."""
    try:
        return os.fork()
    except OSError as error:
        raise SetupError("process", f"can't start a process: {error.strerror}") from error


def forget_environment() -> None:
    """Wipe the environment this process was started with.

    Descendants inside an image share it, and the image's commands could read the host's secrets in /proc/1/environ.
    """
    with open("/proc/self/stat", "rb") as file:
        # Fields 50 and 51 of proc(5), start and end; the second field, in parentheses, may hold anything.
        start, end = (int(field) for field in file.read().rpartition(b")")[2].split()[47:49])
    ctypes.memset(start, 0, end - start)


def unshare(flags: int) -> None:
    """Move into new namespaces. Raises OSError."""
    _check(_unshare(flags))


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    """mount(2). Raises OSError."""
    _check(_mount(source, target, kind, flags, options))


def make_all_read_only(fd: int) -> None:
    """Make the mount that a descriptor (perhaps O_PATH) is the root of read-only, and all mounts below it.

    Raises OSError: ENOSYS before Linux 5.12.
    """
    attributes = _MountAttributes(set=_MOUNT_ATTR_RDONLY)
    size, flags = ctypes.sizeof(attributes), _AT_EMPTY_PATH | _AT_RECURSIVE
    _check(_mount_setattr(_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attributes), size))


def unmount(path: bytes) -> None:
    """Take the mount at `path` out of the tree; what is in use of it stays usable. Raises OSError."""
    _check(_umount2(path, _MNT_DETACH))


def move_root_here() -> None:
    """Make the current directory, which must be a mount, the root; nothing of the old one stays visible.

    Both arguments of pivot_root(2) may be the same directory: the old root then lies on top of the new one and is
    detached. Raises OSError.
    """
    _check(_pivot_root(b".", b"."))
    _check(_umount2(b".", _MNT_DETACH))
    os.chdir("/")


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent process ends. To be called after any change of credentials, which undoes it."""
    _check(_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, None, 0, 0))


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent has ended."""
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1, None, 0, 0))


def forbid_new_privileges() -> None:
    """Make setuid programs and file capabilities ineffective for this process and its descendants."""
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, None, 0, 0))


def set_filter(program: bytes, seccomp_number: int) -> None:
    """Install a seccomp filter, an array of struct sock_filter. `seccomp_number` is the one of seccomp(2).

    Raises OSError.
    """
    description = _Filter(len(program) // 8, program)
    address = ctypes.addressof(description)
    # Before Linux 5.16, a filter otherwise turns on a costly protection against speculation (Spectre variant 4).
    if _syscall(seccomp_number, _SET_MODE_FILTER, _ALLOW_SPECULATION, address, 0) != 0:
        # Linux before 4.17 does not know the flag.
        _check(_prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0))


def succeeds(number: int) -> bool:
    """Return whether the system call with all arguments zero returns 0."""
    return int(_syscall(number, 0, 0, 0, 0)) == 0


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
