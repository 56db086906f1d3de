"""The header WWW-Authenticate, as it is written in the wild."""

import pytest

from chimage_core.registry.challenges import Challenge, parse_challenges

BEARER = {"realm": "https://auth.example.com/token", "service": "a service", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ("BASIC", [("basic", {})]),
        ('Basic realm="a \\"b\\", c=d"', [("basic", {"realm": 'a "b", c=d'})]),
        (
            'Bearer realm="https://auth.example.com/token",service="a service",scope="repository:a/b:pull,push"',
            [("bearer", BEARER)],
        ),
        (
            'bearer  Realm = "https://auth.example.com/token" , SERVICE="a service" ,scope="repository:a/b:pull,push"',
            [("bearer", BEARER)],
        ),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        (
            'Negotiate YWJj+/=, Bearer realm="u",service=s, Basic realm="x"',
            [("negotiate", {}), ("bearer", {"realm": "u", "service": "s"}), ("basic", {"realm": "x"})],
        ),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        (',,, Basic realm="x",,', [("basic", {"realm": "x"})]),
        ('Bearer realm="unfinished', [("bearer", {})]),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(challenge.scheme, dict(challenge.parameters)) for challenge in parse_challenges(header)]
    assert found[: len(expected)] == expected
    if "unfinished" not in header:
        assert len(found) == len(expected)


def test_a_header_of_any_length_takes_no_time() -> None:
    """It comes from strangers; the time must not grow faster than the length."""
    for evil in ('Bearer a="' + "\\" * 60_000, "a " * 60_000, 'a="' * 60_000, "," * 60_000, "Basic " + "a=b," * 60_000):
        assert all(isinstance(challenge, Challenge) for challenge in parse_challenges(evil))
