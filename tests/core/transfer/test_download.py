"""Layers on their way: cut, delayed, lied about."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import (
    Cancelled,
    ChimageError,
    ImageUnavailable,
    IntegrityError,
    RegistryUnreachable,
    StorageError,
)
from chimage_core.events.transfer import LayerRequested, TransferProgressed
from chimage_core.image.digest import Digest
from chimage_core.image.manifest import Descriptor
from chimage_core.image.mediatype import OCI_LAYER
from chimage_core.registry.transport import Patience
from chimage_core.storage.blobs import Blobs
from chimage_core.transfer.download import LayerDownloads
from tests.support.recorder import Recorder
from tests.support.registry_client import clients_of
from tests.support.servers import FileServer, serve_files

pytestmark = pytest.mark.network
BIG = os.urandom(1_000_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as files:
        yield files


class Pull:
    """Downloads layers from a server into a directory."""

    def __init__(self, server: FileServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.events = Recorder()
        self.host = server.url.partition("//")[2]

    def layer(self, content: bytes, promised: bytes | None = None, **how: Any) -> Descriptor:
        """Have the server offer a layer; `promised` is what its descriptor is of."""
        promised = content if promised is None else promised
        digest = Digest.of(promised)
        self.server.add(f"/v2/image/blobs/{digest}", content, **how)
        return Descriptor(OCI_LAYER, digest, len(promised))

    def get(self, *layers: Descriptor, always: bool = False, mirrors: str = "", **options: Any) -> list[bytes]:
        cancel = options.pop("cancel", CancelToken())
        blobs = Blobs(str(self.directory))
        with (
            clients_of(f"{self.host}/image", mirrors=mirrors, cancel=cancel, **options) as clients,
            LayerDownloads(clients, blobs, always=always, emit=self.events, cancel=cancel) as downloads,
        ):
            downloads.start(layers)
            return [Path(downloads.wait(layer).path).read_bytes() for layer in layers]

    def ranges(self) -> list[str | None]:
        return [asked.headers.get("Range") for asked in self.server.asked]

    def files(self) -> list[str]:
        return sorted(name.partition("-")[2][64:] for name in os.listdir(self.directory))


@pytest.fixture
def pull(server: FileServer, tmp_path: Path) -> Pull:
    (tmp_path / "blobs").mkdir()
    return Pull(server, tmp_path / "blobs")


def test_several_layers_one_of_them_twice(pull: Pull) -> None:
    contents = [os.urandom(50_000) for _ in range(9)]
    layers = [pull.layer(content) for content in contents]
    assert pull.get(*layers, layers[0]) == [*contents, contents[0]]
    assert len(pull.server.asked) == 9
    assert [event.is_here for event in pull.events.of(LayerRequested)] == [False] * 10
    progress = pull.events.of(TransferProgressed)[-1]
    assert (progress.done, progress.total) == (450_000, 450_000)
    pull.server.asked.clear()
    assert pull.get(*layers) == contents
    assert pull.server.asked == []
    assert pull.get(*layers, always=True) == contents
    assert len(pull.server.asked) == 9


def test_a_broken_connection_is_resumed(pull: Pull) -> None:
    layer = pull.layer(BIG, breaks_after=[100_000, 200_000, 0])
    assert pull.get(layer) == [BIG]
    starts = [int((each or "bytes=0-")[6:-1]) for each in pull.ranges()]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] >= 300_000
    assert pull.files() == [""]


def test_a_server_without_ranges_sends_all_again(pull: Pull) -> None:
    layer = pull.layer(BIG, breaks_after=[100_000], takes_ranges=False)
    assert pull.get(layer) == [BIG]
    assert pull.events.of(TransferProgressed)[-1].done == len(BIG)


def test_a_connection_that_keeps_breaking_leaves_what_came(pull: Pull) -> None:
    layer = pull.layer(BIG, breaks_after=[100_000, *[0] * 20])
    with pytest.raises(RegistryUnreachable, match="keeps breaking"):
        pull.get(layer)
    assert pull.files() == [".part"]
    pull.server.asked.clear()
    pull.layer(BIG)
    assert pull.get(layer) == [BIG]
    assert pull.ranges() == ["bytes=100000-"]


def test_busy_servers_are_asked_again(pull: Pull) -> None:
    layer = pull.layer(BIG, statuses=[(429, {"Retry-After": "1"}), (503, {})])
    assert pull.get(layer) == [BIG]


@pytest.mark.parametrize(
    ("content", "promised"),
    [(BIG, BIG[:-1] + b"x"), (BIG + b"x", BIG), (BIG * 20, BIG), (b"", b"x"), (BIG[:-1], BIG)],
    ids=["other", "one more", "endless", "nothing", "one less"],
)
@pytest.mark.parametrize("announces_length", [True, False])
def test_a_layer_that_is_not_the_promised_one_is_not_kept(
    pull: Pull, content: bytes, promised: bytes, announces_length: bool
) -> None:
    layer = pull.layer(content, promised, announces_length=announces_length, takes_ranges=False)
    with pytest.raises((IntegrityError, RegistryUnreachable)):
        pull.get(layer)
    assert "" not in pull.files()
    assert sum(path.stat().st_size for path in pull.directory.iterdir()) <= len(promised)


def test_a_part_that_is_not_the_beginning_is_thrown_away(pull: Pull) -> None:
    """Somebody else's damage, or another version of us."""
    layer = pull.layer(BIG)
    part = Path(Blobs(str(pull.directory)).path(layer.digest) + ".part")
    part.write_bytes(b"x" * 100)
    with pytest.raises(IntegrityError):
        pull.get(layer)
    assert pull.files() == []
    part.write_bytes(b"x" * 2_000_000)
    assert pull.get(layer) == [BIG]


