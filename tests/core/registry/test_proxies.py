"""Which proxy a request goes through."""

import pytest

from chimage_core.registry.proxies import proxy_of


def chosen(host: str, no_proxy: str, port: int = 443) -> bool:
    return proxy_of("https", host, port, {"https_proxy": "http://p:1", "no_proxy": no_proxy}) is not None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("a.example", "a.example"),
        ("a.example", "x, .example"),
        ("a.b.example", "example"),
        ("a.example", "*.example"),
        ("a.example", "A.Example:443"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("::1", "::1"),
        ("::1", "[::1]:443"),
        ("a.example", "*"),
    ],
)
def test_exceptions(host: str, no_proxy: str) -> None:
    assert not chosen(host, no_proxy)


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [("a.example", ""), ("a.example", "b.example"), ("anexample", "example"), ("a.example", "a.example:80"),
     ("11.1.2.3", "10.0.0.0/8"), ("a.example", "10.0.0.0/8"), ("a.example", "nonsense/8"), ("a.example", ",, :")],
)  # fmt: skip
def test_no_exceptions(host: str, no_proxy: str) -> None:
    assert chosen(host, no_proxy)


def test_variables_by_scheme_lower_case_first() -> None:
    variables = {"http_proxy": "low:1", "HTTP_PROXY": "http://up:1", "HTTPS_PROXY": "http://s:1"}
    assert proxy_of("http", "h", 80, variables) == "http://low:1"
    assert proxy_of("https", "h", 443, variables) == "http://s:1"
    assert proxy_of("https", "h", 443, {}) is None
