"""`export --layers=history`: each state of the build cache that changed files is a layer of its own."""

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds, contents
from tests.support.host import needs_program

pytestmark = pytest.mark.userns

DOCKERFILE = """FROM base
ENV A=b
RUN mkdir /d && echo 1 > /d/one && echo 2 > /d/two && ln /d/two /d/twin && ln -s one /d/link && echo x > /d/x.sh
LABEL l=m
RUN rm /d/one && echo 3 > /d/three && chmod 755 /d/x.sh && rm -r /home && mkdir -p /e/f
RUN rm -r /e && echo now a file > /e && ln /d/two /third
"""


def export(builds: Builds, path: Path, *options: str, name: str = "image") -> dict[str, Any]:
    done = builds.chimage.run("--json", "export", "--layers=history", *options, name, path)
    return done.json_lines()[-1]


def layers(layout: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the digests of the layers of a layout, and its history."""

    def blob(digest: str) -> Any:
        return json.loads((layout / "blobs/sha256" / digest[7:]).read_bytes())

    manifest = blob(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])
    return [layer["digest"] for layer in manifest["layers"]], blob(manifest["config"]["digest"])["history"]


def members(layout: Path, digest: str) -> list[str]:
    with tarfile.open(layout / "blobs/sha256" / digest[7:]) as archive:
        return archive.getnames()


@pytest.fixture
def built(builds: Builds) -> Builds:
    (builds.image("base+latest") / "home").mkdir(exist_ok=True)
    builds.chimage.run("import", builds.image("base+latest"), "base")
    builds.build(DOCKERFILE)
    return builds


def test_each_layer_has_what_its_instruction_changed(built: Builds, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    export(built, layout, "--format=oci")
    digests, history = layers(layout)
    assert len(digests) == 4
    first, second, third = (members(layout, digest) for digest in digests[1:])
    assert first == ["d", "d/link", "d/one", "d/twin", "d/two", "d/x.sh"]
    assert second == ["d", "d/.wh.one", "d/three", "d/x.sh", "e", "e/f", ".wh.home"]
    assert third == ["d/two", "e", "third"]  # The overlay of a RUN has separated it from its twin.
    assert [entry["created_by"].split()[0] for entry in history if not entry.get("empty_layer")] == [
        "chimage",
        *["RUN.S"] * 3,
    ]
    assert [entry["created_by"].split()[0] for entry in history if entry.get("empty_layer")] == ["ENV", "LABEL"]


@needs_program("ch-run")
def test_a_hard_link_takes_all_names_into_the_layer(builds: Builds, tmp_path: Path) -> None:
    """One into a lower layer would be unpacked differently by different programs."""
    builds.build("FROM base\nRUN echo 2 > /two && ln /two /twin\nRUN ln /two /third", "--runner=ch-run")
    export(builds, tmp_path / "layout", "--format=oci")
    assert members(tmp_path / "layout", layers(tmp_path / "layout")[0][-1]) == ["third", "twin", "two"]


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_the_layers_together_are_the_image(built: Builds, tmp_path: Path, form: str) -> None:
    export(built, tmp_path / "out", f"--format={form}")
    built.chimage.run("import", tmp_path / "out", "back")
    before, after = contents(built.image()), contents(built.image("back+latest"))
    for found in (before, after):
        del found["ch/metadata.json"]  # It tells which entries of the history have a layer.
    assert after == before
    assert (built.image("back+latest") / "third").samefile(built.image("back+latest") / "d/two")


@needs_program("umoci")
def test_umoci_makes_the_image_of_them(built: Builds, tmp_path: Path) -> None:
    export(built, tmp_path / "layout", "--format=oci")
    image = f"{tmp_path / 'layout'}:latest"
    argv = ["umoci", "unpack", "--rootless", "--image", image, os.fspath(tmp_path / "bundle")]
    subprocess.run(argv, check=True, capture_output=True)
    found, expected = contents(tmp_path / "bundle/rootfs"), contents(built.image())
    private = {path for path in expected if path == "ch" or path.startswith("ch/")}
    assert found == {path: entry for path, entry in expected.items() if path not in private}


@needs_program("skopeo")
def test_skopeo_copies_them(built: Builds, tmp_path: Path) -> None:
    export(built, tmp_path / "archive", "--format=docker-archive")
    argv = ["skopeo", "--insecure-policy", "copy", f"docker-archive:{tmp_path / 'archive'}", f"dir:{tmp_path / 'dir'}"]
    subprocess.run(argv, check=True, capture_output=True)
    assert len(json.loads((tmp_path / "dir/manifest.json").read_text())["layers"]) == 4


def test_images_with_the_same_beginning_share_layers(built: Builds, tmp_path: Path) -> None:
    built.build(DOCKERFILE + "RUN echo more > /more", tag="other")
    export(built, tmp_path / "one", "--format=oci")
    export(built, tmp_path / "other", "--format=oci", name="other")
    one, other = layers(tmp_path / "one")[0], layers(tmp_path / "other")[0]
    assert other[:-1] == one
    assert members(tmp_path / "other", other[-1]) == ["more"]


def test_nothing_has_to_be_unpacked(built: Builds, tmp_path: Path) -> None:
    first = export(built, tmp_path / "one", "--format=oci-archive")
    built.chimage.run("build-cache", "--prune=unpacked")
    second = export(built, tmp_path / "other", "--format=oci-archive")
    assert second["digest"] == first["digest"]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert not built.image().exists()


def test_large_and_sparse_files_and_attributes(builds: Builds, tmp_path: Path) -> None:
    builds.build(
        "FROM base\nRUN head -c 20000000 /dev/zero | tr '\\0' x > /large"
        " && dd if=/dev/zero of=/sparse bs=1 count=1 seek=200000000 && mkfifo /fifo",
        "--cache-large=10",
    )
    export(builds, tmp_path / "out", "--format=oci-archive")
    builds.chimage.run("import", tmp_path / "out", "back")
    back = builds.image("back+latest")
    assert (back / "large").read_bytes() == b"x" * 20_000_000
    assert (back / "sparse").stat().st_size == 200_000_001
    assert (tmp_path / "out").stat().st_size < 10_000_000


def test_names_like_whiteouts_are_left_out(builds: Builds, tmp_path: Path) -> None:
    builds.build("FROM base\nRUN echo x > /.wh.bin")
    done = builds.chimage.run("export", "--layers=history", "image", tmp_path / "x.oci")
    assert "would be whiteouts left out: 1 (.wh.bin)" in done.stderr
    builds.chimage.run("import", tmp_path / "x.oci", "back")
    assert os.listdir(builds.image("back+latest") / "bin")


def test_formats_without_layers_have_no_history(builds: Builds, tmp_path: Path) -> None:
    result = builds.chimage.run("export", "--layers=history", "base", tmp_path / "x.tar", check=False).expect(2)
    assert "--layers=history is for formats that have layers" in result.stderr


def test_an_image_that_is_not_in_the_build_cache(builds: Builds, busybox: Path, tmp_path: Path) -> None:
    builds.chimage.run("--no-cache", "import", busybox, "foo")
    result = builds.chimage.run("export", "--layers=history", "foo", tmp_path / "x.oci", check=False).expect(1)
    assert "image is not in the build cache: foo" in result.stderr


@needs_program("ch-run")
def test_big_contents_of_packs(builds: Builds, tmp_path: Path) -> None:
    """Without overlays, files of any size are in packs; they are never whole in memory."""
    script = "head -c 9000000 /dev/urandom > /big && cp /big /sparse && truncate -s 90M /sparse"
    builds.build(f"FROM base\nRUN {script}\n", "--runner=ch-run")
    export(builds, tmp_path / "out", "--format=oci", "--layers=history")
    builds.chimage.run("import", tmp_path / "out", "back")
    for name in ("big", "sparse"):
        one, other = (builds.image(image) / name for image in ("image+latest", "back+latest"))
        assert one.read_bytes() == other.read_bytes()