def test_a_layer_that_no_disk_can_hold(pull: Pull) -> None:
    layer = pull.layer(b"x")._replace(size=1 << 60)
    with pytest.raises(StorageError, match="no room"):
        pull.get(layer)


def test_a_layer_that_is_missing(pull: Pull) -> None:
    layers = [pull.layer(b"a"), Descriptor(OCI_LAYER, Digest.of(b"b"), 1)]
    with pytest.raises(ImageUnavailable, match="404"):
        pull.get(*layers)


def test_what_a_mirror_lacks_comes_from_the_registry(pull: Pull) -> None:
    layer = pull.layer(BIG)
    with serve_files() as mirror:
        assert pull.get(layer, mirrors=f"{pull.host}=http://{mirror.url[7:]}/m") == [BIG]
        assert [asked.path for asked in mirror.asked] == [f"/v2/m/image/blobs/{layer.digest}"]


def test_redirects_are_followed_and_resumed_from_the_registry(pull: Pull) -> None:
    """Where a redirect leads may expire; so it is asked for anew."""
    layer = pull.layer(BIG)
    path = f"/v2/image/blobs/{layer.digest}"
    with serve_files() as other:
        url = other.add("/there", BIG, breaks_after=[300_000])
        pull.server.files[path].statuses = [(307, {"Location": url})] * 2
        assert pull.get(layer) == [BIG]
        assert [asked.headers.get("Range") for asked in other.asked] == [None, "bytes=300000-"]
    assert len(pull.server.asked) == 2


def test_who_sends_next_to_nothing_is_given_up(pull: Pull) -> None:
    layer = pull.layer(BIG, delay=0.05)
    with pytest.raises(RegistryUnreachable, match="keeps breaking"):
        pull.get(layer, patience=Patience(drip=(1 << 20, 0.1)))


def test_giving_up_takes_no_time_and_keeps_what_came(pull: Pull) -> None:
    layers = [pull.layer(BIG + bytes([number]), delay=0.05) for number in range(6)]
    cancel = CancelToken()
    timer = threading.Timer(0.5, cancel.cancel, [signal.SIGTERM])
    timer.start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        pull.get(*layers, cancel=cancel)
    timer.join()
    assert time.monotonic() - began < 5
    assert set(pull.files()) == {".part"}


def test_one_failure_ends_the_others(pull: Pull) -> None:
    slow = [pull.layer(BIG + bytes([number]), delay=0.3) for number in range(3)]  # Half a minute each.
    began = time.monotonic()
    with pytest.raises(ChimageError, match="404"):
        pull.get(*slow, Descriptor(OCI_LAYER, Digest.of(b"b"), 1))
    assert time.monotonic() - began < 10


def test_two_at_the_same_time_download_once(pull: Pull) -> None:
    layer = pull.layer(BIG, delay=0.01)
    results: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: results.append(pull.get(layer))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[BIG], [BIG]]
    assert len(pull.server.asked) == 1
