"""`export`: an image as other programs want it. They are asked whether they find in it what we put in."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds, contents
from tests.support.host import needs_program

DOCKERFILE = """FROM base
ENV GREETING="hello world"
LABEL kind=test
WORKDIR /work
RUN echo content > file && ln file twin && ln -s file alias && chmod 4755 file && mkdir -p empty
CMD ["echo", "hi"]
"""
ARCHIVES = ["tar", "oci-archive", "docker-archive", "squashfs"]
needs_skopeo = needs_program("skopeo")
needs_umoci = needs_program("umoci")


@pytest.fixture
def image(builds: Builds) -> Builds:
    builds.build(DOCKERFILE, tag="team/tool:1.2")
    return builds


def export(image: Builds, path: Path, *options: str, **keywords: Any) -> dict[str, Any]:
    done = image.chimage.run("--json", "export", *options, "team/tool:1.2", path, **keywords)
    return done.json_lines()[-1]


def program(*argv: object) -> str:
    words = [os.fspath(word) if isinstance(word, Path) else str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def check_config(config: dict[str, Any]) -> None:
    """What the Dockerfile says is there, as OCI has it."""
    assert "GREETING=hello world" in config["Env"]
    assert config["WorkingDir"] == "/work"
    assert config["Cmd"] == ["echo", "hi"]
    assert config["Labels"] == {"kind": "test"}


def check_work(root: Path) -> None:
    """What RUN has made is there."""
    work = root / "work"
    assert (work / "file").read_text() == "content\n"
    assert (work / "twin").samefile(work / "file")
    assert os.readlink(work / "alias") == "file"
    assert (work / "file").stat().st_mode & 0o7777 == 0o755
    assert (work / "empty").is_dir()
    assert (root / "bin/busybox").exists()


def blob(layout: Path, digest: str) -> bytes:
    data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data


@pytest.mark.userns
def test_an_oci_layout_is_complete(image: Builds, tmp_path: Path) -> None:
    layout = tmp_path / "layout.oci"
    result = export(image, layout)
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads((layout / "index.json").read_text())["manifests"][0]
    assert entry["digest"] == result["digest"]
    assert entry["platform"]["architecture"] == "amd64"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1.2"
    assert entry["annotations"]["io.containerd.image.name"] == "team/tool:1.2"
    manifest = json.loads(blob(layout, entry["digest"]))
    assert manifest["config"]["size"] == len(blob(layout, manifest["config"]["digest"]))
    config = json.loads(blob(layout, manifest["config"]["digest"]))
    check_config(config["config"])
    assert config["created"] == "1970-01-01T00:00:00Z"
    assert sum(not entry.get("empty_layer") for entry in config["history"]) == len(manifest["layers"]) == 1
    (layer,) = manifest["layers"]
    assert layer["mediaType"].endswith("tar+gzip")
    assert layer["size"] == len(blob(layout, layer["digest"]))
    listed = program("tar", "-tzf", layout / "blobs" / layer["digest"].replace(":", "/")).splitlines()
    assert "work/file" in listed
    assert not {"ch/metadata.json", "ch/environment"} & set(listed)


@pytest.mark.userns
@needs_skopeo
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_skopeo_reads_an_oci_layout(image: Builds, tmp_path: Path, compression: str) -> None:
    layout = tmp_path / "layout"
    result = export(image, layout, "--format=oci", f"--compress={compression}")
    found = json.loads(program("skopeo", "inspect", f"oci:{layout}:1.2"))
    assert found["Digest"] == result["digest"]
    check_config(json.loads(program("skopeo", "inspect", "--config", f"oci:{layout}:1.2"))["config"])
    copied = tmp_path / "copied"
    program("skopeo", "--insecure-policy", "copy", f"oci:{layout}:1.2", f"dir:{copied}")
    assert (copied / "manifest.json").exists()


@pytest.mark.userns
@needs_skopeo
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_skopeo_reads_an_archive(image: Builds, tmp_path: Path, form: str) -> None:
    archive = tmp_path / "archive"
    result = export(image, archive, f"--format={form}")
    assert result["size"] == archive.stat().st_size
    check_config(json.loads(program("skopeo", "inspect", "--config", f"{form}:{archive}"))["config"])
    program("skopeo", "--insecure-policy", "copy", f"{form}:{archive}", f"dir:{tmp_path / 'copied'}")


@pytest.mark.userns
@needs_umoci
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_umoci_unpacks_an_oci_layout(image: Builds, tmp_path: Path, compression: str) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    export(image, layout, "--format=oci", f"--compress={compression}")
    program("umoci", "unpack", "--rootless", "--image", f"{layout}:1.2", bundle)
    check_work(bundle / "rootfs")
    process = json.loads((bundle / "config.json").read_text())["process"]
    assert process["cwd"] == "/work"
    assert "GREETING=hello world" in process["env"]


@pytest.mark.userns
def test_a_docker_archive_has_what_docker_load_wants(image: Builds, tmp_path: Path) -> None:
    archive = tmp_path / "image.docker.tar"
    result = export(image, archive)
    with tarfile.open(archive) as opened:
        files = {member.name: opened.extractfile(member) for member in opened}
        (entry,) = json.loads(files["manifest.json"].read())  # type: ignore[union-attr]
        assert entry["RepoTags"] == ["team/tool:1.2"]
        config = files[entry["Config"]].read()  # type: ignore[union-attr]
        layer = files[entry["Layers"][0]].read()  # type: ignore[union-attr]
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == result["digest"]
    assert entry["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    assert json.loads(config)["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]


@pytest.mark.userns
@pytest.mark.parametrize(
    "name",
    ["image.tar", "image.tar.gz", "image.tgz", pytest.param("image.tar.zst", marks=needs_program("zstd"))],
)
def test_tar_unpacks_a_tarball(image: Builds, tmp_path: Path, name: str) -> None:
    assert export(image, tmp_path / name)["format"] == "tar"
    out = tmp_path / "out"
    out.mkdir()
    program("tar", "-C", out, "-xf", tmp_path / name)
    check_work(out)
    assert (out / "ch/metadata.json").read_bytes() == (image.image("team%tool+1.2") / "ch/metadata.json").read_bytes()
    kind = {"tar": b"bin/", "gz": b"\x1f\x8b", "tgz": b"\x1f\x8b", "zst": b"\x28\xb5"}[name.rpartition(".")[2]]
    assert (tmp_path / name).read_bytes().startswith(kind)


@pytest.mark.userns
def test_a_directory_is_the_image(image: Builds, tmp_path: Path) -> None:
    assert export(image, tmp_path / "copy")["format"] == "directory"
    assert contents(tmp_path / "copy") == contents(image.image("team%tool+1.2"))


@pytest.mark.userns
@needs_program("mksquashfs", "unsquashfs")
def test_unsquashfs_unpacks_squashfs(image: Builds, tmp_path: Path) -> None:
    assert export(image, tmp_path / "image.sqfs")["format"] == "squashfs"
    program("unsquashfs", "-no-xattrs", "-d", tmp_path / "out", tmp_path / "image.sqfs")
    assert (tmp_path / "out/work/file").read_text() == "content\n"


@pytest.mark.userns
@needs_program("ch-convert")
def test_ch_convert_takes_what_we_write(image: Builds, tmp_path: Path) -> None:
    export(image, tmp_path / "image.tar.gz")
    program("ch-convert", tmp_path / "image.tar.gz", tmp_path / "converted")
    check_work(tmp_path / "converted")


@pytest.mark.userns
@pytest.mark.parametrize("form", [pytest.param("squashfs", marks=needs_program("mksquashfs")), *ARCHIVES[:3]])
def test_twice_gives_the_same_bytes(image: Builds, tmp_path: Path, form: str) -> None:
    for name in ("one", "other"):
        export(image, tmp_path / name, f"--format={form}", env={"SOURCE_DATE_EPOCH": "1704067200"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.userns
def test_a_build_elsewhere_gives_the_same_digest(image: Builds, tmp_path: Path) -> None:
    """With an epoch, only contents count: the time at which RUN was carried out does not."""
    first = export(image, tmp_path / "one", "--format=oci", env={"SOURCE_DATE_EPOCH": "0"})
    image.chimage.run("build", "--rebuild", "-t", "team/tool:1.2", image.context)
    second = export(image, tmp_path / "other", "--format=oci", env={"SOURCE_DATE_EPOCH": "0"})
    assert first["digest"] == second["digest"]


def test_an_image_in_the_build_cache_only_can_be_exported(builds: Builds, tmp_path: Path) -> None:
    builds.build("FROM base\nENV A=b", tag="one")
    before = contents(builds.image("one+latest"))
    builds.chimage.run("build-cache", "--prune=unpacked")
    assert not builds.image("one+latest").exists()
    builds.chimage.run("export", "one", tmp_path / "copy")
    assert contents(tmp_path / "copy") == before
    assert not builds.image("one+latest").exists()


# What is there already


def test_what_is_there_stays_unless_asked(builds: Builds, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_text("mine")
    result = builds.chimage.run("export", "base", path, check=False).expect(2)
    assert f"already there: {path}" in result.stderr
    assert path.read_text() == "mine"
    builds.chimage.run("export", "--overwrite", "base", path)
    assert tarfile.is_tarfile(path)
    assert sorted(os.listdir(tmp_path)) == ["context", "image.tar", "storage"]


def test_an_empty_directory_is_as_good_as_none(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    builds.chimage.run("export", "base", tmp_path / "target")
    assert (tmp_path / "target/bin").is_dir()


def test_a_directory_that_is_no_image_is_never_replaced(builds: Builds, tmp_path: Path) -> None:
    """One typing error away from a home directory."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis").write_text("years of work")
    for options in ([], ["--overwrite"], ["--overwrite", "--format=tar"]):
        builds.chimage.run("export", *options, "base", home, check=False).expect(2)
    assert os.listdir(home) == ["thesis"]


