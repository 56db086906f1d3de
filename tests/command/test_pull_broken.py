"""Pulls that are killed, lied to, or cut off: nothing wrong stays, and the next one works."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import file, hardlink, symlink
from tests.support.cli import Chimage
from tests.support.registry import Image, Layer, make_image, serve_image, serve_manifest, sha256
from tests.support.servers import FileServer, serve_files

pytestmark = pytest.mark.network
LARGE = make_image(Layer.of(file(b"etc/large", os.urandom(2_000_000))), Layer.of(file(b"etc/other", b"x")))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as files:
        yield files


def left(chimage: Chimage) -> dict[str, list[str]]:
    """Return what is in the storage directory of images and downloads."""
    top = Path(chimage.storage)
    return {name: sorted(os.listdir(top / name)) for name in ("img", "work", "trash")}


def blob(image: Image, layer: int) -> str:
    return f"/v2/image/blobs/{sha256(image.layers[layer].data)}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_pull_that_is_stopped_goes_on_the_next_time(
    chimage: Chimage, server: FileServer, number: signal.Signals
) -> None:
    reference = serve_image(server, LARGE)
    server.files[blob(LARGE, 0)].delay = 0.05
    with chimage.start("pull", reference) as child:
        part = Path(chimage.storage, "blobs", sha256(LARGE.layers[0].data).replace(":", "-") + ".part")
        end = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 50_000):
            assert time.monotonic() < end
            time.sleep(0.05)
        child.send_signal(number)
        child.communicate()
    assert child.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert chimage.run("list").stdout == ""
    server.files[blob(LARGE, 0)].delay = 0
    server.asked.clear()
    chimage.run("pull", reference)
    assert [asked.headers["Range"][:6] for asked in server.asked if asked.path == blob(LARGE, 0)] == ["bytes="]
    image = Path(chimage.storage, "img", reference.replace("/", "%").replace(":", "+"))
    assert (image / "etc/other").read_bytes() == b"x"
    assert left(chimage)["work"] == []
    assert not part.exists()


HOSTILE = {
    "digest": Layer(LARGE.layers[0].data[:-1] + b"x", LARGE.layers[0].diff_id),
    "gzip": Layer(b"\x1f\x8b\x08\x00" + b"x" * 1000, sha256(b"")),
    "escape": Layer.of(symlink(b"up", b"../../../.."), file(b"../evil", b"x")),
    "link": Layer.of(hardlink(b"x", b"/etc/passwd")),
    "empty": Layer(b"", sha256(b"")),
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_hostile_layers(chimage: Chimage, server: FileServer, what: str) -> None:
    image = make_image(Layer.of(file(b"fine")), HOSTILE[what])
    reference = serve_image(server, image)
    if what == "digest":
        server.files[blob(image, 1)].content = LARGE.layers[0].data
    result = chimage.run("pull", reference, check=False)
    if what == "empty":  # An empty file is no layer for tar, but harmless.
        assert result.status in (0, 1)
        return
    assert result.status == 1
    assert "Traceback" not in result.stderr
    assert sha256(image.layers[1].data) in result.stderr
    assert left(chimage) == {"img": [], "work": [], "trash": []}
    assert not Path(chimage.storage, "..", "evil").exists()
    # What was wrong was the server, and it is repaired.
    repaired = make_image(Layer.of(file(b"fine")))
    chimage.run("pull", serve_image(server, repaired))


def test_what_registries_say_cannot_steer_a_terminal(chimage: Chimage, server: FileServer) -> None:
    evil = "\x1b]0;evil\x07\x1b[2J"
    image = make_image(Layer.of(file(b"x")), architecture=f"amd64{evil}")
    result = chimage.run("pull", "--arch=s390x", serve_image(server, image), check=False)
    assert result.status == 1
    assert "\x1b" not in result.stderr
    layer = Layer(b"x", sha256(b"x"), f"application/{evil}")
    assert "\x1b" not in chimage.run("pull", serve_image(server, make_image(layer)), check=False).stderr
    body = b'{"errors": [{"code": "\\u001b[2J", "message": "\\u001b[31m"}]}'
    server.add("/v2/image/manifests/latest", body, statuses=[(404, {"X": "y"})])
    assert "\x1b" not in chimage.run("pull", f"{server.url[7:]}/image", check=False).stderr


def test_an_image_that_was_there_stays_when_the_next_one_is_broken(chimage: Chimage, server: FileServer) -> None:
    reference = serve_image(server, make_image(Layer.of(file(b"good"))))
    chimage.run("pull", reference)
    serve_image(server, make_image(HOSTILE["gzip"]))
    chimage.run("pull", reference, check=False).expect(1)
    serve_manifest(server, b"{}", "application/json")
    chimage.run("pull", reference, check=False).expect(1)
    image = Path(chimage.storage, "img", reference.replace("/", "%").replace(":", "+"))
    assert (image / "good").exists()
    assert left(chimage)["work"] == []
