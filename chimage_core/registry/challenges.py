"""What a server wants to know before it answers: the header `WWW-Authenticate`.

It may hold several challenges, whose parameters are separated by commas as the challenges are, and quoted strings with
commas in them. Source: RFC 9110, 11.6.1; distribution-spec, "Token Authentication".
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_LONGEST = 16_384
_SCHEME = re.compile(r"[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+|\s*(?=,|$))")
_PARAMETER = re.compile(
    r"""[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]*+))\s*(?=,|$)""", re.DOTALL
)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")


class Challenge(NamedTuple):
    """One way in which a server lets itself be convinced."""

    scheme: str
    """In lower case: `basic`, `bearer`, …"""
    parameters: Mapping[str, str]
    """Names in lower case."""


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges of a header, as far as they make sense."""
    found: list[Challenge] = []
    at = 0
    while at < min(len(header), _LONGEST):
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            parameters.setdefault(name.lower(), value)
            at = parameter.end()
        if not parameters and (blob := _TOKEN68.match(header, at)):
            at = blob.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)
