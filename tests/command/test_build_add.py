"""`build`: ADD of files, archives, URLs and Git repositories."""

import gzip
import hashlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import directory, file, hardlink, header, symlink, tar
from tests.support.builds import Builds, announced, contents, marks
from tests.support.host import needs_program
from tests.support.servers import (
    LAST_MODIFIED,
    LAST_MODIFIED_NS,
    FileServer,
    make_repository,
    self_signed,
    serve_files,
    serve_git,
)

pytestmark = pytest.mark.userns

PACKAGE = tar(directory(b"p/", mode=0o750, mtime=3), file(b"p/f", b"packed", mode=0o640, mtime=5), file(b"g", b"g"))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as files:
        yield files


def add_bytes(builds: Builds, name: str, content: bytes) -> None:
    builds.write(name).write_bytes(content)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# Files of the context, and archives


def test_files_are_added_as_they_are_copied(builds: Builds) -> None:
    builds.write("f", "content\n", mode=0o750)
    builds.write("d/a", "a")
    builds.write("d/sub/b", "b")
    words = ["f /new/name", "f /etc/", "d /d", "f d /both/", "[a-f] /wild/", "--exclude=sub d /part", '["f", "/a b"]']
    builds.build("FROM base\n" + "".join(f"ADD {word}\n" for word in words), tag="added")
    builds.build("FROM base\n" + "".join(f"COPY {word}\n" for word in words), tag="copied")
    both = [contents(builds.image(f"{tag}+latest")) for tag in ("added", "copied")]
    for found in both:
        del found["ch/metadata.json"]
    assert both[0] == both[1]


def test_options_of_copy(builds: Builds) -> None:
    builds.write("f", mode=0o644)
    result = builds.build(
        "FROM base\nRUN ln -s /etc /link\nADD --chown=1:1 --chmod=u=rwx,go= f /a\nADD --link --chmod=711 f /link/b\n"
        "ADD --chmod=600 <<one <<two /documents/\n1\none\n2\ntwo\n"
    )
    modes = {name: (builds.image() / name).stat().st_mode & 0o7777 for name in ("a", "link/b", "documents/one")}
    assert modes == {"a": 0o700, "link/b": 0o711, "documents/one": 0o600}
    assert not (builds.image() / "link").is_symlink()
    assert builds.read("documents/two") == "2\n"
    assert "ADD --chown" in result.stderr


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("missing", "not found in context: missing"),
        ("../f", "outside the context"),
        ("ftp://host/f", "URLs of ftp can’t be fetched"),
        ("file:///etc/passwd", "URLs of file can’t be fetched"),
        ("--checksum=sha256:12 https://host/f", "expected 64 hexadecimal digits"),
        (f"--checksum={sha256(b'')} Dockerfile", "--checksum is for URLs and Git repositories"),
        (f"--checksum={sha256(b'')} https://h/a https://h/b", "--checksum is for a single source"),
        ("--checksum=main https://host/x.git", "it is a commit"),
        ("--chmod=9 Dockerfile", "neither octal"),
    ],
)
def test_what_cannot_be_added(builds: Builds, source: str, problem: str) -> None:
    result = builds.build(f"FROM base\nADD {source} /x/", check=False).expect(1)
    assert problem in result.stderr
    assert "Dockerfile:2" in result.stderr


