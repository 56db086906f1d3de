"""The login files of other programs, `auth.json` and `config.json`, and the helpers that these name. Only ever read.

`podman login`, `skopeo login` and `docker login` write them. A key is a registry, or for podman a part of it; the
longest one that fits counts. Sources: containers-auth.json(5); docker-credential-helpers, README, "Development".
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chimage_core.cancel import CancelToken
from chimage_core.errors import ChimageError
from chimage_core.events import Notice, Sink, Warned
from chimage_core.image.reference import HUB_ALIASES
from chimage_core.registry.credentials import Credentials

_LARGEST = 1 << 20
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"
"""What a helper gives as user name if its secret is an identity token."""


class LoginFiles:
    """Credentials from files. A context for one process: what a file says is read once."""

    def __init__(self, paths: Sequence[str], environment: Mapping[str, str], emit: Sink, cancel: CancelToken) -> None:
        """`paths`: in the order in which they count; they need not exist. `environment` is for the helpers."""
        self._paths = paths
        self._environment = environment
        self._emit = emit
        self._cancel = cancel

    def get(self, registry: str, repository: str) -> Credentials | None:
        """Return what a file or a helper knows. What is damaged is told and passed over. Raises Cancelled."""
        for path in self._paths:
            document = self._read(path)
            if document is None:
                continue
            found = self._from_helper(document, registry) or self._from_file(document, path, registry, repository)
            if found is not None:
                self._emit(Notice(level="verbose", text=f"credentials for {registry}: from {path}"))
                return found
        return None

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            with open(path, "rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._pass_over(path, error.strerror or str(error))
            return None
        try:
            document = json.loads(data) if len(data) <= _LARGEST else None
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            return document
        self._pass_over(path, "it is no JSON object, or too large")
        return None

    def _pass_over(self, path: str, reason: str) -> None:
        self._emit(Warned(text=f"login file not used: {path}: {reason}"))

    def _from_file(self, document: Mapping[str, Any], path: str, registry: str, repository: str) -> Credentials | None:
        entries = document.get("auths")
        if not isinstance(entries, dict):
            return None
        for key in _keys(registry, repository):
            entry = entries.get(key)
            if isinstance(entry, dict) and (found := self._entry(entry, path, key)) is not None:
                return found
        return None

    def _entry(self, entry: Mapping[str, Any], path: str, key: str) -> Credentials | None:
        """Read one; an empty one says that a helper knows it, which has been asked already."""
        token = entry.get("identitytoken")
        encoded = entry.get("auth")
        if isinstance(token, str) and token:
            return Credentials("", "", token)
        if not isinstance(encoded, str) or not encoded:
            return None
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            self._pass_over(path, f"its entry for {key} makes no sense")
            return None
        return Credentials(user, password)

    def _from_helper(self, document: Mapping[str, Any], registry: str) -> Credentials | None:
        helpers = document.get("credHelpers")
        names = [helpers.get(key) for key in _registry_keys(registry)] if isinstance(helpers, dict) else []
        names.append(document.get("credsStore"))
        for name in names:
            if isinstance(name, str) and _HELPER.fullmatch(name):
                for key in _registry_keys(registry):
                    if (found := self._ask_helper(f"docker-credential-{name}", key)) is not None:
                        return found
        return None

    def _ask_helper(self, name: str, key: str) -> Credentials | None:
        from chimage_core.proc import find_program, run

        program = find_program(name, self._environment.get("PATH"))
        if program is None:
            self._emit(Warned(text=f"credential helper not found: {name}"))
            return None
        try:
            answer = run(
                [program, "get"], environment=self._environment, cancel=self._cancel, stdin=key.encode(), check=False
            )
            document = json.loads(answer.stdout) if answer.status == 0 else None
        except (ChimageError, OSError, ValueError, RecursionError):
            self._cancel.check()
            document = None
        if not isinstance(document, dict):  # It has none, mostly.
            return None
        user, secret = document.get("Username"), document.get("Secret")
        if not isinstance(user, str) or not isinstance(secret, str) or not secret:
            return None
        self._emit(Notice(level="verbose", text=f"credentials for {key}: by {name}"))
        return Credentials("", "", secret) if user == _TOKEN_USER else Credentials(user, secret)


def _keys(registry: str, repository: str) -> Iterator[str]:
    """Yield under what an entry may stand, from the narrowest to the widest."""
    parts = repository.split("/")
    for name in _registry_keys(registry):
        if "://" not in name:
            for count in range(len(parts), 0, -1):
                yield "/".join([name, *parts[:count]])
    yield from _registry_keys(registry)


def _registry_keys(registry: str) -> tuple[str, ...]:
    if registry.removesuffix(":443") in HUB_ALIASES:
        return (*_HUB_KEYS, "registry-1.docker.io")
    plain = registry.removesuffix(":443")
    forms = (registry, plain, f"https://{plain}", f"http://{plain}")
    return tuple(dict.fromkeys(forms))
