"""A file by its URL, for ADD: looked up without its content, fetched once, kept by what is known of it.

What a server tells of a file (ETag, Last-Modified, length) names its version. A file of which it tells nothing has to
be fetched to know it; a file with a promised digest needs no question at all. Downloads are kept beside those of
images, under names made of that, so that a build that breaks later need not fetch again. Source: RFC 9110, 8.8
(validators), 13 (conditions), 14 (ranges).
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from chimage_core.cancel import CancelToken
from chimage_core.errors import IntegrityError, RegistryRefused, RegistryUnreachable, StorageError, file_errors
from chimage_core.fs.atomic import temporary_name
from chimage_core.image.digest import Digest
from chimage_core.registry.transport import Broken, Response, Transport, http_time
from chimage_core.registry.urls import Address

_VALIDATORS = ("ETag", "Last-Modified", "Content-Length")
_CHUNK = 1 << 20
_OPEN = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAYBE_GET = frozenset({400, 403, 404, 405, 406, 501})
"""What servers answer to HEAD that would answer a GET: signed URLs, for one, are for one method only."""
_BREAKS = 5
"""Times in a row that a connection may break without having brought anything."""


class Downloads:
    """Files by URL, and where they are kept."""

    def __init__(self, directory: str, transport: Transport, *, always: bool, cancel: CancelToken) -> None:
        """Keep files in `directory`, which exists. With `always`, fetch also what is there already."""
        self._directory = directory
        self._transport = transport
        self._always = always
        self._cancel = cancel

    def look(self, url: str) -> Mapping[str, str]:
        """Return what tells this version of a file from others: headers by name, or else `Digest` of the content.

        Raises RegistryError, StorageError, FileError, Cancelled.
        """
        address = Address.parse(url)
        found = self._asked(address)
        if "ETag" in found or "Last-Modified" in found:
            return found
        with self._fetched(address, {}, None) as temporary:
            digest = _digest(temporary, "sha256")
            os.rename(temporary, self._kept(str(digest)))
        return {"Digest": str(digest)}

    def fetch(self, url: str, seen: Mapping[str, str] | None, checksum: str | None) -> str:
        """Return the path of a file, mode 0600, which nobody may change.

        `seen` is what `look` returned, None if `checksum` (`sha256:…`) is given instead. The file's time is what the
        server tells, and 0 if it is known by its digest: it depends on nothing but what it was looked up by. Raises
        RegistryError, IntegrityError, StorageError, FileError, Cancelled; what does not match is not kept.
        """
        address = Address.parse(url)
        seen = seen or {}
        promised = checksum or seen.get("Digest")
        expected = None if promised is None else Digest.parse(promised)
        modified = http_time(seen["Last-Modified"]) if "Last-Modified" in seen else None
        path = self._kept(promised or _version(address.url, seen))
        if self._always or not self._is_good(path, expected):
            with self._fetched(address, seen, expected) as temporary:
                os.rename(temporary, path)
        with file_errors("use downloaded file", path):
            os.utime(path, (time.time(), max(0, modified or 0)))  # Pruning goes by the last use.
        return path

    def _asked(self, address: Address) -> dict[str, str]:
        """Ask for headers only; servers that do not like the question are asked for the file, which is not read."""
        with self._transport.request("HEAD", address) as response:
            if response.status == 200:
                return _validators(response)
            if response.status not in _MAYBE_GET:
                raise refused(address, response)
        with self._transport.request("GET", address) as response:
            if response.status != 200:
                raise refused(address, response)
            return _validators(response)

    def _kept(self, name: str) -> str:
        return os.path.join(self._directory, name.replace(":", "-"))

    def _is_good(self, path: str, expected: Digest | None) -> bool:
        with file_errors("read downloaded file", path):
            if not os.path.isfile(path):
                return False
            return expected is None or _digest(path, expected.algorithm) == expected

    @contextlib.contextmanager
    def _fetched(self, address: Address, seen: Mapping[str, str], expected: Digest | None) -> Iterator[str]:
        """Fetch into a temporary file, give its path when it is whole and as promised, and remove what is left."""
        temporary = temporary_name(self._directory)
        try:
            with file_errors("write downloaded file", temporary):
                descriptor = os.open(temporary, _OPEN, 0o600)
                with open(descriptor, "wb", buffering=0) as file:
                    _Download(self._transport, address, seen, file.fileno(), is_verified=expected is not None).run()
                    os.fsync(descriptor)
            if expected is not None:
                found = _digest(temporary, expected.algorithm)
                if found != expected:
                    raise IntegrityError(
                        f"checksum of {address.url} differs: expected {expected}, found {found}",
                        hint="nothing was kept; look whether the file or the checksum is the right one",
                    )
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


class _Part(NamedTuple):
    """What an answer holds."""

    start: int
    """Offset in the file."""
    size: int | None
    """Of the whole file; None: the server does not say."""


class _Download:
    """One file on its way. Connections may break: the rest is asked for, if it is still the same version."""

    def __init__(
        self, transport: Transport, address: Address, seen: Mapping[str, str], target: int, *, is_verified: bool
    ) -> None:
        self._transport = transport
        self._address = address
        self._seen = seen
        self._target = target
        self._is_verified = is_verified
        self._done = 0
        """Bytes written."""
        self._version: str | None = None
        """What a request for the rest names, so that it brings no piece of another version."""
        status = os.fstatvfs(target)
        # File systems without a size say 0 to everything.
        self._room = status.f_bavail * status.f_frsize if status.f_blocks else 1 << 62

    def run(self) -> None:
        """Write the file. Raises RegistryError, StorageError, OSError, Cancelled."""
        breaks = 0
        while True:
            before = self._done
            problem = self._attempt()
            if problem is None:
                return
            is_progress = self._done > before and self._version is not None
            breaks = 1 if is_progress else breaks + 1
            if breaks > _BREAKS:
                raise RegistryUnreachable(
                    f"connection to {self._address.host} keeps breaking: {self._address.url}: {problem}",
                    hint=f"{self._done} bytes came; try again later",
                )
            self._transport.pause_before(breaks)

    def _attempt(self) -> str | None:
        """Fetch what is missing; return what went wrong, if it may go better next time."""
        headers = {}
        if self._done and self._version is not None:
            headers = {"Range": f"bytes={self._done}-", "If-Range": self._version}
        with self._transport.request("GET", self._address, headers, may_downgrade=self._is_verified) as response:
            if response.status == 416:  # It is shorter now.
                self._done, self._version = 0, None
                return "the file has changed meanwhile"
            if response.status not in (200, 206):
                raise refused(self._address, response)
            part = self._part(response)
            if part is None:
                self._done, self._version = 0, None
                return "the server sent another part than asked for"
            self._begin(part, response)
            try:
                self._write(response, part)
            except Broken as error:
                return str(error) or "connection closed"
            if part.size is not None and self._done < part.size:
                return f"it ended after {self._done} of {part.size} bytes"
            return None

    def _part(self, response: Response) -> _Part | None:
        length = response.headers.get("Content-Length", "")
        if response.status == 200:
            return _Part(0, int(length) if length.isascii() and length.isdecimal() else None)
        match = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", response.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != self._done:
            return None
        return _Part(self._done, None if match[2] == "*" else int(match[2]))

    def _begin(self, part: _Part, response: Response) -> None:
        found = _validators(response)
        if part.start == 0:
            self._check_version(found)
            os.ftruncate(self._target, 0)
            self._done = 0
            self._version = _strong(found)
        if part.size is not None and part.size > self._room:
            raise self._too_large(part.size)
        os.lseek(self._target, part.start, os.SEEK_SET)

    def _check_version(self, found: Mapping[str, str]) -> None:
        """Refuse another version than the one that was looked up: it would be cached as that one."""
        seen = self._seen
        if "ETag" not in seen and "Last-Modified" not in seen:
            return
        # Servers that stand for one another often differ in the ETag alone.
        same_time = all(seen.get(name) == found.get(name) for name in ("Last-Modified", "Content-Length"))
        if seen.get("ETag") != found.get("ETag") and not ("Last-Modified" in seen and same_time):
            raise RegistryRefused(
                f"changed while it was fetched: {self._address.url}",
                hint="build again; if it is always so, give the checksum: --checksum=sha256:…",
            )

    def _write(self, response: Response, part: _Part) -> None:
        while data := response.read(_CHUNK):
            rest = memoryview(data)
            if self._done + len(data) > self._room:
                raise self._too_large(self._done + len(data))
            while rest:
                count = os.write(self._target, rest)
                rest = rest[count:]
                self._done += count
            if part.size is not None and self._done > part.size:
                raise RegistryRefused(f"more bytes came than announced: {self._address.url}")

    def _too_large(self, size: int) -> StorageError:
        return StorageError(
            f"no room for {self._address.url}: it has {size} bytes or more, {self._room} are free",
            hint="free disk space (build-cache --prune), or choose another storage directory with --storage",
        )


def refused(address: Address, response: Response) -> RegistryRefused:
    """Return the error for an answer that is not what was asked for."""
    hints = {
        401: "it wants credentials: https://USER:PASSWORD@…, best from a build argument",
        403: "you may not have it, or it wants credentials",
        404: "look at the URL",
        410: "look at the URL",
    }
    answer = f"{response.status} {response.reason}".strip()
    elsewhere = f", redirected to {response.url}" if response.url != address.url else ""
    return RegistryRefused(
        f"can't fetch {address.url}{elsewhere}: the server answered: {answer}", hint=hints.get(response.status)
    )


def _validators(response: Response) -> dict[str, str]:
    return {name: response.headers[name].strip() for name in _VALIDATORS if response.headers.get(name, "").strip()}


def _strong(validators: Mapping[str, str]) -> str | None:
    """Return what may ask for the rest of exactly this version. Weak ETags may not, says RFC 9110, 13.1.5."""
    tag = validators.get("ETag")
    return tag if tag and not tag.startswith("W/") else validators.get("Last-Modified")


def _version(url: str, seen: Mapping[str, str]) -> str:
    """Return a file name for a version of a file."""
    text = "\0".join([url, *(f"{name}={seen[name]}" for name in sorted(seen))])
    return f"url-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


def _digest(path: str, algorithm: str) -> Digest:
    with file_errors("read downloaded file", path), open(path, "rb") as file:
        return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())
