"""`pull` from a real registry: which image, what becomes of it, and what is said."""

import json
import os
import stat
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from chimage_core.image import mediatype
from tests.support.archives import directory, file, hardlink, header, listing, symlink, tar
from tests.support.cli import Chimage
from tests.support.host import needs_program
from tests.support.registry import Layer, Registry, make_image, make_index, sha256

pytestmark = pytest.mark.network

BASE = Layer.of(
    directory(b"usr"), directory(b"usr/bin"), symlink(b"bin", b"usr/bin"), file(b"usr/bin/sh", b"shell", mode=0o755),
    directory(b"etc"), file(b"etc/gone", b"x"), file(b"etc/kept", b"below"), directory(b"opt"), file(b"opt/old", b"x"),
)  # fmt: skip
UPPER = Layer.of(
    file(b"etc/.wh.gone"), file(b"etc/kept", b"above"), file(b"opt/.wh..wh..opq"), file(b"opt/new", b"new"),
    file(b"bin/tool", b"tool", mode=0o4755), header(b"etc/device", kind=b"3"), hardlink(b"opt/same", b"opt/new"),
)  # fmt: skip


def pulled(chimage: Chimage, name: str) -> dict[str, Any]:
    """Return what is in an image, without what we add to each."""
    root = Path(chimage.storage) / "img" / name
    ours = ("ch", "dev", "mnt", "proc", "sys", "tmp", "etc/hosts", "etc/resolv.conf")
    return {path: what for path, what in listing(root).items() if not path.startswith(ours)}


def metadata(chimage: Chimage, name: str) -> Any:
    return json.loads((Path(chimage.storage) / "img" / name / "ch/metadata.json").read_text())


def blobs(chimage: Chimage) -> list[str]:
    return sorted(os.listdir(Path(chimage.storage) / "blobs"))


def states(chimage: Chimage) -> int:
    """Return how many states the build cache has."""
    out = chimage.run("build-cache").stdout
    return int(next(line.split(":")[1] for line in out.splitlines() if line.startswith("state IDs")))


def test_an_image_of_two_layers(chimage: Chimage, registry: Registry) -> None:
    image = make_image(
        BASE, UPPER,
        Env=["PATH=/usr/bin", "A=b=c"], WorkingDir="/w", Volumes={"/vol/deep": {}, "/etc/kept": {}}, Cmd=["sh"],
        Labels={"l": "m"},
    )  # fmt: skip
    reference = registry.put(image, "two/layers")
    done = chimage.run("pull", reference, "two")
    assert pulled(chimage, "two+latest") == {
        "bin": "-> usr/bin",
        "usr": None,
        "usr/bin": None,
        "usr/bin/sh": b"shell",
        "usr/bin/tool": b"tool",
        "etc": None,
        "etc/kept": b"above",
        "opt": None,
        "opt/new": b"new",
        "opt/same": b"new",
        "vol": None,
        "vol/deep": None,
    }
    root = Path(chimage.storage) / "img/two+latest"
    assert stat.S_IMODE((root / "usr/bin/tool").stat().st_mode) == 0o755
    assert (root / "opt/new").stat().st_ino == (root / "opt/same").stat().st_ino
    found = metadata(chimage, "two+latest")
    assert (found["arch"], found["env"], found["cwd"]) == ("amd64", {"PATH": "/usr/bin", "A": "b=c"}, "/w")
    assert (found["cmd"], found["labels"], found["volumes"]) == (["sh"], {"l": "m"}, ["/etc/kept", "/vol/deep"])
    assert (root / "ch/environment").read_text() == "A=b=c\nPATH=/usr/bin\n"
    first, second = (sha256(layer.data)[7:14] for layer in (BASE, UPPER))
    assert done.stderr.splitlines() == [
        f"pulling image:    {reference}",
        "destination:      two",
        "requesting arch:  amd64",
        "manifest: downloading",
        "config: downloading",
        f"layer 1/2: {first}: downloading",
        f"layer 2/2: {second}: downloading",
        "flattening image",
        "validating tarball members",
        "resolving whiteouts",
        f"layer 1/2: {first}: extracting",
        f"layer 2/2: {second}: extracting",
        "device files left out: 1",
        "files lost their setuid or setgid bits, which mean nothing without privilege: 1",
        "warning: VOLUME: can't make directory in image: /etc/kept: /etc/kept is not a directory",
        "image arch: amd64",
        "done",
    ]
    assert done.stdout == ""


