"""Whose word a registry takes: user names and passwords, where they come from, and for how long they are remembered.

In this order: what the environment gives (`$CH_IMAGE_USERNAME`, `$CH_IMAGE_PASSWORD`), the login files of other
programs, and who sits at the terminal. Nothing is ever written. Source: ch-image(1), "Authentication".
"""

import base64
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from chimage_core.errors import RegistryRefused


class Credentials(NamedTuple):
    """What convinces a registry. Never to be shown, logged, or kept in a file."""

    username: str
    password: str
    identity_token: str | None = None
    """Instead of both: what a login service gave another program."""

    def __repr__(self) -> str:
        return "Credentials(…)"

    def basic(self) -> str:
        """Return the value of the header `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


class CredentialSource(Protocol):
    """Knows credentials, or whom to ask for them."""

    def get(self, registry: str, repository: str) -> Credentials | None:
        """Return what to tell a registry (`host` or `host:port`) about a repository; None: nothing is known.

        May wait for the user.
        """


Ask = Callable[[str, str | None], Credentials | None]
"""Asks the user for credentials for a registry, with this user name if it is known; None: there is nobody to ask."""


class GivenCredentials:
    """From the environment: the same for every registry that the user names."""

    def __init__(self, username: str, password: str) -> None:
        self._pair = Credentials(username, password)

    def get(self, registry: str, repository: str) -> Credentials | None:
        """See `CredentialSource`."""
        return self._pair


class AskedCredentials:
    """From the user. Remembered as long as we run, unless passwords are for one time only."""

    def __init__(self, ask: Ask, username: str | None, *, is_remembered: bool) -> None:
        """`username`: what the environment says; None: it is asked for, too."""
        self._ask = ask
        self._username = username
        self._is_remembered = is_remembered
        self._known: dict[str, Credentials] = {}
        self._turn = threading.Lock()  # Several downloads must not ask at the same time.

    def get(self, registry: str, repository: str) -> Credentials | None:
        """See `CredentialSource`. Raises RegistryRefused if there is nobody to ask."""
        with self._turn:
            known = self._known.get(registry)
            if known is None:
                known = self._ask(registry, self._username)
                if known is None:
                    raise RegistryRefused(
                        f"{registry} wants to know who you are, and there is no terminal to ask at",
                        hint="set $CH_IMAGE_USERNAME and $CH_IMAGE_PASSWORD, or log in by podman, skopeo or docker",
                    )
                if self._is_remembered:
                    self._known[registry] = known
            return known


class FirstCredentials:
    """From the first of several sources that knows any."""

    def __init__(self, *sources: CredentialSource) -> None:
        self._sources = sources

    def get(self, registry: str, repository: str) -> Credentials | None:
        """See `CredentialSource`."""
        for source in self._sources:
            found = source.get(registry, repository)
            if found is not None:
                return found
        return None