def test_an_archive_is_unpacked_by_its_content(builds: Builds) -> None:
    add_bytes(builds, "p.txt", packed := gzip.compress(PACKAGE))
    builds.write("not.tar.gz", "text")
    builds.build("FROM base\nADD p.txt not.tar.gz /opt\nADD p.txt new\nADD --unpack=false p.txt /kept/")
    image = builds.image()
    assert sorted(os.listdir(image / "opt")) == ["g", "not.tar.gz", "p"]
    assert builds.read("new/p/f") == "packed"
    status = (image / "opt/p/f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o640, 5)
    assert stat.S_IMODE((image / "opt/p").stat().st_mode) == 0o750
    assert (image / "kept/p.txt").read_bytes() == packed


@pytest.mark.parametrize("size", [1_000, 500_000])
def test_an_archive_that_is_cut_short_is_not_taken_for_a_plain_file(builds: Builds, size: int) -> None:
    whole = gzip.compress(tar(file(b"f", b"first"), file(b"g", os.urandom(size)), file(b"h", b"last")))
    add_bytes(builds, "cut.tar.gz", whole[: len(whole) - 200])
    result = builds.build("FROM base\nADD cut.tar.gz /d", check=False).expect(1)
    assert "data ends too early" in result.stderr
    assert not builds.image().exists()


def test_an_archive_is_cached_by_its_metadata_and_the_next_image_is_the_same(builds: Builds) -> None:
    add_bytes(builds, "p.tar", PACKAGE)
    dockerfile = "FROM base\nRUN mkdir -p /opt/p && echo old > /opt/p/old\nADD p.tar /opt\nRUN cat /opt/p/f /opt/p/old"
    assert marks(builds.build(dockerfile)) == "*..."
    made = contents(builds.image())
    assert made["opt/p/old"][2] == hashlib.sha256(b"old\n").hexdigest()
    assert marks(builds.build(dockerfile)) == "****"
    builds.chimage.run("delete", "image")
    builds.build(dockerfile)
    assert contents(builds.image()) == made
    add_bytes(builds, "p.tar", PACKAGE + bytes(512))
    assert marks(builds.build(dockerfile)) == "**.."


def test_a_hostile_archive_leaves_the_image_alone_and_the_host_too(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    outside = os.fsencode(tmp_path / "outside")
    add_bytes(builds, "through.tar", tar(symlink(b"e", outside), file(b"e/evil", b"evil")))
    add_bytes(builds, "special.tar", tar(header(b"null", kind=b"3"), file(b"su", mode=0o4755)))
    result = builds.build("FROM base\nADD through.tar special.tar /d/\nRUN ls -l /d", "-v")
    assert os.listdir(tmp_path / "outside") == []
    assert not (builds.image() / "d/null").exists()
    assert (builds.image() / "d/su").stat().st_mode & 0o7777 == 0o755
    assert "device files left out: 1" in result.stderr
    before = contents(builds.image())
    for member in (file(b"../evil"), hardlink(b"h", b"/etc/passwd")):
        add_bytes(builds, "bad.tar", tar(member))
        result = builds.build("FROM image\nADD bad.tar /d/", check=False).expect(1)
        assert "bad.tar" in result.stderr
        assert "Dockerfile:2" in result.stderr
    assert contents(builds.image()) == before


# URLs


@pytest.mark.network
def test_a_file_by_url(builds: Builds, server: FileServer) -> None:
    url = server.add("/dir/f.tar?x", PACKAGE).replace("?x", "")
    server.files["/dir/f.tar"] = server.files.pop("/dir/f.tar?x")
    builds.build(f"FROM base\nADD {url}?q=1#frag /etc/\nADD {url} /name\nADD --chmod=755 --unpack {url} /un/packed")
    for path in ("etc/f.tar", "name"):
        status = (builds.image() / path).stat()
        assert (builds.image() / path).read_bytes() == PACKAGE
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o600, LAST_MODIFIED_NS)
    assert builds.read("un/packed/p/f") == "packed"


@pytest.mark.network
def test_a_url_is_asked_for_and_fetched_only_if_it_changed(builds: Builds, server: FileServer) -> None:
    url = server.add("/f", b"one")
    dockerfile = f"FROM base\nADD {url} /f\nRUN true"
    assert marks(builds.build(dockerfile)) == "*.."
    assert server.methods() == ["HEAD", "GET"]
    assert marks(builds.build(dockerfile)) == "***"
    assert server.methods() == ["HEAD"]
    server.add("/f", b"two")
    result = builds.build(dockerfile, "--explain")
    assert marks(result) == "*.."
    assert builds.read("f") == "two"
    assert "what it fetches changed" in result.stderr
    old, new = (hashlib.sha256(content).hexdigest()[:8] for content in (b"one", b"two"))
    assert f'{url}: ETag [-"{old}",-]{{+"{new}",+}}' in result.stderr


@pytest.mark.network
def test_with_a_checksum_nobody_is_asked(builds: Builds, server: FileServer) -> None:
    url = server.add("/f", b"one")
    dockerfile = f"FROM base\nADD --checksum={sha256(b'one')} {url} /f"
    builds.build(dockerfile)
    assert server.methods() == ["GET"]
    assert marks(builds.build(dockerfile)) == "**"
    assert marks(builds.build(dockerfile, "--rebuild")) == "*."
    assert server.methods() == []
    builds.chimage.run("build", "--always-download", "--rebuild", "-t", "image", builds.context)
    assert server.methods() == ["GET"]
    result = builds.build(dockerfile.replace(sha256(b"one"), sha256(b"two")), check=False).expect(1)
    assert f"expected {sha256(b'two')}, found {sha256(b'one')}" in result.stderr
    assert builds.read("f") == "one"


@pytest.mark.network
def test_a_build_that_breaks_later_need_not_fetch_again(builds: Builds, server: FileServer) -> None:
    dockerfile = f"FROM base\nADD {server.add('/f', b'one')} /f\nRUN "
    builds.build(f"{dockerfile}false", "--no-cache", check=False).expect(1)
    builds.build(f"{dockerfile}true", "--no-cache")
    assert server.methods() == ["HEAD", "GET", "HEAD"]


@pytest.mark.network
def test_a_dry_run_asks_but_fetches_nothing(builds: Builds, server: FileServer) -> None:
    dockerfile = f"FROM base\nADD {server.add('/f', b'one')} /f"
    assert marks(builds.build(dockerfile, "--dry-run")) == "*."
    assert server.methods() == ["HEAD"]
    assert os.listdir(Path(builds.chimage.storage, "blobs")) == []


@pytest.mark.network
def test_a_directory_needs_a_name_and_the_url_may_not_have_one(builds: Builds, server: FileServer) -> None:
    url = server.add("/", b"index")
    builds.build(f"FROM base\nADD {url} /index.html")
    assert builds.read("index.html") == "index"
    for dest in ("/etc", "/new/"):
        result = builds.build(f"FROM base\nADD {url} {dest}", check=False).expect(1)
        assert "URL does not end in a file name" in result.stderr


@pytest.mark.network
def test_no_file_name_of_a_url_leads_out(builds: Builds, server: FileServer) -> None:
    server.add("/..%2F..%2Fevil", b"evil")
    result = builds.build(f"FROM base\nADD {server.url}/..%2f..%2fevil /etc/", check=False).expect(1)
    assert "URL does not end in a file name" in result.stderr


@pytest.mark.network
def test_a_file_that_is_not_there_fails_at_its_instruction(builds: Builds, server: FileServer) -> None:
    builds.build("FROM base")
    before = contents(builds.image())
    result = builds.build(f"FROM base\nRUN true\nADD {server.url}/missing /f", check=False).expect(1)
    assert f"can't fetch {server.url}/missing: the server answered: 404" in result.stderr
    assert "Dockerfile:3: ADD" in result.stderr
    assert contents(builds.image()) == before


@pytest.mark.network
def test_credentials_in_a_url_are_shown_and_kept_nowhere(builds: Builds, server: FileServer) -> None:
    server.add("/f", b"secret file", user="me:s3cr3t")
    url = f"{server.url}/f".replace("//", "//me:s3cr3t@")
    shown = [builds.build(f"FROM base\nADD {url} /f", "-vvv", "--explain").text()]
    assert builds.read("f") == "secret file"
    (builds.context / "Dockerfile").write_text(f"FROM base\nADD {url} /f\n")
    shown.append(builds.chimage.run("build", "--json", "-t", "other", builds.context).text())
    shown.append(builds.build(f"FROM base\nADD {url}x /f", "--debug", check=False).expect(1).text())
    assert not [text for text in shown if "s3cr3t" in text]
    for path in (*builds.image().rglob("*"), *Path(builds.chimage.storage, "cache").rglob("*")):
        if path.is_file() and not path.is_symlink():
            assert b"s3cr3t" not in path.read_bytes()


@pytest.mark.network
def test_proxies_of_the_environment_are_used(builds: Builds, server: FileServer) -> None:
    server.add("/f", b"by proxy")
    builds.build("FROM base\nADD http://nowhere.example/f /f", env={"http_proxy": server.url})
    assert builds.read("f") == "by proxy"


@pytest.mark.network
@needs_program("openssl")
def test_certificates_are_checked(builds: Builds, tmp_path: Path) -> None:
    context, certificate = self_signed(tmp_path)
    with serve_files(context) as server:
        dockerfile = f"FROM base\nADD {server.add('/f', b'by tls')} /f"
        result = builds.build(dockerfile, check=False).expect(1)
        assert "certificate not accepted: 127.0.0.1" in result.stderr
        assert "--tls-no-verify" in result.stderr
        builds.build(dockerfile, env={"SSL_CERT_FILE": str(certificate)})
        result = builds.build(dockerfile, "--rebuild", "--tls-no-verify", env={"REQUESTS_CA_BUNDLE": "/nonexistent"})
        assert "Warning" not in result.stderr
    assert builds.read("f") == "by tls"


@pytest.mark.network
@pytest.mark.parametrize("how", [{"delay": 0.1}, {"stalls": 30}])
def test_a_download_that_is_interrupted_leaves_nothing(
    builds: Builds, server: FileServer, how: dict[str, object]
) -> None:
    url = server.add("/f", bytes(10_000_000), **how)
    builds.write("Dockerfile", f"FROM base\nADD --checksum={sha256(b'')} {url} /f\n")
    with builds.chimage.start("build", "-t", "image", builds.context) as process:
        while not server.asked:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGINT
    assert os.listdir(Path(builds.chimage.storage, "blobs")) == []
    assert not [name for name in builds.names() if name.startswith("image")]


@pytest.mark.network
def test_what_a_killed_download_left_is_swept(builds: Builds, server: FileServer) -> None:
    url = server.add("/f", bytes(10_000_000), delay=0.1)
    builds.write("Dockerfile", f"FROM base\nADD {url} /f\n")
    blobs = Path(builds.chimage.storage, "blobs")
    with builds.chimage.start("build", "-t", "image", builds.context) as process:
        while not os.listdir(blobs):
            time.sleep(0.05)
        process.kill()
        process.communicate(timeout=20)
    assert os.listdir(blobs)
    builds.build("FROM base")
    assert os.listdir(blobs) == []


# Git


@pytest.fixture
def git(tmp_path: Path) -> Iterator[str]:
    """The URL of a repository `r.git` with two directories and a tag `v1`."""
    repository = make_repository(tmp_path / "served/r.git")
    repository.commit({"src/main.c": "one", "doc/README": "readme", ".gitignore": "x"})
    repository.git("tag", "v1")
    with serve_git(tmp_path / "served") as top:
        yield f"{top}/r.git"


def names(path: Path) -> list[str]:
    return sorted(os.path.relpath(os.path.join(at, name), path) for at, _, files in os.walk(path) for name in files)


@pytest.mark.network
@needs_program("git")
def test_a_repository(builds: Builds, git: str) -> None:
    builds.build(
        f"FROM base\nADD {git} /all\nADD {git}#v1:src /src/\nADD --keep-git-dir {git}#main /kept\n"
        f"ADD --exclude=doc --chmod=u=rwX,go= {git} /some"
    )
    image = builds.image()
    assert names(image / "all") == [".gitignore", "doc/README", "src/main.c"]
    assert names(image / "src") == ["main.c"]
    assert names(image / "some") == [".gitignore", "src/main.c"]
    assert (image / "some/src/main.c").stat().st_mode & 0o777 == 0o600
    subprocess.run(["git", "-c", "safe.directory=*", "-C", image / "kept", "fsck", "--strict"], check=True)
    status = (image / "src/main.c").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o644, 1_605_954_030)


