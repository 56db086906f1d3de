"""A network without anybody in it but the command itself.

Part of the fork server: standard library only.
Source: network_namespaces(7), netdevice(7).
"""

import fcntl
import socket
import sys

from chimage_core.runner import syscalls
from chimage_core.runner.syscalls import SetupError

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_LOOPBACK = b"lo"


def enter_network_namespace() -> None:
    """Get a network namespace of our own, whose only device, the loopback, works. Raises SetupError."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            # struct ifreq: name, flags, and room for other uses.
            request = _LOOPBACK.ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder) + bytes(22)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
    except OSError as error:
        raise SetupError("network", f"can't make a network namespace: {error.strerror}") from error
