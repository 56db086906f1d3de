"""`build`: RUN --mount=type=secret and type=ssh, --secret, --ssh."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import BASE, Builds, contents, marks
from tests.support.host import needs_program

pytestmark = pytest.mark.userns

WAYS = (
    pytest.param((), id="overlay"),
    pytest.param(("--no-cache",), id="no cache"),
    pytest.param(("--runner=bwrap",), id="in place", marks=needs_program("bwrap")),
)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """Something that is nowhere but in the file `secret`."""
    value = f"very-{os.urandom(12).hex()}-secret"
    (tmp_path / "secret").write_text(f"{value}\n")
    return value


def whole_storage(builds: Builds) -> bytes:
    """Return names and contents of all files of the storage directory, packs of the build cache inflated."""
    found = []
    for parent, folders, files in os.walk(builds.chimage.storage):
        found += [os.fsencode(name) for name in (*folders, *files)]
        for name in files:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                found.append(path.read_bytes())
    return b"\0".join(found) + objects(builds)


def objects(builds: Builds) -> bytes:
    """Return the contents of all objects of the build cache."""
    import pygit2

    path = Path(builds.chimage.storage, "cache/git")
    if not (path / "config").exists():
        return b""
    repository = pygit2.Repository(str(path))
    return b"\0".join(repository[name].read_raw() for name in repository)


class Watch:
    """Looks into /proc all the time: command lines of everybody, environments of those whose we may see."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._done = threading.Event()
        self.seen: set[str] = set()
        self.looked = 0
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        content = (process / name).read_bytes()
                        who = (process / "cmdline").read_bytes()
                    except OSError:
                        continue
                    self.looked += 1
                    if self._secret in content:
                        self.seen.add(f"{name} of {who!r}")
            time.sleep(0.01)


@pytest.mark.parametrize("options", WAYS)
def test_a_secret_is_there_and_nowhere_else(
    builds: Builds, options: tuple[str, ...], secret: str, tmp_path: Path
) -> None:
    before = contents(builds.image("base+latest"))
    script = "cat /run/secrets/key | tr a-z A-Z; stat -c %a /run/secrets/key; cat /root/.netrc | wc -c; sleep 0.5"
    mounts = "--mount=type=secret,id=key --mount=type=secret,id=key,target=/root/.netrc,mode=0440"
    builds.write("Dockerfile", f"FROM {BASE}\nRUN {mounts} {script}\nRUN ls /run/secrets /root/.netrc; true")
    with Watch(secret) as watch:
        result = builds.chimage.run(
            "build", "-vvv", "-t", "image", f"--secret=id=key,src={tmp_path}/secret", *options, builds.context
        )
    assert result.stdout == f"{secret.upper()}\n400\n{len(secret) + 1}\n"
    assert secret not in result.stderr
    assert watch.seen == set()
    assert watch.looked > 0
    assert secret.encode() not in whole_storage(builds)
    after = {path: what for path, what in contents(builds.image()).items() if not path.startswith("ch/")}
    assert after == {path: what for path, what in before.items() if not path.startswith("ch/")}


