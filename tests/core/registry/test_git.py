"""Git repositories, from real servers: git-http-backend and git daemon."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing, RegistryRefused
from chimage_core.registry.git import Host, Repositories
from chimage_core.registry.transport import Network
from tests.support import apt_repository
from tests.support.archives import listing
from tests.support.host import needs_program
from tests.support.servers import Repository, make_repository, serve_git

pytestmark = [pytest.mark.network, needs_program("git")]

COMMITTED_NS = 1_605_954_030 * 1_000_000_000
Make = Callable[..., Repositories]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = make_repository(tmp_path / "served" / "r.git")
    repository.commit({"a": "first"})
    return repository


@pytest.fixture
def url(repository: Repository) -> Iterator[str]:
    with serve_git(repository.path.parent) as top:
        yield f"{top}/r.git"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    (tmp_path / "work").mkdir()

    def repositories(path: str = os.environ["PATH"], cancel: CancelToken | None = None) -> Repositories:
        host = Host(path, None)
        return Repositories(str(tmp_path / "work"), Network({}, None, True), host, cancel or CancelToken())

    return repositories


def files(repositories: Repositories, url: str, ref: str | None, commit: str) -> dict[str, object]:
    with repositories.checkout(url, ref, commit) as tree:
        return {name: what for name, what in listing(Path(tree)).items() if not name.startswith(".git/")}


def test_names_and_what_they_mean(repository: Repository, url: str, make: Make) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "-a", "-m", "annotated", "annotated")
    repository.git("tag", "both")
    repository.git("checkout", "--quiet", "-b", "both")
    second = repository.commit({"a": "second"})
    repository.git("update-ref", "refs/pull/5/head", first)
    for ref, commit in {
        None: second,
        "both": second,
        "refs/tags/both": first,
        "main": first,
        "annotated": first,
        "refs/heads/main": first,
        "pull/5/head": first,
        "a" * 40: "a" * 40,
    }.items():
        assert make().commit(url, ref) == commit, ref


@pytest.mark.parametrize("ref", ["missing", "--upload-pack=touch x", "abc1234", "ma*n"])
def test_a_name_that_is_not_there(url: str, make: Make, ref: str) -> None:
    with pytest.raises(RegistryRefused, match="repository has no"):
        make().commit(url, ref)


@pytest.mark.parametrize("by", ["commit", "main", "tag", "default"])
def test_a_checkout(repository: Repository, url: str, make: Make, by: str, tmp_path: Path) -> None:
    commit = repository.commit({"d/b": "b", "run": "#!"})
    (repository.path / "run").chmod(0o755)
    (repository.path / "link").symlink_to("/etc/passwd")
    commit = repository.commit({})
    repository.git("tag", "-a", "-m", "x", "tag")
    old = os.umask(0o077)
    try:
        with make().checkout(url, {"commit": commit, "default": None}.get(by, by), commit) as path:
            tree = Path(path)
            assert (tree / "a").read_text() == "first"
            assert os.readlink(tree / "link") == "/etc/passwd"
            modes = {name: (tree / name).lstat().st_mode & 0o777 for name in ("a", "run", "d", "d/b", ".git")}
            assert modes == {"a": 0o644, "run": 0o755, "d": 0o755, "d/b": 0o644, ".git": 0o755}
            assert {(tree / name).lstat().st_mtime_ns for name in ("a", "d", "link", ".git/HEAD")} == {COMMITTED_NS}
            assert not (tree / ".git/hooks").exists()
            assert not (tree / ".git/logs").exists()
    finally:
        os.umask(old)
    assert os.listdir(tmp_path / "work") == []


def test_an_old_commit_of_a_branch_that_moved_on(repository: Repository, url: str, make: Make) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.commit({"a": "second"})
    assert files(make(), url, "main", first) == {"a": b"first", ".git": None}
    assert files(make(), url, first, first) == {"a": b"first", ".git": None}


def test_a_server_that_knows_nothing_of_git(repository: Repository, make: Make) -> None:
    """Plain files over HTTP: no commit by its ID, and nothing shallow."""
    first = repository.git("rev-parse", "HEAD")
    repository.commit({"a": "second"})
    repository.git("repack", "-q")
    repository.git("update-server-info")
    with apt_repository.serve(str(repository.path)) as server:
        url = f"{server.url}/.git"
        assert make().commit(url, "main") == repository.git("rev-parse", "HEAD")
        assert files(make(), url, "main", first) == {"a": b"first", ".git": None}


def test_a_commit_that_is_not_there(url: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused, match="can't fetch"), make().checkout(url, "main", "a" * 40):
        pass
    assert os.listdir(tmp_path / "work") == []


def test_submodules_come_along(repository: Repository, url: str, make: Make, tmp_path: Path) -> None:
    inner = make_repository(tmp_path / "served" / "inner.git")
    inner.commit({"inside": "x"})
    repository.git("submodule", "--quiet", "add", "../inner.git", "sub")
    commit = repository.commit({})
    assert files(make(), url, None, commit)["sub/inside"] == b"x"


@pytest.mark.parametrize("evil", ["ext::sh -c touch% /tmp/chimage-owned", "file:///etc", "/etc"])
def test_a_submodule_reaches_neither_programs_nor_files(
    repository: Repository, url: str, make: Make, evil: str, tmp_path: Path
) -> None:
    inner = make_repository(tmp_path / "inner")
    inner.commit({"inside": "x"})
    repository.git("submodule", "--quiet", "add", str(inner.path), "sub")
    repository.git("config", "-f", ".gitmodules", "submodule.sub.url", evil)
    commit = repository.commit({})
    with pytest.raises(RegistryRefused, match="git submodule failed"), make().checkout(url, None, commit):
        pass
    assert not Path("/tmp/chimage-owned").exists()


def test_neither_hooks_nor_filters_nor_configuration_of_the_host_are_used(
    repository: Repository, url: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / ".gitconfig"
    config.write_text(f'[filter "x"]\n smudge = touch {tmp_path}/smudged; cat\n[core]\n hooksPath = {tmp_path}/hooks\n')
    hook = tmp_path / "hooks/post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    for name, value in {"HOME": tmp_path, "GIT_CONFIG_GLOBAL": config, "GIT_DIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("GIT_DIR")
    commit = repository.commit({".gitattributes": "* filter=x\n"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert files(make(), url, None, commit)["a"] == b"first"
    assert not (tmp_path / "smudged").exists()
    assert not (tmp_path / "hooked").exists()


def test_credentials_are_used_and_shown_nowhere(repository: Repository, make: Make, tmp_path: Path) -> None:
    seen: list[str] = []
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    script = bin_directory / "git"
    # What git(1) is called with is what everybody can see in the list of processes.
    real = subprocess.run(["which", "git"], check=True, capture_output=True, text=True).stdout.strip()
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {tmp_path}/argv\nexec {real} "$@"\n')
    script.chmod(0o755)
    with serve_git(repository.path.parent, user="me:s3cr/et") as top:
        url = f"{top}/r.git".replace("//", "//me:s3cr%2Fet@", 1)
        repositories = make(f"{bin_directory}:{os.environ['PATH']}")
        commit = repositories.commit(url, "main")
        with repositories.checkout(url, "main", commit) as tree:
            seen += [path.read_bytes().decode("latin-1") for path in Path(tree).rglob("*") if path.is_file()]
        with pytest.raises(RegistryRefused) as caught:
            make().commit(url.replace("s3cr", "s3cret-wr0ng"), "main")
    seen += [(tmp_path / "argv").read_text(), str(caught.value.message), str(caught.value.hint)]
    assert "fetch" in seen[-3]
    assert not [text for text in seen if "s3cr" in text]


def test_without_git(make: Make) -> None:
    with pytest.raises(DependencyMissing, match=r"git\(1\) is needed .*: https://host/r.git"):
        make("/nonexistent").commit("https://me:pw@host/r.git", None)


def test_a_git_daemon(repository: Repository, make: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["git", "daemon", "--export-all", f"--base-path={repository.path.parent}", "--listen=127.0.0.1"]
    daemon = subprocess.Popen([*argv, f"--port={port}", "--reuseaddr"], start_new_session=True)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        url = f"git://127.0.0.1:{port}/r.git"
        assert files(make(), url, "main", make().commit(url, "main"))["a"] == b"first"
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait()
