"""`import` of archives of layers: OCI layouts, and what `docker save` writes; from good programs and from bad ones."""

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds
from tests.support.cli import Chimage, CliResult
from tests.support.host import needs_program
from tests.support.layouts import Layout, config, digest, docker_archive, layer

BASE = layer({"etc/base": "base", "etc/gone": "x", "bin/sh": ""})
UPPER = layer({"etc/upper": "upper", "etc/.wh.gone": ""})
SETTINGS: dict[str, Any] = {"Env": ["A=b c"], "WorkingDir": "/w", "Cmd": ["run"], "Volumes": {"/data": {}}}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def check(storage: Path, name: str = "foo+latest") -> None:
    image = storage / "img" / name
    assert (image / "etc/base").read_text() == "base"
    assert (image / "etc/upper").read_text() == "upper"
    assert not (image / "etc/gone").exists()
    assert (image / "data").is_dir()
    metadata = json.loads((image / "ch/metadata.json").read_text())
    assert (metadata["env"], metadata["cwd"], metadata["cmd"]) == ({"A": "b c"}, "/w", ["run"])
    assert (image / "ch/environment").read_text() == "A=b c\n"


def refused(chimage: Chimage, storage: Path, path: Path, *options: str) -> CliResult:
    """It is one error that names the archive, and nothing stays."""
    result = chimage.run("import", *options, path, "foo", check=False).expect(1)
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.stderr
    assert os.fspath(path) in result.stderr
    assert os.listdir(storage / "img") == os.listdir(storage / "work") == []
    return result


# Good ones


def test_an_oci_layout(chimage: Chimage, storage: Path, layout: Layout) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS))
    result = chimage.run("import", layout.directory, "foo")
    check(storage)
    assert "no metadata" not in result.stderr


@pytest.mark.parametrize("packer", [None, *(pytest.param(p, marks=needs_program(p)) for p in ("gzip", "xz", "zstd"))])
def test_an_oci_archive(chimage: Chimage, storage: Path, layout: Layout, tmp_path: Path, packer: str | None) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS))
    archive = layout.archive(tmp_path / "archive")
    if packer is not None:
        archive.write_bytes(subprocess.run([packer, "-c", archive], capture_output=True, check=True).stdout)
    chimage.run("import", archive, "foo")
    check(storage)
    assert os.listdir(storage / "work") == []


def test_an_oci_layout_with_a_directory_around_it(
    chimage: Chimage, storage: Path, layout: Layout, tmp_path: Path
) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS))
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.add(layout.directory, arcname="layout")
    chimage.run("import", tmp_path / "archive", "foo")
    check(storage)


def test_compressed_layers(chimage: Chimage, storage: Path, layout: Layout) -> None:
    entry = layout.manifest([BASE, UPPER], **SETTINGS)
    manifest = json.loads(layout.file_of(entry).read_bytes())
    packed = [layout.blob(gzip.compress(each), "application/vnd.oci.image.layer.v1.tar+gzip") for each in (BASE, UPPER)]
    layout.add(layout.blob(json.dumps({**manifest, "layers": packed}).encode(), entry["mediaType"]))
    chimage.run("import", layout.directory, "foo")
    check(storage)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_what_docker_has_saved(chimage: Chimage, storage: Path, tmp_path: Path, mode: str) -> None:
    data = config([BASE, UPPER], **SETTINGS)
    names = [f"{digest(each)[7:]}/layer.tar" for each in (BASE, UPPER)]
    config_name = f"{digest(data)[7:]}.json"
    entry = {"Config": config_name, "RepoTags": ["foo:latest"], "Layers": names}
    files = {names[0]: BASE, names[1]: UPPER, config_name: data}
    chimage.run("import", docker_archive(tmp_path / "saved", [entry], files, mode), "foo")
    check(storage)


