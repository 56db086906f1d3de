"""What a build can have from other machines, under one roof. Its protocol: `chimage_core.build.remote`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from chimage_core.cancel import CancelToken
from chimage_core.registry.git import Host, Repositories
from chimage_core.registry.transport import Network, Transport

if TYPE_CHECKING:
    from chimage_core.registry.fetch import Downloads


class Remote:
    """Files by URL, and Git repositories."""

    def __init__(
        self, directory: str, network: Network, host: Host, *, always_download: bool, cancel: CancelToken
    ) -> None:
        """Keep downloads, and work, in `directory`, which exists."""
        self._directory = directory
        self._always_download = always_download
        self._cancel = cancel
        self._transport = Transport(network, cancel=cancel)
        self._repositories = Repositories(directory, network, host, cancel)

    @cached_property
    def _downloads(self) -> "Downloads":
        from chimage_core.registry.fetch import Downloads

        return Downloads(self._directory, self._transport, always=self._always_download, cancel=self._cancel)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def look(self, url: str) -> Mapping[str, str]:
        """See `Downloads.look`."""
        return self._downloads.look(url)

    def fetch(self, url: str, seen: Mapping[str, str] | None, checksum: str | None) -> str:
        """See `Downloads.fetch`."""
        return self._downloads.fetch(url, seen, checksum)

    def commit(self, url: str, ref: str | None) -> str:
        """See `Repositories.commit`."""
        return self._repositories.commit(url, ref)

    def checkout(self, url: str, ref: str | None, commit: str) -> AbstractContextManager[str]:
        """See `Repositories.checkout`."""
        return self._repositories.checkout(url, ref, commit)
