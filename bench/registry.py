"""A registry with images to pull, for as long as a scenario runs: Debian's docker-registry, with TLS, on this host."""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from isal import igzip

from bench import inputs
from bench.contents import Contents
from bench.measure import MeasuringError
from chimage_core.image import mediatype
from tests.support.registry import PROGRAM, Image, Layer, Registry, make_image, run_registry
from tests.support.registry import make_certificate as certificate

MANY_LAYERS = 64
LARGE_LAYERS, LARGE_WHITEOUTS = 8, 1_000
_ADDED = 1_000
"""Files that each upper layer of the large image adds or replaces."""


class Served(NamedTuple):
    """What steps need to know of a server."""

    host: str
    """Stands for REGISTRY in their arguments."""
    environment: dict[str, str]


@contextlib.contextmanager
def serving(shared: str) -> Iterator[Served]:
    """Run a registry that has what `small_images` or `large_images` made in `shared`."""
    if shutil.which(PROGRAM) is None:
        raise MeasuringError(f"{PROGRAM} is not installed")
    directory = Path(shared, "registry")
    tls = certificate(directory, "authority")
    with run_registry(directory, tls=tls) as registry:
        for name in sorted(os.listdir(os.path.join(shared, "images"))):
            _put(registry, name, sorted(Path(shared, "images", name).iterdir()))
        yield Served(registry.host, {"REQUESTS_CA_BUNDLE": os.fspath(tls[0])})


def no_images(shared: str) -> None:
    """Make nothing: what is there is pushed."""
    os.makedirs(os.path.join(shared, "images"))


def small_images(shared: str) -> None:
    """Make `debian`, of one layer, and `many`, of MANY_LAYERS small ones."""
    _copy(os.path.join(shared, "debian.tar"), _layer(shared, "debian", 0))
    for number in range(MANY_LAYERS):
        with tarfile.open(_layer(shared, "many", number), "w") as tarball:
            for each in range(5):
                _add(tarball, f"opt/many{number}/{each}", b"%d.%d\n" % (number, each) * 700)


def large_images(shared: str) -> None:
    """Make `large`: 50,000 files in one layer, and more of which each whites out, replaces and adds files."""
    base = _layer(shared, "large", 0)
    inputs.large_image(base)
    with tarfile.open(base) as tarball:
        names = [member.name for member in tarball if member.isfile() and "/opt/large/" in member.name]
    source, contents = random.Random(8), Contents(8)
    source.shuffle(names)
    uppers = LARGE_LAYERS - 1
    for number in range(1, LARGE_LAYERS):
        with tarfile.open(_layer(shared, "large", number), "w") as tarball:
            for name in names[number * LARGE_WHITEOUTS // uppers : (number + 1) * LARGE_WHITEOUTS // uppers]:
                head, _, last = name.rpartition("/")
                _add(tarball, f"{head}/.wh.{last}", b"")
            for each in range(_ADDED):
                replaced = names[2 * LARGE_WHITEOUTS + number * _ADDED + each]
                _add(tarball, replaced, contents.whole(number * _ADDED + each, source.randrange(8_000)))


def _layer(shared: str, image: str, number: int) -> str:
    directory = os.path.join(shared, "images", image)
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, f"{number:03}.tar")


def _copy(source: str, target: str) -> None:
    os.link(source, target)


def _add(tarball: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o644, inputs.MTIME
    tarball.addfile(member, io.BytesIO(data))


def _put(registry: Registry, name: str, tarballs: Sequence[Path]) -> None:
    """Compress layers as registries have them, upload them and forget the plain ones."""
    layers = []
    for path in tarballs:
        with path.open("rb") as plain, igzip.open(f"{path}.gz", "wb", compresslevel=2) as packed:
            diff_id = hashlib.sha256()
            while data := plain.read(1 << 20):
                diff_id.update(data)
                packed.write(data)
        path.unlink()
        data = Path(f"{path}.gz").read_bytes()
        registry.put_blob(name, data)
        layers.append(_Sent(data, f"sha256:{diff_id.hexdigest()}"))
        Path(f"{path}.gz").unlink()
    _put_manifest(registry, name, layers)


class _Sent:
    """A layer that the registry has: what its descriptor says, without its content."""

    def __init__(self, data: bytes, diff_id: str) -> None:
        self.diff_id = diff_id
        self._descriptor = Layer(data, diff_id).descriptor()

    def descriptor(self) -> dict[str, object]:
        return self._descriptor


def _put_manifest(registry: Registry, name: str, layers: Sequence[_Sent]) -> None:
    image: Image = make_image(*layers, Env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])  # type: ignore[arg-type]
    registry.put_blob(name, image.config_data)
    document = json.loads(image.manifest)
    registry.put_manifest(name, "1", json.dumps(document).encode(), mediatype.DOCKER_MANIFEST)