def test_an_unchanged_image_is_no_new_state(chimage: Chimage, registry: Registry) -> None:
    reference = registry.put(make_image(BASE), "unchanged")
    first = chimage.run("pull", reference, "--json").json_lines()[-1]
    before = (states(chimage), blobs(chimage))
    again = chimage.run("pull", reference)
    assert "using the build cache" in again.stderr
    assert "extracting" not in again.stderr
    other = chimage.run("pull", reference, "other", "--json").json_lines()[-1]
    assert (first["is_new"], other["is_new"], other["state"]) == (True, False, first["state"])
    assert (states(chimage), blobs(chimage)) == before
    assert pulled(chimage, "other+latest") == pulled(chimage, reference.replace("/", "%").replace(":", "+"))
    registry.put(make_image(BASE, UPPER), "unchanged")
    changed = chimage.run("pull", reference, "--json").json_lines()[-1]
    assert changed["is_new"]
    assert changed["state"] != first["state"]
    assert states(chimage) == before[0] + 1


def test_layers_are_downloaded_once(chimage: Chimage, registry: Registry) -> None:
    reference = registry.put(make_image(BASE), "once")
    chimage.run("pull", reference, "--no-cache")
    again = chimage.run("pull", reference, "--no-cache")
    assert f"layer 1/1: {sha256(BASE.data)[7:14]}: using existing file" in again.stderr
    always = chimage.run("pull", reference, "--no-cache", "--always-download")
    assert "using existing file" not in always.stderr


def test_a_layer_that_was_damaged_in_storage_is_downloaded_again(chimage: Chimage, registry: Registry) -> None:
    reference = registry.put(make_image(BASE, UPPER), "damaged")
    chimage.run("pull", reference, "--no-cache")
    expected = pulled(chimage, reference.replace("/", "%").replace(":", "+"))
    for layer in (BASE, UPPER):
        path = Path(chimage.storage) / "blobs" / sha256(layer.data).replace(":", "-")
        path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])
    done = chimage.run("pull", reference, "--no-cache")
    assert done.stderr.count("damaged since it was downloaded") == 2
    assert pulled(chimage, reference.replace("/", "%").replace(":", "+")) == expected


def test_last_layer(chimage: Chimage, registry: Registry) -> None:
    reference = registry.put(make_image(BASE, UPPER), "last")
    chimage.run("pull", reference, "all")
    done = chimage.run("pull", "--last-layer", "1", reference, "some")
    assert "layer 1/1" in done.stderr
    assert pulled(chimage, "some+latest")["etc/kept"] == b"below"
    chimage.run("pull", "--last-layer", "9", reference, "every")
    assert pulled(chimage, "every+latest") == pulled(chimage, "all+latest")


@pytest.mark.parametrize("start", ["", "./", "../"])
def test_an_image_directory_as_in_older_versions(
    chimage: Chimage, registry: Registry, tmp_path: Path, start: str
) -> None:
    reference = registry.put(make_image(BASE, Env=["A=b"]), "directory")
    (tmp_path / "here").mkdir()
    target = tmp_path if start == "../" else tmp_path / "here"
    path = f"{start}image" if start else f"{target}/image"
    chimage.run("pull", reference, path, cwd=tmp_path / "here")
    assert (target / "image/usr/bin/sh").read_bytes() == b"shell"
    assert (target / "image/ch/environment").read_text() == "A=b\n"
    assert chimage.run("list").stdout == ""
    refused = chimage.run("pull", reference, path, cwd=tmp_path / "here", check=False)
    assert refused.status == 2
    assert "no empty directory" in refused.stderr
    assert sorted(os.listdir(target)) in (["image"], ["here", "image", "storage"])


def test_parse_only_touches_nothing(chimage: Chimage) -> None:
    done = chimage.run("pull", "--parse-only", "example.com:8080/path1/path2/name:tag")
    assert done.stdout.splitlines() == [
        "as string:    example.com:8080/path1/path2/name:tag",
        "for filename: example.com+8080%path1%path2%name+tag",
        "fields:",
        "  host    'example.com'",
        "  port    8080",
        "  path    ['path1', 'path2']",
        "  name    'name'",
        "  tag     'tag'",
        "  digest  None",
    ]
    assert not Path(chimage.storage).exists()
    assert chimage.run("pull", "--parse-only", "--json", "name").json_lines()[-1]["file_name"] == "name+latest"