@pytest.mark.network
@needs_program("git")
def test_a_repository_is_known_by_its_commit(builds: Builds, git: str, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "served/other.git")
    first = repository.commit({"f": "one"})
    url = git.replace("r.git", "other.git")
    dockerfile = f"FROM base\nADD {url}#main /d"
    builds.build(dockerfile)
    assert marks(builds.build(dockerfile)) == "**"
    second = repository.commit({"f": "two"})
    result = builds.build(dockerfile, "--explain")
    assert marks(result) == "*."
    assert builds.read("d/f") == "two"
    assert f"{url}#main: commit [-{first}-]{{+{second}+}}" in result.stderr
    for checksum in (second, second[:12]):
        builds.build(f"FROM base\nADD --checksum={checksum} {url}#main /d")
    result = builds.build(f"FROM base\nADD --checksum={first} {url}#main /d", "--rebuild", check=False).expect(1)
    assert f"expected commit {first}, found {second}" in result.stderr


@pytest.mark.network
@needs_program("git")
def test_with_a_whole_commit_nobody_is_asked(builds: Builds, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "served/r.git")
    commit = repository.commit({"f": "one"})
    with serve_git(tmp_path / "served") as top:
        dockerfiles = [f"FROM base\nADD {top}/r.git#{commit} /d", f"FROM base\nADD --checksum={commit} {top}/r.git /d"]
        for dockerfile in dockerfiles:
            builds.build(dockerfile)
    for dockerfile in dockerfiles:
        assert marks(builds.build(dockerfile)) == "**"


