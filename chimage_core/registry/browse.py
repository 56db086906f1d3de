"""What a registry has: the tags of a repository, and its repositories.

Both come in pages, each of which names the next one; a registry that goes on for ever is not followed for ever. Many
registries do not list their repositories for anybody. Sources: OCI distribution-spec v1.1, "Listing Tags"; distribution
documentation, "HTTP API V2", "Catalog".
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from chimage_core.errors import RegistryProtocol, RegistryRefused
from chimage_core.registry.client import RegistryClient, reason_of
from chimage_core.registry.transport import Broken, Response
from chimage_core.registry.urls import Address

_PAGE = 1000
"""Names to ask for at a time."""
_LARGEST_PAGE = 4 << 20
_MOST_PAGES = 1000
_LONGEST_NAME = 1024
_NEXT = re.compile(r'<([^<>]{1,4096})>\s*;[^,]*\brel\s*=\s*"?next\b', re.IGNORECASE)


class Listing(NamedTuple):
    """Names."""

    names: tuple[str, ...]
    """In the order of the registry."""
    is_complete: bool
    """There are no more."""


def list_tags(client: RegistryClient, limit: int) -> Listing:
    """Return at most `limit` tags of the repository. Raises RegistryError, Cancelled."""
    return _listed(client, f"{client.endpoint.repository}/tags/list", "tags", limit)


def list_repositories(client: RegistryClient, limit: int) -> Listing:
    """Return at most `limit` repositories of the registry. Raises RegistryError, Cancelled."""
    return _listed(client, "_catalog", "repositories", limit)


def _listed(client: RegistryClient, path: str, key: str, limit: int) -> Listing:
    names: list[str] = []
    seen: set[str] = set()
    for page, more in _pages(client, path, key, limit):
        names += [name for name in page if name not in seen]
        seen.update(page)
        if len(names) > limit or (len(names) == limit and more):
            return Listing(tuple(names[:limit]), False)
    return Listing(tuple(names), True)


def _pages(client: RegistryClient, path: str, key: str, limit: int) -> Iterator[tuple[list[str], bool]]:
    """Give the pages, and whether another one comes."""
    address: Address | None = client.address.followed(f"{path}?n={min(limit, _PAGE)}")
    asked: set[str] = set()
    while address is not None:
        if address.url in asked or len(asked) >= _MOST_PAGES:
            raise RegistryProtocol(f"the registry’s list of {key} does not end: {client.name}")
        asked.add(address.url)
        with client.request("GET", address) as response:
            if response.status != 200:
                raise _refused(client, key, response)
            names = _names(client, key, response)
            address = _following(client, address, response)
        yield names, address is not None


def _names(client: RegistryClient, key: str, response: Response) -> list[str]:
    try:
        document: Any = json.loads(response.document(_LARGEST_PAGE))
        names = document[key] or []  # Null, if there are none.
    except (Broken, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RegistryProtocol(f"list of {key} can't be read: {client.name}: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in names):
        raise RegistryProtocol(f"list of {key} can't be read: {client.name}: it is no list of names")
    return names


def _following(client: RegistryClient, here: Address, response: Response) -> Address | None:
    match = _NEXT.search(response.headers.get("Link", ""))
    if match is None:
        return None
    # Whatever host stands there: behind a proxy, registries do not know what they are called.
    there = here.followed(match[1])
    if there.is_server_of(client.address):
        return there
    path = re.sub(r"^[a-z]+://[^/]*", "", there.url)
    return client.address.followed(path)


def _refused(client: RegistryClient, key: str, response: Response) -> RegistryRefused:
    answer = f"{response.status} {response.reason}".strip()
    if reason := reason_of(response):
        answer += f": {reason}"
    what = client.name if key == "tags" else client.endpoint.registry
    hint = "look at the name; for what is not public, authenticate: --auth"
    if key != "tags":
        hint = "many registries list their images for nobody, or only with --auth; look at its web pages"
    return RegistryRefused(f"no list of {key} of {what}: the registry answered: {answer}", hint=hint)
