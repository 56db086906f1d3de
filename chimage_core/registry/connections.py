"""Connections whose waiting can be ended from outside: a user who gives up does not wait for a server's time limit.

A signal alone does not do it: Python goes on waiting after a handler has returned (PEP 475). So each socket is noted
when it is connected, and shutting it down ends whatever waits on it.
"""

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool

from chimage_core.errors import DependencyMissing


class Adapter(requests.adapters.HTTPAdapter):
    """What sends requests and keeps connections."""

    def __init__(
        self,
        make_context: Callable[[], ssl.SSLContext],
        *,
        may_trust_more: bool,
        answer_time: Callable[[str], float],
    ) -> None:
        """`make_context` gives what TLS connections are made by; it is asked once, and not for plain ones.
        `may_trust_more`: the user has not named whom to trust. `answer_time`: seconds until headers have to be
        there, by method.
        """
        if not hasattr(requests.adapters.HTTPAdapter, "build_connection_pool_key_attributes"):
            # Our context would not be used, and nothing checked at all.
            raise DependencyMissing(
                f"requests is too old: {requests.__version__}", hint="install requests 2.32.3 or newer"
            )
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._pools = _pools(self._sockets, answer_time)
        self._make_context = make_context
        self._may_trust_more = may_trust_more
        self._context: ssl.SSLContext | None = None
        super().__init__()

    def trust_more(self) -> bool:
        """Trust what the library does, too; return False if that is so already, or the user has named whom to trust."""
        if self._context is None or not self._may_trust_more:
            return False
        from chimage_core.registry.tls import trust_library

        self._may_trust_more = False
        trust_library(self._context)
        return True

    def interrupt(self) -> None:
        """End all waiting for data, by an error where it is waited."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """See the base class. One context serves all connections: to make one is to read all certificates."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            if self._context is None:
                self._context = self._make_context()
            pool["ssl_context"] = self._context
        return host, pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: what the base class would add is in our context."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See the base class."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """See the base class."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(sockets: weakref.WeakSet[socket.socket], answer_time: Callable[[str], float]) -> dict[str, Any]:
    """Return classes of connections that note their sockets, and that do not wait for ever."""

    class Connection(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

        def putrequest(self, method: str, *args: Any, **kwargs: Any) -> None:
            self._seconds = answer_time(method)
            super().putrequest(method, *args, **kwargs)

        def getresponse(self) -> Any:
            with _in_time(self.sock, self._seconds):
                return super().getresponse()

    class TlsConnection(urllib3.connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

        def putrequest(self, method: str, *args: Any, **kwargs: Any) -> None:
            self._seconds = answer_time(method)
            super().putrequest(method, *args, **kwargs)

        def getresponse(self) -> Any:
            with _in_time(self.sock, self._seconds):
                return super().getresponse()

    class Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = Connection

    class TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": Pool, "https": TlsPool}


@contextlib.contextmanager
def _in_time(connected: socket.socket | None, seconds: float) -> Iterator[None]:
    """End the waiting for an answer that comes byte by byte, each within the time limit of the socket."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            if connected is not None:
                connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if is_late.is_set():  # To the library, the connection's end is the end of the headers.
        raise TimeoutError("the answer comes too slowly")