def test_old_docker_linked_layers_that_are_equal(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    data = config([BASE, UPPER, UPPER], **SETTINGS)
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "../b/layer.tar"
    entry = {"Config": "config.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}
    files: dict[str, bytes | tarfile.TarInfo] = {
        "a/layer.tar": BASE,
        "b/layer.tar": UPPER,
        "c/layer.tar": link,
        "config.json": data,
    }
    chimage.run("import", docker_archive(tmp_path / "saved", [entry], files), "foo")
    check(storage)


@pytest.mark.userns
@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_what_we_have_exported(builds: Builds, tmp_path: Path, form: str) -> None:
    builds.build('FROM base\nENV A=\'b c\'\nWORKDIR /w\nSHELL ["/bin/ash", "-c"]\nONBUILD RUN true\nRUN echo x > y')
    builds.chimage.run("export", f"--format={form}", "image", tmp_path / "out")
    builds.chimage.run("import", tmp_path / "out", "back")
    before, after = builds.metadata(), builds.metadata("back+latest")
    # That the last one has the layer is all that is new.
    assert [entry["created_by"] for entry in after.pop("history")] == [
        entry["created_by"] for entry in before.pop("history")
    ]
    assert after == before
    assert builds.read("w/y", "back+latest") == "x\n"
    (tmp_path / "again").mkdir()
    for name in ("image", "back"):
        builds.chimage.run("export", "--format=oci-archive", name, tmp_path / "again" / name)
    first, second = ((tmp_path / "again" / name) for name in ("image", "back"))
    assert _layers(first) == _layers(second)


def _layers(archive: Path) -> list[str]:
    """The largest blob of an archive is its layer."""
    with tarfile.open(archive) as opened:
        return [max(opened.getmembers(), key=lambda member: member.size).name]


@needs_program("skopeo")
@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_what_skopeo_writes(chimage: Chimage, storage: Path, layout: Layout, tmp_path: Path, form: str) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS), "1.2")
    target = f"{form}:{tmp_path}/out" + (":tool:1.2" if form == "docker-archive" else ":1.2")
    argv = ["skopeo", "--insecure-policy", "copy", f"oci:{layout.directory}:1.2", target]
    subprocess.run(argv, check=True, capture_output=True)
    chimage.run("import", tmp_path / "out", "foo")
    check(storage)


@needs_program("umoci")
def test_what_umoci_writes(chimage: Chimage, storage: Path, layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS), "1.2")
    bundle = tmp_path / "bundle"
    image = ["--image", f"{layout.directory}:1.2"]
    subprocess.run(["umoci", "unpack", "--rootless", *image, bundle], check=True, capture_output=True)
    (bundle / "rootfs/etc/more").write_text("more")
    (bundle / "rootfs/etc/base").unlink()
    subprocess.run(["umoci", "repack", *image, bundle], check=True, capture_output=True)
    chimage.run("import", layout.directory, "foo")
    found = storage / "img/foo+latest/etc"
    assert ((found / "more").read_text(), (found / "base").exists()) == ("more", False)


def test_what_is_imported_can_be_built_on(builds: Builds, layout: Layout) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS))
    builds.chimage.run("import", layout.directory, "foo")
    builds.build("FROM foo\nENV C=$A")
    assert builds.metadata()["env"]["C"] == "b c"


# Several images


@pytest.fixture
def several(layout: Layout) -> Layout:
    for tag in ("1", "2"):
        for architecture in ("amd64", "arm64"):
            content = layer({"bin/sh": "", "which": f"{tag} {architecture}"})
            layout.add(layout.manifest([content], architecture=architecture), tag, architecture)
    return layout


@pytest.mark.parametrize(
    ("options", "reference", "expected"),
    [
        (["--select=1", "--arch=arm64"], "foo", "1 arm64"),
        (["--select=2", "--arch=amd64"], "foo", "2 amd64"),
        (["--select=2"], "foo", "2 "),
        (["--select=1", "--arch=yolo"], "foo", "1 amd64"),
    ],
)
def test_one_of_several_is_selected(
    chimage: Chimage, storage: Path, several: Layout, options: list[str], reference: str, expected: str
) -> None:
    chimage.run("import", *options, several.directory, reference)
    assert (storage / "img/foo+latest/which").read_text().startswith(expected)


def test_the_name_here_selects_the_same_there(chimage: Chimage, storage: Path, layout: Layout) -> None:
    for name in ("tool:1", "docker.io/library/foo:latest", "other:latest"):
        layout.add(layout.manifest([layer({"bin/sh": "", "which": name})]), name)
    chimage.run("import", layout.directory, "foo")
    assert (storage / "img/foo+latest/which").read_text() == "docker.io/library/foo:latest"


