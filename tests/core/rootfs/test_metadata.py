import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimage_core.image.config import ImageConfig
from chimage_core.rootfs import metadata

CONFIG = ImageConfig(architecture="arm64", env={"B": "2", "A": "1"}, workdir="/w", labels={"l": "\udcff"})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert metadata.write(str(tmp_path), CONFIG) == ()
    assert metadata.read(str(tmp_path), "amd64") == CONFIG
    assert (tmp_path / "ch" / "environment").read_bytes() == b"A=1\nB=2\n"


def test_an_image_without_metadata_has_none(tmp_path: Path) -> None:
    assert metadata.read(str(tmp_path), "amd64") is None
    (tmp_path / "ch").mkdir()
    assert metadata.read(str(tmp_path), "amd64") is None


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    """They are part of the image."""
    old = os.umask(umask)
    try:
        metadata.write(str(tmp_path), CONFIG)
    finally:
        os.umask(old)
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in ("ch", "ch/metadata.json", "ch/environment")]
    assert modes == [0o755, 0o644, 0o644]


def test_files_that_do_not_change_are_not_touched(tmp_path: Path) -> None:
    """Else every instruction would change the image."""
    metadata.write(str(tmp_path), CONFIG)
    for path in (tmp_path / "ch").iterdir():
        os.utime(path, ns=(1, 2))
    metadata.write(str(tmp_path), CONFIG._replace(workdir="/other"))
    assert (tmp_path / "ch" / "environment").stat().st_mtime_ns == 2
    assert (tmp_path / "ch" / "metadata.json").stat().st_mtime_ns != 2
    assert sorted(os.listdir(tmp_path / "ch")) == ["environment", "metadata.json"]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain", b"V=plain\n"),
        ("", b"V=\n"),
        ("a=b", b"V=a=b\n"),
        (" spaces # no comment ", b"V= spaces # no comment \n"),
        ("'quoted'", b"V=''quoted''\n"),
        ("''", b"V=''''\n"),
        ("'", b"V='\n"),
        ('"double"', b'V="double"\n'),
        ("\udcff", b"V=\xff\n"),
    ],
)
def test_values_come_back_from_ch_run_as_they_are(value: str, line: bytes) -> None:
    """ch-run takes one pair of single quotes off, and nothing else."""
    assert metadata.environment_lines({"V": value}) == (line, ())


def ch_run_reads(data: bytes) -> dict[str, str]:
    """The reading side, by the manual of ch-run."""
    found = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        if line:
            name, _, value = line.partition("=")
            quoted = len(value) > 1 and value[0] == value[-1] == "'"
            found[name] = value[1:-1] if quoted else value
    return found


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.dictionaries(
        st.text(st.sampled_from("AB_ '="), max_size=3), st.text(st.sampled_from("ab'\"=\n \\$"), max_size=6)
    )
)
def test_ch_run_reads_every_variable_that_was_not_left_out(variables: dict[str, str]) -> None:
    data, left_out = metadata.environment_lines(variables)
    assert ch_run_reads(data) == {name: value for name, value in variables.items() if name not in left_out}
    assert all("\n" in variables[name] or not name or "=" in name for name in left_out)


def test_variables_with_newlines_are_left_out_and_named(tmp_path: Path) -> None:
    """As a line without `=`, the rest would keep every container from starting."""
    config = CONFIG._replace(env={"A": "1", "MULTI": "one\ntwo"})
    assert metadata.write(str(tmp_path), config) == ("MULTI",)
    assert (tmp_path / "ch" / "environment").read_bytes() == b"A=1\n"
    assert metadata.read(str(tmp_path), "amd64") == config


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"env": 1}', b'{"history": [1]}', b"\xff", b"[" * 100_000])
def test_damaged_metadata_is_a_clear_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ch").mkdir()
    (tmp_path / "ch" / "metadata.json").write_bytes(data)
    with pytest.raises(metadata.MetadataError, match=r"ch/metadata\.json"):
        metadata.read(str(tmp_path), "amd64")


@pytest.mark.parametrize("kind", ["link", "absolute", "file", "dangling"])
def test_ch_that_is_no_directory_is_no_metadata_and_is_replaced(tmp_path: Path, kind: str) -> None:
    """Never followed: a link of the image may lead to the host."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "metadata.json").write_text("{}")
    targets = {"link": "../outside", "absolute": str(outside), "dangling": "../new"}
    if kind == "file":
        (root / "ch").write_text("x")
    else:
        (root / "ch").symlink_to(targets[kind])
    assert metadata.read(str(root), "amd64") is None
    metadata.write(str(root), CONFIG)
    assert metadata.read(str(root), "amd64") == CONFIG
    assert not (root / "ch").is_symlink()
    assert (outside / "metadata.json").read_text() == "{}"
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_files_that_are_none_are_no_metadata_and_are_replaced(tmp_path: Path, kind: str) -> None:
    (tmp_path / "root" / "ch").mkdir(parents=True)
    (tmp_path / "secret").write_text('{"cwd": "/secret"}')
    path = tmp_path / "root" / "ch" / "metadata.json"
    if kind == "link":
        path.symlink_to(tmp_path / "secret")
    elif kind == "directory":
        (path / "below").mkdir(parents=True)
    else:
        os.mkfifo(path)
    assert metadata.read(str(tmp_path / "root"), "amd64") is None
    metadata.write(str(tmp_path / "root"), CONFIG)
    assert metadata.read(str(tmp_path / "root"), "amd64") == CONFIG
    assert (tmp_path / "secret").read_text() == '{"cwd": "/secret"}'