@pytest.mark.parametrize("options", WAYS)
def test_a_secret_variable_is_that_of_one_command_only(builds: Builds, options: tuple[str, ...], secret: str) -> None:
    dockerfile = (
        f"FROM {BASE}\nRUN --mount=type=secret,id=t,env=TOKEN : this one; echo $TOKEN | wc -c; ls /run; sleep 1\n"
        "RUN echo ${TOKEN-unset} ${MY_TOKEN-unset}; cat /proc/*/environ | tr '\\0' '\\n' | grep -c TOKEN; true"
    )
    builds.write("Dockerfile", dockerfile)
    options = ("build", "-t", "image", "--secret=id=t,env=MY_TOKEN", *options)
    with builds.chimage.start(*options, builds.context, env={"MY_TOKEN": secret}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{len(secret) + 1}\n"
        with Watch(secret) as watch:
            said = process.communicate(timeout=60)
    # The program was given it in that way, and the command gets it so.
    allowed = ("-m\\x00chimage_core\\x00build", "this one", "sleep")
    assert [who for who in watch.seen if not any(part in who for part in allowed)] == []
    assert any("sleep" in who for who in watch.seen)
    assert said[0].split() == ["unset", "unset", "0"]
    assert secret not in said[1]
    assert secret.encode() not in whole_storage(builds)


def test_a_secret_is_not_in_the_key(builds: Builds, tmp_path: Path) -> None:
    dockerfile = f"FROM {BASE}\nRUN --mount=type=secret,id=key test -e /run/secrets/key"
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    builds.build(dockerfile, f"--secret=id=key,src={tmp_path}/a")
    assert marks(builds.build(dockerfile, f"--secret=id=key,src={tmp_path}/b")) == "**"
    assert marks(builds.build(dockerfile)) == "**"


def test_a_failed_or_killed_command_leaves_no_secret(builds: Builds, secret: str, tmp_path: Path) -> None:
    dockerfile = f"FROM {BASE}\nRUN --mount=type=secret,id=key cat /run/secrets/key >/dev/null; touch /x; {{}}"
    option = f"--secret=id=key,src={tmp_path}/secret"
    builds.build(dockerfile.format("exit 3"), option, check=False).expect(1)
    assert secret.encode() not in whole_storage(builds)
    builds.write("Dockerfile", dockerfile.format("echo started; sleep 60"))
    with builds.chimage.start("build", "-t", "image", option, builds.context) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert secret.encode() not in whole_storage(builds)
        process.kill()
        process.communicate(timeout=30)
    builds.chimage.run("build", "-t", "other", "-", env={"X": "1"}, check=False)
    assert secret.encode() not in whole_storage(builds)


def test_a_secret_that_is_missing(builds: Builds) -> None:
    assert builds.build(f"FROM {BASE}\nRUN --mount=type=secret,id=key ls /run/secrets; true").stdout == ""
    result = builds.build(f"FROM {BASE}\nRUN --mount=type=secret,id=key,required true", check=False).expect(1)
    assert "the secret is required: key" in result.stderr
    assert "--secret id=key,src=FILE" in result.stderr
    assert ":2: RUN" in result.stderr


def test_a_link_in_the_image_leads_no_secret_out_of_it(builds: Builds, secret: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for link in (outside, "/etc", "../" * 12 + str(outside)[1:]):
        said = builds.build(
            f"FROM {BASE}\nRUN ln -s {link} /run\nRUN --mount=type=secret,id=key cat /run/secrets/key",
            f"--secret=id=key,src={tmp_path}/secret",
        )
        assert said.stdout == f"{secret}\n"
        assert os.listdir(outside) == []
        assert not (builds.image() / "etc/secrets").exists()
        assert secret.encode() not in whole_storage(builds)


def test_where_secrets_come_from(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xffa,b")
    mounts = "--mount=type=secret,id=VAR --mount=type=secret,id=file"
    show = f"FROM {BASE}\nRUN {mounts} cd /run/secrets; cat VAR file | od -An -c"
    result = builds.chimage.run(
        *("build", "-t", "i", "--secret", "id=VAR", "--secret", '"id=file","src=file"', "-"),
        stdin=show,
        env={"VAR": "x"},
        cwd=tmp_path,
    )
    assert result.stdout.split() == ["x", "377", "a", ",", "b"]


@pytest.mark.parametrize(
    ("option", "status", "message"),
    [
        ("src=x", 2, "no id"),
        ("id=", 2, "no id"),
        ("id=a,path=x", 2, "expected id=ID"),
        ("id=a,src=x,env=Y", 2, "both src and env"),
        ("id=a,type=x", 2, "no such type: x"),
        ("id=a,env=NOT_SET", 2, "environment variable not set: NOT_SET"),
        ("id=a,type=env", 2, "environment variable not set: a"),
        ("id=a,src=/no/such/file", 1, "/no/such/file"),
        ("id=a,src=/", 1, "directory"),
        ("id=a,src=/dev/zero", 2, "longer than 1 MiB"),
        ('"id=a', 2, "unexpected end"),
    ],
)
def test_a_bad_secret_is_refused(builds: Builds, option: str, status: int, message: str) -> None:
    result = builds.build(f"FROM {BASE}", f"--secret={option}", check=False).expect(status)
    assert message in result.stderr


@pytest.mark.skipif(not os.path.exists("/usr/bin/ch-run"), reason="not installed: ch-run")
def test_ch_run_refuses_what_it_cannot_keep_secret(builds: Builds, tmp_path: Path, secret: str) -> None:
    for mount in ("", ",env=X"):
        dockerfile = f"FROM {BASE}\nRUN --mount=type=secret,id=key{mount} true"
        option = f"--secret=id=key,src={tmp_path}/secret"
        result = builds.build(dockerfile, option, "--runner=ch-run", check=False).expect(1)
        assert "ch-run cannot" in result.stderr
        assert "--runner=python" in result.stderr
        assert secret.encode() not in whole_storage(builds)


# Agents


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """A socket whose owner says hello to everybody."""
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def greet() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"hello\n")

        thread = threading.Thread(target=greet)
        thread.start()
        yield path
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("options", WAYS)
def test_an_agent_is_there_and_leaves_nothing(builds: Builds, options: tuple[str, ...], agent: str) -> None:
    script = "echo $SSH_AUTH_SOCK; nc -U $SSH_AUTH_SOCK 2>/dev/null || test -S $SSH_AUTH_SOCK"
    dockerfile = (
        f"FROM {BASE}\nRUN --mount=type=ssh {script}\nRUN ls -R /run 2>/dev/null; echo ${{SSH_AUTH_SOCK-unset}}"
    )
    said = builds.build(dockerfile, f"--ssh=default={agent}", *options).stdout.replace("hello\n", "")
    assert said == "/run/buildkit/ssh_agent.0\nunset\n"
    assert not (builds.image() / "run").exists()


def test_which_agent(builds: Builds, agent: str) -> None:
    dockerfile = f"FROM {BASE}\nRUN --mount=type=ssh,id=x,target=/a test -S /a; echo $SSH_AUTH_SOCK"
    assert builds.build(dockerfile, "--ssh=x", env={"SSH_AUTH_SOCK": agent}).stdout == "/a\n"
    result = builds.build(
        dockerfile.replace("ssh,id", "ssh,required,id"), "--ssh=y", env={"SSH_AUTH_SOCK": agent}, check=False
    )
    assert "the SSH agent is required: x" in result.expect(1).stderr


def test_a_bad_agent_is_refused(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    for option, message in (
        ("=x", "expected ID[=SOCKET]"),
        ("default", "$SSH_AUTH_SOCK is not set"),
        ("default=/no/such/socket", "/no/such/socket"),
        (f"default={tmp_path}/key", "ssh-add FILE"),
    ):
        assert message in builds.build(f"FROM {BASE}", f"--ssh={option}", check=False).expect(2).stderr


def test_a_proxy_is_seen_and_not_remembered(builds: Builds, secret: str) -> None:
    """It may have a password in it; and where it is another one, everything is found again all the same."""
    dockerfile = (
        "ARG http_proxy before=1\n"
        f"FROM {BASE}\n"
        "ARG http_proxy other=1\n"
        'RUN ["/bin/sh", "-c", "echo $http_proxy | wc -c > /seen"]\n'
        'RUN --mount=type=tmpfs,target=/opt/$USER ["ls", "/opt/$USER"]\n'
        "COPY <<E /length\n${http_proxy//?/x}\nE\n"
    )
    result = builds.build(dockerfile, env={"http_proxy": f"http://me:{secret}@proxy", "USER": "one"})
    seen = len(f"http://me:{secret}@proxy")
    assert builds.read("seen") == f"{seen + 1}\n"
    assert builds.read("length") == "x" * seen + "\n"
    assert secret.encode() not in whole_storage(builds)
    assert secret not in result.stdout + result.stderr
    again = builds.build(dockerfile, env={"http_proxy": "http://other", "USER": "two"})
    assert marks(again) == " *****"
