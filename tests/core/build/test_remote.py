"""How sources of ADD are spelled."""

import pytest

from chimage_core.build.remote import Repository, WebFile, parse_source


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("https://h/x.git", Repository("https://h/x.git", None, "")),
        ("https://u:p@h/x.git#v1", Repository("https://u:p@h/x.git", "v1", "")),
        ("http://h/x.git#v1:a/b/", Repository("http://h/x.git", "v1", "a/b")),
        ("https://h/x.git#:a", Repository("https://h/x.git", None, "a")),
        ("https://h/x.git#", Repository("https://h/x.git", None, "")),
        ("git@h:team/x.git#main", Repository("git@h:team/x.git", "main", "")),
        ("me@h.example:x", Repository("me@h.example:x", None, "")),
        ("ssh://git@h:22/x#a:b", Repository("ssh://git@h:22/x", "a", "b")),
        ("git://h/x", Repository("git://h/x", None, "")),
    ],
)
def test_repositories(word: str, expected: Repository) -> None:
    assert parse_source(word) == expected


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("https://h/a/b.tar.gz", "b.tar.gz"),
        ("HTTP://h/a?x=.git", "a"),
        ("https://h/a%20b", "a b"),
        ("https://h/a#x.git", "a"),
        ("https://h/", ""),
        ("https://h", ""),
        ("https://h/a/", ""),
        ("https://h/a/..%2f..%2fetc%2fpasswd", ""),
        ("https://h/%2e%2e", ""),
        ("https://h/a%00", ""),
    ],
)
def test_files_and_their_names(word: str, name: str) -> None:
    found = parse_source(word)
    assert isinstance(found, WebFile)
    assert (found.url, found.name) == (word, name)


@pytest.mark.parametrize(
    "word", ["file", "./git@h:x", "dir/x.git", "a@b", "-o@h:x", "u@-oProxyCommand=x:y", "a:b", "ext::x://y"]
)
def test_names_in_the_context(word: str) -> None:
    assert parse_source(word) is None


@pytest.mark.parametrize("word", ["https://[::1/f", "ssh://[::1/x.git", "http://[x/y.git"])
def test_urls_that_nobody_can_take_apart(word: str) -> None:
    with pytest.raises(ValueError, match="IPv6"):
        parse_source(word)


@pytest.mark.parametrize("word", ["ftp://h/f", "file:///etc/passwd", "s3://b/o"])
def test_other_urls_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="can’t be fetched"):
        parse_source(word)
