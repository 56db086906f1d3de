"""Connections whose waiting can be ended from outside: a user who gives up does not wait for a server's time limit.

A signal alone does not do it: Python goes on waiting after a handler has returned (PEP 475). So each socket is noted
when it is connected, and shutting it down ends whatever waits on it.
"""

import contextlib
import socket
import weakref
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool


class Adapter(requests.adapters.HTTPAdapter):
    """What sends requests and keeps connections."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._pools = _pools(self._sockets)
        super().__init__()

    def interrupt(self) -> None:
        """End all waiting for data, by an error where it is waited."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See the base class."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """See the base class."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(sockets: weakref.WeakSet[socket.socket]) -> dict[str, Any]:
    """Return classes of connections that note their sockets."""

    class Connection(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class TlsConnection(urllib3.connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = Connection

    class TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": Pool, "https": TlsPool}