@pytest.mark.network
@needs_program("git")
def test_a_directory_of_a_repository_stays_inside_it(builds: Builds, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "served/r.git")
    (repository.path / "out").symlink_to("/etc")
    repository.commit({"f": "one"})
    with serve_git(tmp_path / "served") as top:
        for subdirectory in ("out", "../..", "missing", "f"):
            result = builds.build(f"FROM base\nADD {top}/r.git#:{subdirectory} /d", check=False)
            if subdirectory == "../..":
                assert names(builds.image() / "d") == ["f"]
            else:
                assert "not a directory of" in result.expect(1).stderr


def test_without_git_it_fails_at_that_instruction(builds: Builds, tmp_path: Path) -> None:
    result = builds.build(
        "FROM base\nRUN true\nADD https://me:pw@host.example/x.git /d", check=False, env={"PATH": str(tmp_path)}
    ).expect(1)
    assert "git(1) is needed to add a Git repository: https://host.example/x.git" in result.stderr
    assert "Dockerfile:3: ADD" in result.stderr


@pytest.mark.network
def test_several_kinds_at_once(builds: Builds, server: FileServer) -> None:
    add_bytes(builds, "p.tar", PACKAGE)
    builds.write("f", "f")
    url = server.add("/u", b"u", headers={"Last-Modified": LAST_MODIFIED})
    result = builds.build(f"FROM base\nADD f p.tar {url} <<doc /d\ntext\ndoc\nRUN cat /d/g")
    assert sorted(os.listdir(builds.image() / "d")) == ["doc", "f", "g", "p", "u"]
    assert announced(result)[1].endswith(f"ADD ['f', 'p.tar', '{url}', '<<doc'] -> '/d'")
