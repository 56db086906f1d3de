"""`push` to a real registry: what is said, what gets there, and that it comes back as it was."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds, contents
from tests.support.cli import Chimage, CliResult
from tests.support.host import needs_program
from tests.support.registry import PASSWORD, USER, Registry, htpasswd, make_certificate, run_registry, serve_tokens

pytestmark = pytest.mark.network

DOCKERFILE = """FROM base
ENV GREETING="hello world"
LABEL kind=test
WORKDIR /work
RUN echo content > file && ln file twin && ln -s file alias && chmod 4755 file && mkdir -p empty
CMD ["echo", "hi"]
"""
STEPS = """FROM base
RUN mkdir /a && echo one > /a/one && echo two > /a/two && ln /a/one /a/same && mkdir /gone && echo x > /gone/x
ENV A=b
RUN rm -r /gone /a/two && echo more > /a/more && ln /a/one /a/third
RUN mkdir /gone && echo y > /gone/y && rm /a/more && mkdir /a/more
"""


@pytest.fixture
def image(builds: Builds) -> Builds:
    builds.build(DOCKERFILE)
    return builds


def lines(done: CliResult) -> list[str]:
    """Return what was said, without what differs from time to time."""
    return [re.sub(r"\b(?:[0-9a-f]{64}|[0-9a-f]{7})\b", "HEX", line) for line in done.stderr.splitlines()]


def result(chimage: Chimage, *argv: str | Path, env: dict[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = chimage.run("--json", "push", *argv, env=env).json_lines()[-1]
    return found


def skopeo(*argv: str) -> Any:
    done = subprocess.run(["skopeo", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def inspected(reference: str) -> tuple[Any, Any]:
    """Return manifest and configuration as another program reads them."""
    place = f"docker://{reference}"
    options = ("--tls-verify=false", "--override-arch=amd64")
    return skopeo("inspect", "--raw", *options, place), skopeo("inspect", "--config", *options, place)


def without_metadata(root: Path) -> dict[str, Any]:
    """Return what is in an image but for what says how to run it."""
    return {path: what for path, what in contents(root).items() if path != "ch/metadata.json"}


def twins(root: Path) -> set[frozenset[str]]:
    """Return which paths of an image are the same file."""
    found: dict[int, set[str]] = {}
    for path in contents(root):
        found.setdefault((root / path).lstat().st_ino, set()).add(path)
    return {frozenset(paths) for paths in found.values() if len(paths) > 1}


def test_it_is_said_as_the_manual_has_it(image: Builds, registry: Registry) -> None:
    place = f"{registry.host}/manual/image"
    done = image.chimage.run("push", "image", place)
    assert lines(done) == [
        "pushing image:   image",
        f"destination:     {place}",
        "layer 1/1: gathering",
        "layer 1/1: preparing",
        "preparing metadata",
        "starting upload",
        "layer 1/1: HEX: checking if already in repository",
        "layer 1/1: HEX: not present, uploading",
        "config: HEX: checking if already in repository",
        "config: HEX: not present, uploading",
        "manifest: uploading",
        "cleaning up",
        "digest:          sha256:HEX",
        "done",
    ]
    assert done.stdout == ""
    assert not list(Path(image.chimage.storage, "blobs").rglob(".tmp-*"))


def test_it_comes_back_as_it_was(image: Builds, registry: Registry) -> None:
    place = f"{registry.host}/back/image:1.2"
    image.chimage.run("push", "image", place)
    image.chimage.run("pull", place, "back")
    before, after = without_metadata(image.image()), without_metadata(image.image("back+latest"))
    kind, mode, content = before["work/file"]
    before["work/file"] = before["work/twin"] = (kind, mode & 0o777, content)  # Setuid bits are not pushed.
    assert after == before
    root = image.image("back+latest")
    assert (root / "work/file").samefile(root / "work/twin")
    one, other = image.metadata(), image.metadata("back+latest")
    assert {**one, "history": None} == {**other, "history": None}


@needs_program("skopeo")
def test_others_read_it(image: Builds, registry: Registry, tmp_path: Path) -> None:
    place = f"{registry.host}/others/image"
    digest = result(image.chimage, "image", place)["digest"]
    manifest, config = inspected(place)
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.docker.image.rootfs.diff.tar.gzip"]
    assert (config["architecture"], config["os"]) == (image.metadata()["arch"], "linux")
    assert "GREETING=hello world" in config["config"]["Env"]
    assert (config["config"]["WorkingDir"], config["config"]["Cmd"]) == ("/work", ["echo", "hi"])
    assert sum(not entry.get("empty_layer") for entry in config["history"]) == 1
    assert skopeo("inspect", "--tls-verify=false", f"docker://{place}")["Digest"] == digest
    copied = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{place}", f"oci:{tmp_path}/copy:x"]
    subprocess.run(copied, check=True, capture_output=True)
    layer = next(iter(manifest["layers"]))["digest"].partition(":")[2]
    listed = subprocess.run(
        ["tar", "--numeric-owner", "-tvzf", tmp_path / "copy/blobs/sha256" / layer],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert {line.split()[1] for line in listed.splitlines()} == {"0/0"}
    assert not [line for line in listed.splitlines() if "s" in line[:10]]
    names = [line.split()[5] for line in listed.splitlines()]
    assert "work/file" in names
    assert "ch/metadata.json" not in names


def test_an_unchanged_image_is_not_packed_again(image: Builds, registry: Registry) -> None:
    place = f"{registry.host}/again/image"
    first = result(image.chimage, "image", place)
    again = image.chimage.run("push", "image", place)
    assert lines(again)[2:] == [
        "layer 1/1: HEX: checking if already in repository",
        "layer 1/1: HEX: already present",
        "preparing metadata",
        "starting upload",
        "config: HEX: checking if already in repository",
        "config: HEX: already present",
        "manifest: already present",
        "cleaning up",
        f"digest:          {re.sub('[0-9a-f]{64}', 'HEX', first['digest'])}",
        "done",
    ]
    assert result(image.chimage, "image", place)["digest"] == first["digest"]


def test_only_another_configuration_packs_nothing(image: Builds, registry: Registry) -> None:
    """The layer holds nothing of the configuration."""
    place = f"{registry.host}/configuration/image"
    first = result(image.chimage, "image", place)
    image.build(DOCKERFILE + "ENV NEW=1\n", tag="other")
    other = image.chimage.run("push", "other", place)
    assert "layer 1/1: HEX: already present" in lines(other)
    assert result(image.chimage, "other", place)["images"][0]["layers"] == [
        {**layer, "outcome": "present"} for layer in first["images"][0]["layers"]
    ]


def test_a_layer_of_another_repository_is_mounted(image: Builds, registry: Registry) -> None:
    first = result(image.chimage, "image", f"{registry.host}/mounted/from")
    other = result(image.chimage, "image", f"{registry.host}/mounted/to/there")
    assert first["digest"] == other["digest"]
    assert [layer["outcome"] for layer in other["images"][0]["layers"]] == ["mounted"]
    image.chimage.run("pull", f"{registry.host}/mounted/to/there", "back")


def test_what_the_registry_has_lost_is_packed_again(image: Builds, tmp_path: Path) -> None:
    with run_registry(tmp_path / "one") as one, run_registry(tmp_path / "two") as two:
        for registry in (one, two):
            done = image.chimage.run("push", "image", f"{registry.host}/some/image")
            assert "layer 1/1: HEX: not present, uploading" in lines(done)
        assert "layer 1/1: HEX: not present, packing again" in lines(done)
        image.chimage.run("pull", f"{two.host}/some/image", "back")


def test_two_storage_directories_give_the_same(image: Builds, registry: Registry, tmp_path: Path) -> None:
    """Same files, same bytes, whenever and wherever they are packed."""
    digests = []
    for name in ("one", "two"):
        other = Chimage(tmp_path / name)
        other.run("import", image.image(), "base")
        digests.append(result(other, "base", f"{registry.host}/same/{name}")["digest"])
    assert digests[0] == digests[1]


def test_times_end_at_source_date_epoch(image: Builds, registry: Registry) -> None:
    place = f"{registry.host}/epoch/image"
    now = result(image.chimage, "image", place)["digest"]
    then = result(image.chimage, "image", place, env={"SOURCE_DATE_EPOCH": "1000000000"})
    assert then["digest"] != now
    assert result(image.chimage, "image", place, env={"SOURCE_DATE_EPOCH": "1000000000"})["digest"] == then["digest"]
    image.chimage.run("pull", place, "back")
    assert int((image.image("back+latest") / "work/file").stat().st_mtime) == 1_000_000_000


def test_a_directory_is_pushed(image: Builds, registry: Registry, tmp_path: Path) -> None:
    place, directory, file = f"{registry.host}/directory/image", tmp_path / "unpacked", tmp_path / "digest"
    image.chimage.run("export", "image", directory)
    done = image.chimage.run("push", "--image", directory, "--digest-file", file, place)
    assert lines(done)[:3] == [f"pushing image:   {place}", f"image path:      {directory}", "layer 1/1: gathering"]
    assert f"digest:          {file.read_text()}" in done.stderr.splitlines()
    assert file.read_text() == result(image.chimage, "image", place)["digest"]


def test_a_directory_without_metadata_is_pushed(chimage: Chimage, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/file").write_text("x")
    place = f"{registry.host}/plain/image"
    done = chimage.run("push", "--image", tmp_path / "plain", place)
    assert "warning: no metadata to load; using defaults" in done.stderr
    chimage.run("pull", place, "back")
    assert (Path(chimage.storage) / "img/back+latest/file").read_text() == "x"


def test_what_was_changed_by_hand_is_pushed_but_not_remembered(image: Builds, registry: Registry) -> None:
    place, file = f"{registry.host}/changed/image", image.image() / "work/alias"
    target = file.readlink()
    file.unlink()
    file.write_text("by hand")
    changed = result(image.chimage, "image", place)
    file.unlink()
    file.symlink_to(target)
    assert result(image.chimage, "image", place)["digest"] != changed["digest"]


def test_an_image_without_directory_is_pushed(image: Builds, registry: Registry) -> None:
    place = f"{registry.host}/packed-away/image"
    digest = result(image.chimage, "image", f"{registry.host}/packed-away/first")["digest"]
    image.chimage.run("build-cache", "--prune=unpacked,uploads")
    assert not image.image().exists()
    assert result(image.chimage, "image", place)["digest"] == digest
    assert not image.image().exists()


def test_without_build_cache(image: Builds, registry: Registry) -> None:
    place = f"{registry.host}/no-cache/image"
    digest = result(image.chimage, "image", place)["digest"]
    assert result(image.chimage, "--no-cache", "image", place)["digest"] == digest


def test_zstd(image: Builds, registry: Registry) -> None:
    pytest.importorskip("zstandard")
    place = f"{registry.host}/zstd/image"
    found = result(image.chimage, "--compress=zstd", "image", place)
    assert found["media_type"] == "application/vnd.oci.image.manifest.v1+json"
    image.chimage.run("pull", place, "back")
    assert (image.image("back+latest") / "work/twin").read_text() == "content\n"


def test_layers_of_the_history(builds: Builds, registry: Registry) -> None:
    builds.build(STEPS)
    place = f"{registry.host}/layers/image"
    base = result(builds.chimage, "base", f"{registry.host}/layers/base")["images"][0]["layers"][0]
    found = result(builds.chimage, "--layers=history", "image", place)["images"][0]["layers"]
    assert [layer["outcome"] for layer in found] == ["mounted", "uploaded", "uploaded", "uploaded"]
    assert found[0] == {**base, "outcome": "mounted"}
    builds.chimage.run("pull", place, "back")
    assert without_metadata(builds.image("back+latest")) == without_metadata(builds.image())
    assert twins(builds.image("back+latest")) == twins(builds.image())


def test_a_small_change_pushes_little(builds: Builds, registry: Registry) -> None:
    builds.build(STEPS)
    place = f"{registry.host}/change/image"
    first = result(builds.chimage, "--layers=history", "image", place)
    builds.build(STEPS + "RUN echo new > /new\n")
    second = result(builds.chimage, "--layers=history", "image", place)["images"][0]["layers"]
    assert [layer["outcome"] for layer in second] == ["present"] * 4 + ["uploaded"]
    assert second[-1]["size"] < 1000
    assert first["images"][0]["layers"][0]["digest"] == second[0]["digest"]


@needs_program("skopeo")
def test_the_history_tells_what_made_each_layer(builds: Builds, registry: Registry) -> None:
    builds.build(STEPS)
    place = f"{registry.host}/history/image"
    builds.chimage.run("push", "--layers=history", "image", place)
    manifest, config = inspected(place)
    made = [entry["created_by"].split()[0] for entry in config["history"] if not entry.get("empty_layer")]
    assert made[1:] == ["RUN.S", "RUN.S", "RUN.S"]
    assert len(made) == len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 4


@needs_program("skopeo")
def test_an_index_of_several_architectures(builds: Builds, registry: Registry) -> None:
    place = f"{registry.host}/index/image:1"
    for arch in ("amd64", "arm64/v8"):
        config = builds.image("base+latest") / "ch/metadata.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "arch": arch}))
        builds.chimage.run("import", builds.image("base+latest"), f"for-{arch.replace('/', '-')}")
    found = result(builds.chimage, "--index", place, "for-amd64", "for-arm64-v8")
    index = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{place}")
    assert [entry["platform"] for entry in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]
    assert [entry["digest"] for entry in index["manifests"]] == [image["digest"] for image in found["images"]]
    assert found["media_type"] == index["mediaType"]
    builds.chimage.run("pull", "--arch=arm64/v8", place, "back")
    assert builds.metadata("back+latest")["arch"] == "arm64"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Give a registry with TLS and passwords."""
    directory = tmp_path_factory.mktemp("guarded")
    with run_registry(directory, tls=make_certificate(directory, "guarded"), auth=htpasswd(directory)) as running:
        yield running


