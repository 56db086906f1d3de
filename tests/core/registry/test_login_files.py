"""What other programs keep of logins: read, never written, and told with -v."""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.events import Notice, Warned
from chimage_core.registry.credentials import Credentials
from chimage_core.registry.login_files import LoginFiles
from tests.support.recorder import Recorder


class Files:
    """Login files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events = Recorder()
        self.paths: list[str] = []

    def add(self, document: Any) -> Path:
        path = self.directory / f"{len(self.paths)}.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        self.paths.append(str(path))
        return path

    def get(self, registry: str, repository: str = "team/tool", **environment: str) -> Credentials | None:
        files = LoginFiles(self.paths, environment, self.events, CancelToken())
        return files.get(registry, repository)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def entry(user: str, password: str = "secret") -> Mapping[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("r.example.com", "r.example.com"),
        ("r.example.com", "r.example.com:443"),
        ("r.example.com:5000", "r.example.com:5000"),
        ("https://r.example.com", "r.example.com"),
        ("r.example.com/team", "r.example.com"),
        ("r.example.com/team/tool", "r.example.com"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
def test_an_entry_is_found(files: Files, key: str, registry: str) -> None:
    files.add({"auths": {key: entry("bob", "with:colon")}})
    found = files.get(registry)
    assert found == Credentials("bob", "with:colon")
    assert "secret" not in repr(found)
    assert files.paths[0] in files.events.one(Notice).text


@pytest.mark.parametrize("key", ["other.example.com", "r.example.com:5000", "r.example.com/team/too", "r.example"])
def test_an_entry_for_something_else_is_not(files: Files, key: str) -> None:
    files.add({"auths": {key: entry("bob")}})
    assert files.get("r.example.com") is None


def test_the_narrowest_entry_counts(files: Files) -> None:
    keys = ("r.example.com", "r.example.com/team", "r.example.com/team/tool")
    files.add({"auths": {key: entry(key) for key in keys}})
    assert [files.get("r.example.com", name) for name in ("other", "team/x", "team/tool")] == [
        Credentials(key, "secret") for key in keys
    ]


def test_the_first_file_that_knows_counts(files: Files) -> None:
    files.add({"auths": {"other": entry("a")}})
    files.add({"auths": {"r.example.com": entry("b")}})
    files.add({"auths": {"r.example.com": entry("c")}})
    assert files.get("r.example.com") == Credentials("b", "secret")


def test_an_identity_token(files: Files) -> None:
    files.add({"auths": {"r.example.com": {**entry("x"), "identitytoken": "abc"}}})
    assert files.get("r.example.com") == Credentials("", "", "abc")


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", "null", '{"auths": 1}', '{"auths": {"r.example.com": 1}}', "[" * 100_000,
     '{"auths": {"r.example.com": {"auth": "%%%"}}}', '{"auths": {"r.example.com": {"auth": "YQ=="}}}',
     '{"credsStore": "../../bin/sh"}', '{"credHelpers": {"r.example.com": 7}}'],
)  # fmt: skip
def test_a_damaged_file_is_passed_over(files: Files, document: str) -> None:
    files.add(document)
    files.add({"auths": {"r.example.com": entry("b")}})
    assert files.get("r.example.com") == Credentials("b", "secret")


def test_a_file_that_cannot_be_read_is_told(files: Files, tmp_path: Path) -> None:
    files.paths = [str(tmp_path / "missing"), str(tmp_path)]
    assert files.get("r.example.com") is None
    assert str(tmp_path) in files.events.one(Warned).text


HELPER = """#!/bin/sh
read server
test "$1 $server" = "get r.example.com" || { echo "credentials not found"; exit 1; }
echo '{"ServerURL": "r.example.com", "Username": "%s", "Secret": "from helper"}'
"""


@pytest.mark.parametrize("document", [{"credHelpers": {"r.example.com": "mine"}}, {"credsStore": "mine"}])
@pytest.mark.parametrize("user", ["bob", "<token>"])
def test_a_helper_is_asked(files: Files, tmp_path: Path, document: Any, user: str) -> None:
    helper = tmp_path / "docker-credential-mine"
    helper.write_text(HELPER % user)
    helper.chmod(0o755)
    files.add({**document, "auths": {"r.example.com": {}}})
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    expected = Credentials("", "", "from helper") if user == "<token>" else Credentials("bob", "from helper")
    assert files.get("r.example.com", PATH=path) == expected
    assert files.get("other.example.com", PATH=path) is None
    assert files.get("r.example.com", PATH="/nonexistent") is None
    assert "docker-credential-mine" in files.events.of(Warned)[0].text
