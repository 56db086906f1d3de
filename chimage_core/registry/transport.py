"""HTTP for whoever fetches something: time limits, repetition, redirects, proxies, certificates.

What the environment says of proxies and certificates comes in as values: the library would read it behind our back, and
`$REQUESTS_CA_BUNDLE` would then defeat `--tls-no-verify`. Redirects are followed here, because credentials are for one
server only, and because a redirect from https to http would undo what https is for.
Sources: RFC 9110 (HTTP), 7.6, 10.2.3 (Retry-After), 15.4 (redirects).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from chimage_core.cancel import CancelToken
from chimage_core.errors import RegistryError, RegistryProtocol, RegistryUnreachable
from chimage_core.registry.proxies import proxy_of
from chimage_core.registry.urls import Address

if TYPE_CHECKING:
    import requests

    from chimage_core.registry.connections import Adapter

_ATTEMPTS = 4
_FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long."""
_LONGEST_PAUSE = 60.0
"""Seconds that a server may make us wait."""
_MOST_REDIRECTS = 10
PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Status codes that may be gone soon."""
_STORING = frozenset({"PUT", "PATCH"})
"""Methods whose answer comes when all has been stored."""
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Body(Protocol):
    """What is sent with a request: pieces that are given anew for each attempt."""

    def __len__(self) -> int:
        """Return the number of bytes; more than 0."""

    def __iter__(self) -> Iterator[bytes]:
        """Give them."""


class Network(NamedTuple):
    """How this machine reaches others."""

    proxies: Mapping[str, str]
    """Variables of the environment: `https_proxy`, `no_proxy`, …"""
    ca_bundle: str | None
    """File or directory of certificates to trust instead of the usual ones; None: those."""
    verify: bool
    """Check certificates at all."""


class Patience(NamedTuple):
    """How long servers may take. Times in seconds."""

    connect: float = 20.0
    silence: float = 60.0
    """Without any sign of life."""
    headers: float = 60.0
    """Until status and headers of an answer are there, however often a few bytes of them come."""
    document: float = 120.0
    """Until a whole document is there."""
    storing: float = 900.0
    """Until a server has stored what it got: it may have to read or copy all of it."""
    drip: tuple[int, float] = (16 << 10, 60.0)
    """Bytes, and how long to wait for so many: who sends less is as good as dead."""

    def until_answer(self, method: str, usual: float) -> float:
        """Return for how long to wait for the answer to a request."""
        return self.storing if method in _STORING else usual


class Broken(Exception):
    """The connection broke while a body was read. What has come so far is good."""


class NoTls(RegistryError):
    """What answers there does not speak TLS."""

    code = "registry.no-tls"


class Response:
    """An answer whose body is still to be read."""

    def __init__(self, response: "requests.Response", url: str, cancel: CancelToken, patience: Patience) -> None:
        self.status: int = response.status_code
        self.reason: str = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        """Names in any case."""
        self.url = url
        """Where it came from in the end, without credentials."""
        self._raw: Any = response.raw
        self._read_some: Callable[..., bytes] = getattr(self._raw, "read1", self._raw.read)
        """What has come, without waiting for more (since urllib3 2.1)."""
        self._cancel = cancel
        self._patience = patience
        self._waited = 0.0
        """Seconds for the last `_came` bytes."""
        self._came = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes as they were sent, none at the end. Raises Broken, Cancelled."""
        import urllib3

        self._cancel.check()
        began = time.monotonic()
        try:
            data = self._read_some(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: closed by a cancel.
            self._cancel.check()
            raise Broken(str(error)) from error
        self._cancel.check()
        self._refuse_dripping(len(data), time.monotonic() - began)
        return data

    def document(self, limit: int) -> bytes:
        """Return the whole body. Raises RegistryProtocol if it has more than `limit` bytes, Broken, Cancelled."""
        pieces, size, began = [], 0, time.monotonic()
        while data := self.read(1 << 16):
            pieces.append(data)
            size += len(data)
            if size > limit:
                raise RegistryProtocol(f"more than {limit} bytes came, which is no honest answer: {self.url}")
            if time.monotonic() - began > self._patience.document:
                raise Broken("it comes too slowly")
        return b"".join(pieces)

    def _refuse_dripping(self, size: int, waited: float) -> None:
        """Raise Broken for a server that sends a byte now and then, so that no time limit is ever reached."""
        self._waited += waited
        self._came += size
        wanted, seconds = self._patience.drip
        if self._came >= wanted:
            self._waited, self._came = 0.0, 0
        elif size and self._waited > seconds:
            raise Broken(f"only {self._came} bytes in {self._waited:.0f} seconds")


class Transport:
    """Sends requests. Opens its connections at the first one; a context manager that closes them."""

    def __init__(
        self,
        network: Network,
        *,
        cancel: CancelToken,
        pause: Callable[[float], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`pause` waits for some seconds; it and other `patience` are for tests."""
        self._network = network
        self._cancel = cancel
        self._pause = pause or self._wait
        self._patience = patience or Patience()
        self._adapter: Adapter | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        if self._adapter is not None:
            self._adapter.close()
            self._adapter = None

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | Body | None = None,
        may_downgrade: bool = False,
        repeats: bool = True,
    ) -> Iterator[Response]:
        """Send a request, again (if it `repeats`) if what failed may be passing, and give the answer of any status.

        Redirects are followed, but not with a `body`; from https to http only with `may_downgrade`. Raises
        RegistryUnreachable, RegistryError, Cancelled, and what `body` raises.
        """
        self._cancel.check()
        attempts = _ATTEMPTS if repeats else 1
        with self._cancel.on_cancel(self._opened().interrupt):
            response, url = self._redirected(_Request(method, address, headers or {}, body, attempts), may_downgrade)
            with contextlib.closing(response):
                yield Response(response, url, self._cancel, self._patience)

    def interrupt(self) -> None:
        """End all requests under way, by an error where they are waited for."""
        self._opened().interrupt()

    def pause_before(self, attempt: int, response: Response | None = None) -> None:
        """Wait before attempt 1, 2, …, as long as the server asks for, if it does. Raises Cancelled."""
        asked = None if response is None else _retry_after(response.headers)
        seconds = _FIRST_PAUSE * 2 ** (attempt - 1) if asked is None else asked
        self._cancel.check()
        self._pause(min(seconds, _LONGEST_PAUSE))
        self._cancel.check()

    def _redirected(self, request: "_Request", may_downgrade: bool) -> "tuple[requests.Response, str]":
        first = request.address
        for _ in range(_MOST_REDIRECTS + 1):
            response, here = self._repeated(request), request.address
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not target or request.body is not None:
                return response, here.url
            response.close()
            following = here.followed(target)
            if here.is_https and not following.is_https and not may_downgrade:
                raise RegistryError(
                    f"redirected from https to http: {here.url} to {following.url}",
                    hint="nobody could tell whether what comes is genuine; give its checksum",
                )
            headers = request.headers
            if not following.is_server_of(here):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            request = request._replace(address=following, headers=headers)
        raise RegistryError(f"more than {_MOST_REDIRECTS} redirects: {first.url}")

    def _repeated(self, request: "_Request") -> "requests.Response":
        """Send until there is an answer that will not change soon, or patience ends."""
        problem, address = None, request.address
        for attempt in range(request.attempts):
            last = attempt == request.attempts - 1
            answer = None
            try:
                response = self._send(request)
            except _Passing as error:
                problem = error
            else:
                if response.status_code not in PASSING or last:
                    return response
                answer = Response(response, address.url, self._cancel, self._patience)
                response.close()
            if not last:
                self.pause_before(attempt + 1, answer)
        raise RegistryUnreachable(
            f"no answer from {address.host}: {address.url}: {problem}",
            hint="look whether this machine reaches the network, and at $https_proxy and $no_proxy",
        )

    def _send(self, request: "_Request") -> "requests.Response":
        import requests

        self._cancel.check()
        address = request.address
        # Bytes as they are: a compressed file must not be inflated on the way.
        all_headers = {"Accept-Encoding": "identity", **_agent(), **address.authorization(), **request.headers}
        proxy = proxy_of(address.scheme, address.host, address.port, self._network.proxies)
        try:
            prepared = requests.Request(request.method, address.url, headers=all_headers, data=request.body).prepare()
            # Not by a session, which reads the bodies of redirects into memory, however long they are.
            return self._opened().send(
                prepared,
                stream=True,
                timeout=(self._patience.connect, self._patience.until_answer(request.method, self._patience.silence)),
                verify=self._network.verify,
                proxies={"http": proxy, "https": proxy} if proxy else {},
            )
        except requests.exceptions.SSLError as error:
            text = _innermost(error)
            if _NOT_TRUSTED in text and self._opened().trust_more():
                return self._send(request)
            raise _tls_problem(address, text) from None
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            self._cancel.check()
            raise _Passing(_innermost(error)) from None
        except (requests.exceptions.RequestException, OSError, UnicodeError) as error:
            raise RegistryError(f"can't send a request: {address.url}: {_innermost(error)}") from None

    def _opened(self) -> "Adapter":
        with self._opening:
            if self._adapter is None:
                import urllib3

                from chimage_core.registry.connections import Adapter
                from chimage_core.registry.tls import make_context

                if not self._network.verify:
                    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                network = self._network
                self._adapter = Adapter(
                    lambda: make_context(network.ca_bundle, verify=network.verify),
                    may_trust_more=network.verify and network.ca_bundle is None,
                    answer_time=lambda method: self._patience.until_answer(method, self._patience.headers),
                )
            return self._adapter

    def _wait(self, seconds: float) -> None:
        stopped = threading.Event()
        with self._cancel.on_cancel(stopped.set):
            stopped.wait(seconds)


class _Request(NamedTuple):
    """What is to be sent."""

    method: str
    address: Address
    headers: Mapping[str, str]
    body: bytes | Body | None
    attempts: int


class _Passing(Exception):
    """There was no answer, but there may be one soon."""


def _tls_problem(address: Address, text: str) -> RegistryError:
    if _NOT_TRUSTED in text or "doesn't match" in text:
        return RegistryError(
            f"certificate not accepted: {address.host}: {text}",
            hint="name the certificates of your site by --cacert or $SSL_CERT_FILE, or use --tls-no-verify",
        )
    return NoTls(
        f"no TLS connection with {address.host}, port {address.port}: {text}",
        hint="if the server speaks plain HTTP, and you know what you do, use --plain-http",
    )


def _agent() -> dict[str, str]:
    from chimage_core import __version__

    return {"User-Agent": f"chimage/{__version__}"}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks us to wait; None: it does not, or not in a way that we understand."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:6])
    if not value:
        return None
    moment = http_time(value)
    return None if moment is None else max(0.0, moment - time.time())


def http_time(text: str) -> int | None:
    """Return the time of a header, seconds since the epoch; None if it is none."""
    import email.utils

    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _innermost(error: BaseException) -> str:
    """Return what the libraries wrap in several layers of text, without addresses of objects."""
    import re

    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"^<?[\w.]+(\(.*?\)| object at 0x[0-9a-f]+>?): ", "", str(text))
