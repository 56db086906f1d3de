"""Where images are looked for."""

from pathlib import Path

import pytest

from chimage_core.errors import FileError, UsageError
from chimage_core.image.reference import Reference
from chimage_core.registry.endpoints import Endpoint, endpoints, read_mirrors


def found(image: str, mirrors: str = "", *, plain_http: bool = False) -> list[str]:
    """Return where to look, as `scheme://host:port/repository`; `?` where TLS is still to be found out."""
    schemes = {None: "?", True: "http", False: "https"}
    places = endpoints(Reference.parse(image), read_mirrors(mirrors), plain_http=plain_http)
    return [f"{schemes[place.is_plain]}://{place.host}:{place.port}/{place.repository}" for place in places]


def test_a_registry_is_asked_itself() -> None:
    assert found("debian:12") == ["?://registry-1.docker.io:443/library/debian"]
    assert found("r.example.com:5000/a/b") == ["?://r.example.com:5000/a/b"]


def test_tls_is_off_where_the_user_says_so() -> None:
    assert found("r.example.com/a", plain_http=True) == ["http://r.example.com:443/a"]
    assert found("r.example.com:80/a") == ["http://r.example.com:80/a"]


@pytest.mark.parametrize(
    ("mirrors", "image", "expected"),
    [
        ("docker.io=m.example.com/hub", "debian", "https://m.example.com:443/hub/library/debian"),
        ("docker.io=m.example.com", "a/b", "https://m.example.com:443/a/b"),
        ("docker.io/library=http://m:5000/x", "debian", "http://m:5000/x/debian"),
        ("docker.io=http://M.example.com", "a/b", "http://m.example.com:80/a/b"),
        ("r.example.com:5000/a=https://m.example.com:8443/q/", "r.example.com:5000/a/b/c", "https://m.example.com:8443/q/b/c"),
        ("docker.io=one.example.com,docker.io/a=two.example.com", "a/b", "https://two.example.com:443/b"),
    ],
)  # fmt: skip
def test_a_mirror_comes_first(mirrors: str, image: str, expected: str) -> None:
    places = found(image, mirrors)
    assert places[0] == expected
    assert len(places) == 2


def test_a_prefix_is_of_whole_names() -> None:
    assert len(found("r.example.com/abc/d", "r.example.com/ab=m.example.com")) == 1
    assert len(found("r.example.com.evil.com/d", "r.example.com=m.example.com")) == 1


def test_equal_prefixes_are_asked_in_turn() -> None:
    places = found("a/b", "docker.io=m1.example.com docker.io=m2.example.com")
    hosts = [place.split("/")[2].removesuffix(":443") for place in places]
    assert hosts == ["m1.example.com", "m2.example.com", "registry-1.docker.io"]


def test_mirrors_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mirrors"
    path.write_text("# ours\n\ndocker.io = m.example.com/hub  # all of it\n")
    assert found("a/b", str(path))[0] == "https://m.example.com:443/hub/a/b"
    with pytest.raises(FileError):
        read_mirrors(str(tmp_path / "missing"))


NO_MIRRORS = ["docker.io", "=m.example.com", "docker.io=", "docker.io=ftp://m.example.com", "docker.io=nohost"]


@pytest.mark.parametrize("text", NO_MIRRORS)
def test_what_is_no_mirror_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a mirror"):
        read_mirrors(text)


def test_the_name_of_a_registry_is_short() -> None:
    assert Endpoint("r.example.com", 443, "a", None).registry == "r.example.com"
    assert Endpoint("r.example.com", 80, "a", True).registry == "r.example.com"
    assert Endpoint("r.example.com", 5000, "a", None).registry == "r.example.com:5000"