AMD = make_image(BASE, architecture="amd64")
ARM64 = make_image(BASE, Layer.of(file(b"arm64")), architecture="arm64")
ARM7 = make_image(BASE, Layer.of(file(b"arm7")), architecture="arm")
ARM7.config["variant"] = "v7"
INDEX = make_index(
    {**AMD.descriptor({"architecture": "amd64", "os": "windows"}), "digest": sha256(AMD.manifest)},
    ARM7.descriptor({"architecture": "arm", "variant": "v7", "os": "linux"}),
    ARM64.descriptor({"architecture": "arm64", "variant": "v8", "os": "linux"}),
    AMD.descriptor({"architecture": "amd64", "os": "linux"}),
    ARM64.descriptor({"architecture": "amd64", "os": "linux"}),
    ARM7.descriptor(
        {"architecture": "unknown", "os": "unknown"},
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    ),
)


@pytest.fixture(scope="module")
def many(registry: Registry) -> str:
    """Return the reference of an index of images."""
    return registry.put_index("many", "latest", INDEX, [AMD, ARM64, ARM7])


@pytest.mark.parametrize(
    ("arch", "found"),
    [("amd64", "amd64"), ("yolo", "amd64"), ("host", "amd64"), ("arm64", "arm64"), ("arm64/v8", "arm64"),
     ("arm/v7", "arm/v7"), ("arm", "arm/v7")],
)  # fmt: skip
def test_architectures(chimage: Chimage, many: str, arch: str, found: str) -> None:
    if arch == "host" and os.uname().machine != "x86_64":
        pytest.skip("for x86-64")
    done = chimage.run("pull", "--arch", arch, many, "image")
    assert metadata(chimage, "image+latest")["arch"] == found
    assert f"requesting arch:  {'amd64' if arch == 'host' else arch}" in done.stderr
    assert "manifest list: downloading\nmanifest: downloading\nconfig: downloading\n" in done.stderr
    if os.uname().machine == "x86_64":
        doubt = "" if found == "amd64" else " (may not match host amd64)"
        assert f"image arch: {found}{doubt}\n" in done.stderr
    assert chimage.run("list").stdout == f"image:latest ({found})\n"


def test_an_architecture_that_is_not_there(chimage: Chimage, many: str) -> None:
    refused = chimage.run("pull", "--arch", "s390x", many, check=False)
    assert refused.status == 1
    assert "not there for architecture s390x" in refused.stderr
    assert "available: amd64, arm/v7, arm64/v8\n" in refused.stderr
    assert chimage.run("list").stdout == ""


def test_an_image_without_an_index(chimage: Chimage, registry: Registry) -> None:
    """The manual: architecture-unaware images are taken as amd64; else --arch=yolo has to be said."""
    reference = registry.put(ARM64, "single")
    assert "image arch: arm64" in chimage.run("pull", "--arch=amd64", reference).stderr
    assert "image arch: arm64" in chimage.run("pull", "--arch=arm64", reference).stderr
    assert "image arch: arm64" in chimage.run("pull", "--arch=yolo", reference).stderr
    assert "available: arm64\n" in chimage.run("pull", "--arch=s390x", reference, check=False).stderr


def test_an_image_by_digest(chimage: Chimage, registry: Registry, many: str) -> None:
    for version, arch in ((sha256(INDEX), "amd64"), (sha256(ARM64.manifest), "arm64")):
        reference = f"{many.removesuffix(':latest')}@{version}"
        assert f"image arch: {arch}" in chimage.run("pull", f"--arch={arch}", reference).stderr
    refused = chimage.run("pull", f"{registry.host}/many@sha256:{'0' * 64}", check=False)
    assert refused.status == 1
    assert "MANIFEST_UNKNOWN" in refused.stderr


def test_layers_whose_type_is_wrong(chimage: Chimage, registry: Registry) -> None:
    """What a layer is says its content."""
    plain = tar(file(b"plain"))
    layers = [
        Layer(plain, sha256(plain)),  # Says gzip.
        Layer(Layer.of(file(b"gzip")).data, sha256(tar(file(b"gzip"))), mediatype.DOCKER_LAYER),
    ]
    image = make_image(*layers, BASE)
    chimage.run("pull", registry.put(image, "mislabelled"), "image")
    assert {"plain", "gzip", "etc"} <= pulled(chimage, "image+latest").keys()


