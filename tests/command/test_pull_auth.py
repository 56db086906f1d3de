"""Registries that want to know who we are, and certificates that only a site knows."""

import base64
import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.archives import file
from tests.support.cli import Chimage
from tests.support.host import needs_program
from tests.support.registry import (
    PASSWORD,
    USER,
    Layer,
    Registry,
    htpasswd,
    make_certificate,
    make_image,
    run_registry,
)

pytestmark = [pytest.mark.network, needs_program("docker-registry", "openssl")]
GIVEN = {"CH_IMAGE_USERNAME": USER, "CH_IMAGE_PASSWORD": PASSWORD}
ENCODED = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    """Run a registry with TLS by a private authority that wants a password; give it and the reference of an image."""
    directory = tmp_path_factory.mktemp("private")
    with run_registry(
        directory / "registry", tls=make_certificate(directory, "site"), auth=htpasswd(directory)
    ) as registry:
        yield registry, registry.put(make_image(Layer.of(file(b"secret"))), "team/tool")


def trusting(registry: Registry, env: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(registry.ca), **(env or {})}


def no_secret(text: str) -> bool:
    return PASSWORD not in text and ENCODED not in text


def test_variables_are_used_when_asked_to(chimage: Chimage, private: tuple[Registry, str]) -> None:
    registry, reference = private
    refused = chimage.run("pull", reference, env=trusting(registry, GIVEN), check=False)
    assert refused.status == 1
    assert "hint: look at the name; for what is not public, authenticate: --auth" in refused.stderr
    done = chimage.run("pull", "--auth", "-vvv", reference, env=trusting(registry, GIVEN))
    assert no_secret(done.stderr)
    by_variable = chimage.run("pull", reference, env=trusting(registry, {**GIVEN, "CH_IMAGE_AUTH": "yes"}))
    assert "using the build cache" in by_variable.stderr
    wrong = trusting(registry, {**GIVEN, "CH_IMAGE_PASSWORD": "wr0ng"})
    failed = chimage.run("pull", "--auth", "-vv", reference, env=wrong, check=False)
    assert failed.status == 1
    assert "whether these credentials may have it" in failed.stderr
    assert "wr0ng" not in failed.stderr


def test_certificates(chimage: Chimage, private: tuple[Registry, str]) -> None:
    registry, reference = private
    unknown = chimage.run("pull", "--auth", reference, env=GIVEN, check=False)
    assert unknown.status == 1
    assert "certificate not accepted" in unknown.stderr
    assert "--cacert" in unknown.stderr
    chimage.run("pull", "--auth", "--cacert", registry.ca or "", reference, env=GIVEN)
    # A variable for certificates once defeated the option.
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        chimage.run("pull", "--auth", "--tls-no-verify", reference, env={**GIVEN, variable: "/etc/passwd"})
    bad = chimage.run("pull", "--cacert", "/nonexistent", reference, check=False)
    assert bad.status == 2


def test_login_files_are_read_and_that_is_said(chimage: Chimage, private: tuple[Registry, str], tmp_path: Path) -> None:
    registry, reference = private
    home = tmp_path / "home"
    (home / ".docker").mkdir(parents=True)
    path = home / ".docker/config.json"
    path.write_text(json.dumps({"auths": {registry.host: {"auth": ENCODED}}}))
    before = path.stat()
    env = trusting(registry, {"HOME": str(home)})
    done = chimage.run("pull", "--auth", "-v", reference, env=env)
    assert f"credentials for {registry.host}: from {path}" in done.stderr
    assert no_secret(done.stderr)
    assert (path.stat().st_mtime_ns, os.listdir(home)) == (before.st_mtime_ns, [".docker"])
    for options, more in ((["--no-login-files"], {}), ([], {"CH_IMAGE_LOGIN_FILES": "no"})):
        refused = chimage.run("pull", "--auth", *options, reference, env={**env, **more}, check=False)
        assert refused.status == 1
        assert "there is no terminal to ask at" in refused.stderr


def test_who_sits_at_the_terminal_is_asked(chimage: Chimage, private: tuple[Registry, str]) -> None:
    registry, reference = private
    ours, theirs = pty.openpty()
    env = chimage.environment(trusting(registry, {"HOME": "/nonexistent"}))
    argv = ["setsid", "-c", "-w", *chimage.argv("pull", "--auth", reference)]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as child:
        os.close(theirs)
        shown = _answer(ours, "username: ", USER) + _answer(ours, "password: ", PASSWORD) + _rest(ours)
    os.close(ours)
    assert child.returncode == 0, shown
    assert f"registry: {registry.host}" in shown
    assert "done" in shown
    assert no_secret(shown)


def _answer(terminal: int, question: str, answer: str) -> str:
    shown = ""
    while not shown.endswith(question):
        shown += os.read(terminal, 1000).decode()
    time.sleep(0.2)  # Until the echo is off.
    os.write(terminal, f"{answer}\n".encode())
    return shown


def _rest(terminal: int) -> str:
    shown = ""
    while True:
        try:
            data = os.read(terminal, 1000)
        except OSError:  # How Linux says that the other side is closed.
            data = b""
        if not data:
            return shown
        shown += data.decode()