def test_a_password_over_tls(image: Builds, guarded: Registry) -> None:
    """`push` implies --auth."""
    place, env = f"{guarded.host}/secret/image", {"CH_IMAGE_USERNAME": USER, "CH_IMAGE_PASSWORD": PASSWORD}
    done = image.chimage.run("--cacert", str(guarded.ca), "push", "image", place, env=env)
    assert PASSWORD not in done.text()
    image.chimage.run("--cacert", str(guarded.ca), "--auth", "pull", place, "back", env=env)


def test_who_may_not_push_learns_it_before_anything_is_packed(image: Builds, guarded: Registry) -> None:
    env = {"CH_IMAGE_USERNAME": USER, "CH_IMAGE_PASSWORD": "wrong"}
    done = image.chimage.run(
        "--cacert", str(guarded.ca), "push", "image", f"{guarded.host}/secret/image", env=env, check=False
    )
    assert done.status == 1
    assert "gathering" not in done.stderr
    assert f"can't push to {guarded.host}/secret/image: an upload: the registry answered: 401" in done.stderr
    assert "wrong" not in done.stderr
    assert "Traceback" not in done.stderr


def test_tokens(image: Builds, tmp_path: Path) -> None:
    env = {"CH_IMAGE_USERNAME": USER, "CH_IMAGE_PASSWORD": PASSWORD}
    with serve_tokens(tmp_path) as tokens, run_registry(tmp_path / "registry", auth=tokens.variables) as registry:
        for name in ("one", "two"):
            found = result(image.chimage, "image", f"{registry.host}/public/{name}", env=env)
        assert [layer["outcome"] for layer in found["images"][0]["layers"]] == ["mounted"]
        assert all("authorization" in asked for asked in tokens.asked)
        scopes = {scope for asked in tokens.asked for scope in asked["scope"]}
        assert "repository:public/one:pull,push" in scopes
        image.chimage.run("pull", f"{registry.host}/public/two", "back")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere", "HOST/x"], "image not found: nowhere"),
        (["--layers=history", "nowhere", "HOST/x"], "image not found: nowhere"),
        (["image", "HOST/x@sha256:" + "0" * 64], "the registry computes the digest"),
        (["image", "HOST/x", "HOST/y"], "expected IMAGE_REF [DEST_REF], not 3 references"),
        (["--image", "/nowhere", "HOST/x"], "--image: not a directory: /nowhere"),
        (["--image", "/", "--layers=history", "HOST/x"], "neither --index nor --layers=history"),
        (["--index", "HOST/x", "image", "image"], "two images for the same architecture"),
        (["--digest-file", "/nowhere/digest", "image", "HOST/x"], "--digest-file: no such directory: /nowhere"),
        (["image", "127.0.0.1:1/x"], "no answer from 127.0.0.1"),
    ],
)
def test_what_cannot_be_done(image: Builds, registry: Registry, argv: list[str], message: str) -> None:
    done = image.chimage.run("push", *(word.replace("HOST", registry.host) for word in argv), check=False)
    assert done.status in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(Path(image.chimage.storage, "blobs").rglob(".tmp-*"))


def test_notes_of_pushes_are_listed_and_pruned(image: Builds, registry: Registry) -> None:
    image.chimage.run("push", "image", f"{registry.host}/prune/image")
    notes = Path(image.chimage.storage, "blobs/packed")
    assert len(os.listdir(notes)) == 1
    image.chimage.run("build-cache", "--prune=uploads")
    assert os.listdir(notes) == []
    assert "layer 1/1: gathering" in image.chimage.run("push", "image", f"{registry.host}/prune/image").stderr