def test_zstd_and_oci(chimage: Chimage, registry: Registry) -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = tar(file(b"zstd"))
    data = zstandard.ZstdCompressor().compress(plain)
    layer = Layer(data, sha256(plain), f"{mediatype.OCI_LAYER}+zstd")
    image = make_image(layer)
    image.media_type = mediatype.OCI_MANIFEST
    chimage.run("pull", registry.put(image, "zstd"), "image")
    assert pulled(chimage, "image+latest").keys() == {"etc", "usr", "bin", "zstd"}


def test_several_gzip_members_and_the_index_of_estargz(chimage: Chimage, registry: Registry) -> None:
    parts = [file(b"a", b"1"), file(b"b", b"2"), file(b"stargz.index.json", b"{}"), bytes(1024)]
    data = b"".join(_gzip(part) for part in parts)
    layer = Layer(data, sha256(b"".join(parts)))
    chimage.run("pull", registry.put(make_image(layer), "estargz"), "image")
    assert {"a", "b"} <= pulled(chimage, "image+latest").keys()


def _gzip(data: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    return engine.compress(data) + engine.flush()


def test_content_that_differs_from_the_configuration(chimage: Chimage, registry: Registry) -> None:
    layer = Layer(BASE.data, sha256(b"other"))
    refused = chimage.run("pull", registry.put(make_image(layer), "diffid"), check=False)
    assert refused.status == 1
    assert "differs" in refused.stderr
    assert sha256(BASE.data) in refused.stderr
    assert chimage.run("list").stdout == ""
    assert os.listdir(Path(chimage.storage) / "work") == []


def test_things_that_are_no_images(chimage: Chimage, registry: Registry) -> None:
    chart = make_image(BASE)
    data = chart.config_data
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": sha256(data), "size": len(data)}
    chart.changes = {"config": config, "mediaType": mediatype.OCI_MANIFEST}
    chart.media_type = mediatype.OCI_MANIFEST
    refused = chimage.run("pull", registry.put(chart, "chart"), check=False)
    assert refused.status == 1
    assert "not a container image" in refused.stderr
    assert "helm" in refused.stderr


def test_an_image_that_is_not_there(chimage: Chimage, registry: Registry) -> None:
    refused = chimage.run("pull", f"{registry.host}/not/there", check=False)
    assert refused.status == 1
    assert "not in the registry, or not for us" in refused.stderr
    assert "hint: " in refused.stderr


@needs_program("skopeo")
def test_what_skopeo_has_copied(chimage: Chimage, registry: Registry, tmp_path: Path) -> None:
    """Another program's idea of manifests: OCI, and zstd layers."""
    source = registry.put(make_image(BASE, UPPER, Env=["A=b"]), "skopeo/source")
    chimage.run("pull", source, "one")
    for format_ in ("oci", "v2s2"):
        target = f"{registry.host}/skopeo/{format_}"
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"--format={format_}", f"docker://{source}", f"docker://{target}"],
            check=True, capture_output=True, env=chimage.environment(),
        )  # fmt: skip
        chimage.run("pull", target, "other")
        assert pulled(chimage, "other+latest") == pulled(chimage, "one+latest")
        assert metadata(chimage, "other+latest")["env"] == {"A": "b"}


def test_details_of_an_image_in_a_registry(chimage: Chimage, many: str) -> None:
    asking = {"CH_IMAGE_PULL": "missing"}
    digests = [sha256(each.manifest)[7:18] for each in (ARM7, ARM64, AMD)]
    expected = [
        f"details of image:    {many}",
        "in local storage:    no",
        f"full remote ref:     {many}",
        "available remotely:  yes",
        "remote arch-aware:   yes",
        f"host architecture:   {'amd64' if os.uname().machine == 'x86_64' else ''}",
        f"archs available:     arm/v7    {digests[0]}",
        f"                     arm64/v8  {digests[1]}",
        f"                     amd64     {digests[2]}",
    ]
    lines = chimage.run("list", many, env=asking).stdout.splitlines()
    assert [line for line in lines if "host arch" not in line] == [line for line in expected if "host arch" not in line]
    assert not Path(chimage.storage).exists()
    document = chimage.run("list", "--json", many, env=asking).json()
    assert document["remote"]["digest"] == sha256(INDEX)
    assert document["remote"]["architectures"]["amd64"] == sha256(AMD.manifest)
    gone = many.replace("many", "gone")
    assert "available remotely:  no\n" in chimage.run("list", gone, env=asking).stdout
    unreachable = chimage.run("list", "127.0.0.1:1/image", env=asking)
    assert "available remotely:  unknown\n" in unreachable.stdout
    assert "warning: no answer from 127.0.0.1" in unreachable.stderr