def test_an_image_directory_is_replaced_as_a_whole(builds: Builds, tmp_path: Path) -> None:
    target = tmp_path / "target"
    builds.chimage.run("export", "base", target)
    (target / "stale").touch()
    builds.chimage.run("export", "--overwrite", "base", target)
    assert not (target / "stale").exists()
    builds.chimage.run("export", "--overwrite", "--format=oci", "base", target)
    assert sorted(os.listdir(target)) == ["blobs", "index.json", "oci-layout"]


def test_a_link_is_replaced_and_not_followed(builds: Builds, tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "image.tar"
    precious.write_text("mine")
    link.symlink_to(precious)
    builds.chimage.run("export", "--overwrite", "base", link)
    assert precious.read_text() == "mine"
    assert not link.is_symlink()


# What cannot be done


def test_what_is_no_image_is_one_error(builds: Builds, tmp_path: Path) -> None:
    result = builds.chimage.run("export", "nothing", tmp_path / "x.tar", check=False).expect(1)
    assert "image not found: nothing" in result.stderr
    assert not (tmp_path / "x.tar").exists()


def test_a_directory_that_is_not_there(builds: Builds, tmp_path: Path) -> None:
    result = builds.chimage.run("export", "base", tmp_path / "no/x.tar", check=False).expect(2)
    assert f"no such directory: {tmp_path}/no" in result.stderr


def test_a_place_that_cannot_be_written(builds: Builds, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o555)
    if os.access(place, os.W_OK):
        pytest.skip("root writes everywhere")
    result = builds.chimage.run("export", "base", place / "x.tar", check=False).expect(1)
    assert f"can't write: {place}/x.tar: Permission denied" in result.stderr


def test_compression_goes_with_layouts_only(builds: Builds, tmp_path: Path) -> None:
    result = builds.chimage.run("export", "--compress=gzip", "base", tmp_path / "x.tar", check=False).expect(2)
    assert "end PATH in .tar.gz" in result.stderr


def test_a_strange_time_is_refused(builds: Builds, tmp_path: Path) -> None:
    env = {"SOURCE_DATE_EPOCH": "yesterday"}
    result = builds.chimage.run("export", "base", tmp_path / "x.tar", env=env, check=False).expect(2)
    assert "$SOURCE_DATE_EPOCH" in result.stderr


@pytest.mark.root
@pytest.mark.parametrize("name", ["x.tar", "x.oci", "x.docker.tar", "x", "x.sqfs"])
def test_a_full_disk_leaves_nothing(builds: Builds, tmp_path: Path, name: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        result = builds.chimage.run("export", "base", disk / name, check=False).expect(1)
        assert result.stderr.count("error:") == 1
        assert "No space left on device" in result.stderr or name == "x.sqfs"
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.userns
def test_going_out_and_coming_back(image: Builds, tmp_path: Path) -> None:
    """Tarball and directory keep all, also what only we know, such as ARG values."""
    before = contents(image.image("team%tool+1.2"))
    for name in ("image.tar.gz", "directory"):
        export(image, tmp_path / name)
        image.chimage.run("import", tmp_path / name, "back")
        assert contents(image.image("back+latest")) == before | _without_setuid(before)
        shutil.rmtree(image.image("back+latest"))


def _without_setuid(found: dict[str, tuple[str, int, str]]) -> dict[str, tuple[str, int, str]]:
    return {path: (kind, mode & 0o1777, content) for path, (kind, mode, content) in found.items()}