@pytest.mark.parametrize("options", [[], ["--select=3"], ["--select=1", "--arch=s390x"]])
def test_what_there_is_to_choose_from_is_told(
    chimage: Chimage, storage: Path, several: Layout, options: list[str]
) -> None:
    result = refused(chimage, storage, several.directory, *options)
    assert "  1 (arm64)\n" in result.stderr
    assert "--select=NAME" in result.stderr


def test_a_nested_index_of_platforms(chimage: Chimage, storage: Path, layout: Layout) -> None:
    """As Docker saves them: with attestations, and with platforms whose content is not here."""
    machine = os.uname().machine
    entries = []
    for architecture in ("amd64", "arm64"):
        entry = layout.manifest([layer({"bin/sh": "", "which": architecture})], architecture=architecture)
        entries.append({**entry, "platform": {"architecture": architecture, "os": "linux"}})
    elsewhere = {**entries[0], "digest": digest(b"elsewhere"), "platform": {"architecture": "s390x", "os": "linux"}}
    attestation = {
        **layout.manifest([UPPER]),
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    layout.add(layout.nested([*entries, elsewhere, attestation]), "1")
    chimage.run("import", layout.directory, "foo")
    expected = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
    assert (storage / "img/foo+latest/which").read_text() == expected


def test_one_image_under_two_names_is_one_image(chimage: Chimage, storage: Path, layout: Layout) -> None:
    entry = layout.manifest([BASE, UPPER], **SETTINGS)
    layout.add(entry, "1")
    layout.add(entry, "latest")
    chimage.run("import", layout.directory, "foo")
    check(storage)


# Bad ones

Spoil = Callable[[Layout, dict[str, Any]], None]


def _remove_layer(layout: Layout, entry: dict[str, Any]) -> None:
    (layout.blobs / digest(UPPER)[7:]).unlink()


def _flip_layer(layout: Layout, entry: dict[str, Any]) -> None:
    path = layout.blobs / digest(UPPER)[7:]
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


def _cut_layer(layout: Layout, entry: dict[str, Any]) -> None:
    os.truncate(layout.blobs / digest(BASE)[7:], 700)


def _flip_manifest(layout: Layout, entry: dict[str, Any]) -> None:
    path = layout.file_of(entry)
    path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaversion"))


def _remove_manifest(layout: Layout, entry: dict[str, Any]) -> None:
    layout.file_of(entry).unlink()


def _huge_manifest(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries[0]["size"] = 1 << 40
    layout.index()


def _huge_index(layout: Layout, entry: dict[str, Any]) -> None:
    with open(layout.directory / "index.json", "ab") as file:
        file.truncate(100 << 20)


def _climbing_digest(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries[0]["digest"] = "sha256:../../../../etc/passwd"
    layout.index()


def _deep_index(layout: Layout, entry: dict[str, Any]) -> None:
    for _ in range(10):
        entry = layout.nested([entry])
    layout.entries = [entry]
    layout.index()


def _index_of_itself(layout: Layout, entry: dict[str, Any]) -> None:
    layout.index(b"[" * 100_000)


def _linked_blob(layout: Layout, entry: dict[str, Any]) -> None:
    path = layout.file_of(entry)
    path.unlink()
    path.symlink_to("/etc/passwd")


def _no_images(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries = []
    layout.index()


def _other_type(layout: Layout, entry: dict[str, Any]) -> None:
    document = json.loads(layout.file_of(entry).read_bytes())
    document["layers"][0]["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip\x1b[2J"
    layout.entries = [layout.blob(json.dumps(document).encode(), entry["mediaType"])]
    layout.index()


def _foreign(layout: Layout, entry: dict[str, Any]) -> None:
    document = json.loads(layout.file_of(entry).read_bytes())
    document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    layout.entries = [layout.blob(json.dumps(document).encode(), entry["mediaType"])]
    layout.index()


def _fewer_diff_ids(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries = [layout.manifest([BASE, UPPER], config([BASE]))]
    layout.index()


def _wrong_diff_id(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries = [layout.manifest([BASE, UPPER], config([BASE, BASE]))]
    layout.index()


def _windows(layout: Layout, entry: dict[str, Any]) -> None:
    data = config([BASE, UPPER]).replace(b'"linux"', b'"windows"')
    layout.entries = [layout.manifest([BASE, UPPER], data)]
    layout.index()


def _config_is_a_list(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries = [layout.manifest([BASE, UPPER], b"[]")]
    layout.index()


def _evil_layer(layout: Layout, entry: dict[str, Any]) -> None:
    layout.entries = [layout.manifest([layer({"../evil": "x"})])]
    layout.index()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove_layer, "lacks a file that it refers to"),
        (_flip_layer, "differs from its digest"),
        (_cut_layer, "expected 10240 bytes, got 700"),
        (_flip_manifest, "differs from its digest"),
        (_remove_manifest, "lacks a file that it refers to"),
        (_huge_manifest, "document of 1099511627776 bytes"),
        (_huge_index, "more than 16777216 bytes: index.json"),
        (_climbing_digest, "not a digest"),
        (_deep_index, "indexes in indexes"),
        (_index_of_itself, "no JSON"),
        (_linked_blob, "lacks a file"),
        (_no_images, "has no images"),
        (_other_type, "not an image"),
        (_foreign, "nobody may pass on"),
        (_fewer_diff_ids, "configuration tells of 1"),
        (_wrong_diff_id, "differs from its digest"),
        (_windows, "image is for windows"),
        (_config_is_a_list, "not a JSON object"),
        (_evil_layer, ".."),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True], ids=["directory", "archive"])
def test_a_bad_layout_is_refused(
    chimage: Chimage, storage: Path, layout: Layout, tmp_path: Path, spoil: Spoil, message: str, is_packed: bool
) -> None:
    spoil(layout, layout.add(layout.manifest([BASE, UPPER], **SETTINGS)))
    path = layout.archive(tmp_path / "archive") if is_packed else layout.directory
    result = refused(chimage, storage, path)
    assert message in result.stderr
    assert "\x1b" not in result.stderr
    assert not (tmp_path / "evil").exists()


GOOD = {"Config": "config.json", "RepoTags": ["foo:1"], "Layers": ["a/layer.tar"]}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "no JSON"),
        ({}, "does not list images"),
        ([1], "does not list images"),
        ([{**GOOD, "Layers": "a/layer.tar"}], "does not list images"),
        ([{**GOOD, "RepoTags": [1]}], "does not list images"),
        ([], "has no images"),
        ([{**GOOD, "Layers": ["../../../etc/passwd"]}], "lacks a file that it refers to: ../../../etc/passwd"),
        ([{**GOOD, "Layers": ["/etc/passwd"]}], "lacks a file that it refers to: /etc/passwd"),
        ([{**GOOD, "Layers": ["evil"]}], "lacks a file that it refers to: evil"),
        ([{**GOOD, "Layers": ["a\0b"]}], "cannot be"),
        ([{**GOOD, "Layers": ["\ud800"]}], "cannot be"),
        ([{**GOOD, "Layers": []}], "has 0 layers, but its configuration tells of 1"),
        ([{**GOOD, "Config": "a"}], "lacks a file"),
        ([{**GOOD, "Config": "0" * 64 + ".json"}], "differs from its digest"),
        ([{**GOOD, "Layers": ["config.json"]}], "differs from its digest"),
    ],
)
def test_a_bad_docker_archive_is_refused(
    chimage: Chimage, storage: Path, tmp_path: Path, manifest: Any, message: str
) -> None:
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    data = config([BASE])
    files: dict[str, bytes | tarfile.TarInfo] = {
        "a/layer.tar": BASE,
        "config.json": data,
        "0" * 64 + ".json": data,
        "evil": link,
    }
    result = refused(chimage, storage, docker_archive(tmp_path / "saved", manifest, files))
    assert message in result.stderr


def test_a_failed_import_leaves_the_image_that_was_there(chimage: Chimage, storage: Path, layout: Layout) -> None:
    layout.add(layout.manifest([BASE, UPPER], **SETTINGS))
    chimage.run("import", layout.directory, "foo")
    shutil.rmtree(layout.blobs)
    chimage.run("import", layout.directory, "foo", check=False).expect(1)
    check(storage)
