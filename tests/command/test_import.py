"""`import`: a directory or tarball becomes an image."""

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks, traces
from tests.support.cli import Chimage
from tests.support.host import needs_program

COMPRESSIONS = ("gzip", "xz", "bzip2", "zstd")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory that looks like an image, with a few kinds of files."""
    root = tmp_path / "tree"
    for name in ("bin", "etc", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin/tool").write_text("#!/bin/sh\n")
    (root / "bin/tool").chmod(0o755)
    (root / "bin/alias").symlink_to("tool")
    (root / "bin/twin").hardlink_to(root / "bin/tool")
    (root / "etc/motd").write_text("hello\n")
    os.utime(root / "etc/motd", ns=(0, 1_234_567_890_123_456_789))
    return root


def tarball(tree: Path, target: Path, *, top: str = ".") -> Path:
    """Pack a directory; `top` is what the names in the archive start with."""
    with tarfile.open(target, "w") as archive:
        archive.add(tree, arcname=top)
    return target


def assert_is(tree: Path, image: Path) -> None:
    """Everything of the tree is in the image, unchanged."""
    expected, found = contents(tree), contents(image)
    assert {path: found.get(path) for path in expected} == expected
    assert (image / "etc/motd").stat().st_mtime_ns // 10**9 == 1_234_567_890
    assert (image / "bin/twin").samefile(image / "bin/tool")


def test_a_directory(chimage: Chimage, storage: Path, tree: Path) -> None:
    before = traces(tree)
    result = chimage.run("import", tree, "foo")
    assert_is(tree, storage / "img/foo+latest")
    assert traces(tree) == before
    assert result.stdout == ""
    assert f"importing:    {tree}\ndestination:  foo\n" in result.stderr
    assert result.stderr.endswith("done\n")


@pytest.mark.parametrize("top", [".", "foo-1.0"], ids=["tarbomb", "one top directory"])
def test_a_tarball(chimage: Chimage, storage: Path, tree: Path, tmp_path: Path, top: str) -> None:
    chimage.run("import", tarball(tree, tmp_path / "foo.tar", top=top), "foo")
    assert_is(tree, storage / "img/foo+latest")


@pytest.mark.parametrize("program", [pytest.param(name, marks=needs_program(name)) for name in COMPRESSIONS])
def test_a_compressed_tarball_whatever_its_name(
    chimage: Chimage, storage: Path, tree: Path, tmp_path: Path, program: str
) -> None:
    packed = tmp_path / "image.data"
    plain = tarball(tree, tmp_path / "foo.tar")
    packed.write_bytes(subprocess.run([program, "-c", plain], capture_output=True, check=True).stdout)
    chimage.run("import", packed, "foo")
    assert_is(tree, storage / "img/foo+latest")


def test_the_image_has_what_every_image_has(chimage: Chimage, storage: Path, tree: Path) -> None:
    """Mount points and the directories of ch-run must be there: nobody can make them later in a read-only image."""
    chimage.run("import", tree, "foo")
    image = storage / "img/foo+latest"
    assert {"ch", "dev", "etc", "mnt", "proc", "sys", "tmp"} <= set(os.listdir(image))
    assert (image / "mnt/9").is_dir()


def test_found_without_its_tag_too(chimage: Chimage, storage: Path, tree: Path) -> None:
    """Scripts for ch-image go on with `ch-run img/foo` after building `foo`."""
    chimage.run("import", tree, "foo")
    assert os.readlink(storage / "img/foo") == "foo+latest"


@pytest.mark.parametrize(
    ("reference", "name", "shown"),
    [
        ("foo", "foo+latest", "foo:latest"),
        ("foo:1.0", "foo+1.0", "foo:1.0"),
        ("example.com:5000/team/tool:2", "example.com+5000%team%tool+2", "example.com:5000/team/tool:2"),
    ],
)
def test_the_name_is_a_reference(
    chimage: Chimage, storage: Path, tree: Path, reference: str, name: str, shown: str
) -> None:
    chimage.run("import", tree, reference)
    assert (storage / "img" / name).is_dir()
    assert chimage.run("list").stdout == f"{shown} (amd64)\n"


def test_metadata_is_kept_unchanged(builds: Builds) -> None:
    """An image that was built, taken out and imported again builds on as if it had never been away."""
    builds.build('FROM base\nENV A="a b"\nWORKDIR /w\nSHELL ["/bin/sh", "-ec"]\nLABEL k=v')
    builds.chimage.run("import", builds.image(), "again")
    first, second = (json.loads(builds.read("ch/metadata.json", name)) for name in ("image+latest", "again+latest"))
    assert first == second
    assert first["labels"] == {"k": "v"}
    assert "A=a b" in builds.read("ch/environment", "again+latest")
    result = builds.build("FROM again\nRUN echo $A; pwd; false; echo unreachable", tag="child", check=False)
    assert result.status == 1
    assert result.stdout == "a b\n/w\n"


def test_missing_metadata_is_said(chimage: Chimage, tree: Path) -> None:
    assert "warning: no metadata" in chimage.run("import", tree, "foo").stderr


def test_broken_metadata_is_one_error(chimage: Chimage, storage: Path, tree: Path) -> None:
    (tree / "ch").mkdir()
    (tree / "ch/metadata.json").write_text('{"env": ')
    result = chimage.run("import", tree, "foo", check=False).expect(1)
    assert "metadata.json" in result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(storage / "img") == []


def test_importing_again_replaces(chimage: Chimage, storage: Path, tree: Path) -> None:
    chimage.run("import", tree, "foo")
    (tree / "etc/motd").unlink()
    (tree / "etc/issue").write_text("new\n")
    chimage.run("import", tree, "foo")
    assert not (storage / "img/foo+latest/etc/motd").exists()
    assert (storage / "img/foo+latest/etc/issue").read_text() == "new\n"
    assert os.listdir(storage / "work") == os.listdir(storage / "trash") == []


def test_what_was_built_on_unchanged_content_hits(builds: Builds, busybox: Path) -> None:
    builds.build("FROM base\nRUN echo hello > /hello")
    builds.chimage.run("import", busybox, "base")
    assert marks(builds.build("FROM base\nRUN echo hello > /hello")) == "**"


def test_what_was_built_on_changed_content_misses(builds: Builds, busybox: Path, tmp_path: Path) -> None:
    """ch-image hits here, by the name alone, and builds on what is no longer there."""
    builds.build("FROM base\nRUN cat /etc/motd > /seen || true")
    other = tmp_path / "other"
    shutil.copytree(busybox, other, symlinks=True)
    (other / "etc/motd").write_text("changed\n")
    builds.chimage.run("import", other, "base")
    assert marks(builds.build("FROM base\nRUN cat /etc/motd > /seen || true")) == "*."
    assert builds.read("seen") == "changed\n"


def test_with_json_all_is_json(chimage: Chimage, storage: Path, tree: Path) -> None:
    lines = chimage.run("--json", "import", tree, "foo").json_lines()
    assert lines[-1]["type"] == "result"
    assert lines[-1]["reference"] == "foo"
    assert lines[-1]["path"] == str(storage / "img/foo+latest")
    assert {"image_ready", "notice"} <= {line["type"] for line in lines}


def test_xattrs_are_kept_unless_unwanted(chimage: Chimage, storage: Path, tree: Path) -> None:
    try:
        os.setxattr(tree / "etc/motd", "user.note", b"x")
    except OSError:
        pytest.skip("no extended attributes on this file system")
    chimage.run("import", tree, "kept")
    chimage.run("import", "--no-xattrs", tree, "bare")
    assert os.listxattr(storage / "img/kept+latest/etc/motd") == ["user.note"]
    assert os.listxattr(storage / "img/bare+latest/etc/motd") == []


def test_a_fifo_and_hard_links_survive_from_a_directory(chimage: Chimage, storage: Path, tree: Path) -> None:
    """ch-image fails on FIFOs and splits hard links."""
    os.mkfifo(tree / "fifo", 0o600)
    chimage.run("import", tree, "foo")
    assert (storage / "img/foo+latest/fifo").is_fifo()
    assert (storage / "img/foo+latest/bin/twin").stat().st_nlink == 2


@pytest.mark.parametrize("size", [1, 511, 512, 700, 5000])
def test_a_truncated_tarball_is_one_error_and_leaves_nothing(
    chimage: Chimage, storage: Path, tree: Path, tmp_path: Path, size: int
) -> None:
    whole = tarball(tree, tmp_path / "foo.tar")
    whole.write_bytes(whole.read_bytes()[:size])
    result = chimage.run("import", whole, "foo", check=False).expect(1)
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.stderr
    assert os.listdir(storage / "img") == os.listdir(storage / "work") == os.listdir(storage / "trash") == []


def test_a_failed_import_leaves_the_image_that_was_there(
    chimage: Chimage, storage: Path, tree: Path, tmp_path: Path
) -> None:
    chimage.run("import", tree, "foo")
    before = contents(storage / "img/foo+latest")
    broken = tmp_path / "broken.tar"
    broken.write_bytes(tarball(tree, tmp_path / "whole.tar").read_bytes()[:3000])
    chimage.run("import", broken, "foo", check=False).expect(1)
    assert contents(storage / "img/foo+latest") == before


@pytest.mark.parametrize(
    ("content", "status"), [(None, 2), (b"", 1), (b"no archive at all", 1)], ids=["missing", "empty", "text"]
)
def test_what_is_no_image_is_one_error(
    chimage: Chimage, storage: Path, tmp_path: Path, content: bytes | None, status: int
) -> None:
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content)
    result = chimage.run("import", path, "foo", check=False).expect(status)
    assert str(path) in result.stderr
    assert result.stderr.count("error:") == 1
    assert chimage.run("list").stdout == ""


@pytest.mark.parametrize("reference", ["", "..", "/", "../foo", "Foo", "foo:", "a b", "foo/../bar"])
def test_a_bad_name_is_refused(chimage: Chimage, storage: Path, tree: Path, reference: str) -> None:
    result = chimage.run("import", tree, reference, check=False).expect(1)
    assert "invalid image reference" in result.stderr
    assert not storage.exists()


def test_the_storage_directory_cannot_be_imported_into_itself(chimage: Chimage, tree: Path, tmp_path: Path) -> None:
    """The copy would grow while it is copied."""
    chimage.run("import", tree, "foo")
    result = chimage.run("import", tmp_path, "bar", check=False).expect(2)
    assert "inside" in result.stderr


def test_a_tarball_cannot_write_outside(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    """A member's name must not lead out of the image, neither by dots nor through a link that an earlier one made."""
    (tmp_path / "outside").mkdir()
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        for name, kind, target in (
            ("etc", tarfile.DIRTYPE, ""),
            ("link", tarfile.SYMTYPE, str(tmp_path / "outside")),
            ("link/file", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o755
            archive.addfile(member)
    chimage.run("import", evil, "foo", check=False)
    assert os.listdir(tmp_path / "outside") == []


def test_an_error_names_the_archive(chimage: Chimage, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"no archive at all" * 1000)
    result = chimage.run("-qq", "import", archive, "foo", check=False).expect(1)
    assert result.stderr == f"error: not a tar archive\n  {archive}\n"


def test_an_archive_of_nothing_is_refused(chimage: Chimage, tmp_path: Path) -> None:
    """What a pipe leaves whose first program failed."""
    archive = tmp_path / "image.tar.gz"
    archive.write_bytes(gzip.compress(b""))
    result = chimage.run("import", archive, "foo", check=False).expect(1)
    assert f"error: archive is empty: {archive}\n" in result.stderr
    assert chimage.run("list").stdout == ""
