"""Numbers, checksums, ends and bombs (rules 15, 16, 17), and whatever else bytes can be."""

import io
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled, ChimageError, FileError, LayerError
from chimage_core.fs.remove import remove_tree
from chimage_core.layer.extract import UnpackOptions, unpack
from tests.support.archives import (
    END,
    base256,
    directory,
    file,
    hardlink,
    header,
    listing,
    long_name,
    pax,
    symlink,
    tar,
    unpack_layers,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


# Numbers


@pytest.mark.parametrize(
    ("mtime", "expected"),
    [
        (0, 0),
        (base256(-3, 12), -3),
        (base256(1 << 33, 12), 1 << 33),
        (b"77777777777 ", 0o77777777777),  # The year 2242; ext4 ends in 2446.
        (b"  1750\0", 1000),
        (b"1750 \0junk", 1000),
        (b"", 0),
    ],
)
def test_times_are_read_in_all_spellings(root: Path, mtime: int | bytes, expected: int) -> None:
    unpack_layers(root, tar(file(b"f", b"x", mtime=mtime)))
    assert (root / "f").stat().st_mtime == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"12.25", 12_250_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.0000000001", -1),
        (b"1.123456789999", 1_123_456_789),
        (b"5.", 5_000_000_000),
        (b".5", 500_000_000),
    ],
)
def test_fractions_of_seconds_are_kept(root: Path, text: bytes, expected: int) -> None:
    unpack_layers(root, tar(pax({b"mtime": text}), file(b"f", b"x")))
    assert (root / "f").stat().st_mtime_ns == expected


@pytest.mark.parametrize("mtime", [base256(1 << 80, 12), base256(-(1 << 80), 12)])
def test_times_beyond_all_clocks_do_not_fail(root: Path, mtime: bytes) -> None:
    unpack_layers(
        root, tar(file(b"f", b"x", mtime=mtime), symlink(b"s", b"f", mtime=mtime), directory(b"d", mtime=mtime))
    )
    assert set(listing(root)) == {"f", "s", "d"}


@pytest.mark.parametrize("text", [b"nan", b"inf", b"1e5", b"1_0", b"+1", b"--1", b"", b"-", b"1.2.3", b"9" * 5000])
def test_times_that_are_no_numbers_are_refused(root: Path, text: bytes) -> None:
    if not text:  # An empty value takes the record back.
        unpack_layers(root, tar(pax({b"mtime": text}), file(b"f", b"x", mtime=7)))
        assert (root / "f").stat().st_mtime == 7
        return
    with pytest.raises(LayerError, match="number"):
        unpack_layers(root, tar(pax({b"mtime": text}), file(b"f", b"x")))


@pytest.mark.parametrize("field", ["size", "mode", "mtime"])
@pytest.mark.parametrize("text", [b"0x1f", b"12a", b"-1", b"1_0", b"0o17", b"89", b"+7"])
def test_octal_garbage_is_refused(root: Path, field: str, text: bytes) -> None:
    with pytest.raises(LayerError, match="not a number"):
        unpack_layers(root, tar(header(b"f", **{field: text})))


@pytest.mark.parametrize("size", [base256(-512, 12), base256(-1, 12)])
@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"V", b"S"])
def test_negative_sizes_are_refused(root: Path, size: bytes, kind: bytes) -> None:
    """Going back in the stream would be a loop without end."""
    with pytest.raises(LayerError, match=r"size|bytes"):
        unpack_layers(root, tar(header(b"f", size=size, kind=kind), file(b"g")))


@pytest.mark.parametrize("size", [513, 1 << 20])
def test_sizes_beyond_the_end_are_refused(root: Path, size: int) -> None:
    with pytest.raises(LayerError, match="ends too early"):
        unpack_layers(root, header(b"f", size=size) + bytes(512))


@pytest.mark.parametrize("size", [base256(1 << 62, 12), b"77777777777", base256((1 << 94) - 1, 12)])
def test_sizes_beyond_the_disk_are_refused_before_anything_is_written(root: Path, size: bytes) -> None:
    with pytest.raises(LayerError, match="there is room for"):
        unpack_layers(root, tar(header(b"f", size=size)), options=UnpackOptions(max_bytes=1 << 30))
    assert listing(root) == {}


def test_large_sizes_in_base_256_and_pax_are_read(root: Path) -> None:
    unpack_layers(
        root,
        tar(
            file(b"f", b"x" * 600, size=base256(600, 12)),
            pax({b"size": b"700"}) + header(b"g", size=0) + b"y" * 700 + bytes(1024 - 700),
            file(b"h", b"z"),
        ),
    )
    assert listing(root) == {"f": b"x" * 600, "g": b"y" * 700, "h": b"z"}


@pytest.mark.parametrize("size", [b"-1", b"0x10", b"1.5", b"9" * 30])
def test_pax_sizes_that_are_no_numbers_are_refused(root: Path, size: bytes) -> None:
    with pytest.raises(LayerError, match="number"):
        unpack_layers(root, tar(pax({b"size": size}), file(b"f")))


# Extended headers


def test_global_headers_hold_until_taken_back_and_local_ones_for_one_member(root: Path) -> None:
    layer = tar(
        pax({b"mtime": b"11", b"comment": b"x"}, b"g"),
        file(b"a"),
        pax({b"mtime": b"22"}),
        file(b"b"),
        file(b"c"),
        pax({b"mtime": b""}),
        file(b"d", mtime=44),
        pax({b"mtime": b"55"}, b"g"),
        file(b"e"),
    )
    unpack_layers(root, layer)
    assert [(root / name).stat().st_mtime for name in "abcde"] == [11, 22, 11, 44, 55]


@pytest.mark.parametrize(
    "data",
    [b"x", b"12 path=abc", b"11 path=abcd\n", b"0 path=a\n", b"-5 path=a\n", b"9 path=ab\n", b"6 path\n", b"5 =a\n",
     b"9" * 30 + b" path=a\n", b" path=a\n", b"010 path=a\n1", b"11 path=a\n"],
)  # fmt: skip
def test_extended_headers_that_do_not_parse_are_refused(root: Path, data: bytes) -> None:
    with pytest.raises(LayerError, match="extended header"):
        unpack_layers(root, tar(file(b"pax", data, kind=b"x"), file(b"f")))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [(1 << 20) + 1, 1 << 30, base256(1 << 40, 12)])
def test_huge_extended_headers_are_refused_before_they_are_read(root: Path, kind: bytes, size: int | bytes) -> None:
    tracemalloc.start()
    with pytest.raises(LayerError, match="extended header of"):
        unpack_layers(root, tar(header(b"f", kind=kind, size=size)))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_many_global_headers_do_not_fill_the_memory(root: Path) -> None:
    value = bytes(b"x" * 500_000)
    layer = tar(*(pax({b"comment%d" % number: value}, b"g") for number in range(5)))
    with pytest.raises(LayerError, match="global headers"):
        unpack_layers(root, layer)


# Checksums and ends


SMALL = [
    directory(b"d/"),
    file(b"d/f", b"x" * 1000),
    pax({b"path": b"d/long", b"mtime": b"1.5"}),
    file(b"x", b"y" * 512),
    long_name(b"d/" + b"n" * 200),
    file(b"x", b"z"),
    symlink(b"s", b"d"),
    hardlink(b"h", b"d/f"),
]


def test_a_wrong_checksum_is_refused(root: Path) -> None:
    with pytest.raises(LayerError, match="not a tar archive"):
        unpack_layers(root, tar(header(b"f", checksum=b"000000\0 ")))
    with pytest.raises(LayerError, match="wrong checksum"):
        unpack_layers(root, tar(file(b"f"), header(b"g", checksum=b"012345\0 ")))
    with pytest.raises(LayerError, match="not a tar archive"):
        unpack_layers(root, tar(header(b"f", checksum=b"12x456\0 ")))


@pytest.mark.parametrize("position", range(512))
def test_a_flipped_bit_anywhere_in_a_header_is_noticed(root: Path, position: int) -> None:
    layer = bytearray(tar(file(b"name", b"data", mtime=1234)))
    layer[position] ^= 1
    if 148 <= position < 156 and layer[position] in b" !\0\1":
        return  # How the checksum ends is a matter of taste.
    with pytest.raises(LayerError):
        unpack_layers(root, bytes(layer))


def test_checksums_of_signed_bytes_are_accepted(root: Path) -> None:
    block = header(b"\xff\xfe")
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    unpack_layers(root, header(b"\xff\xfe", checksum=b"%06o\0 " % signed) + END)
    assert os.listdir(os.fsencode(root)) == [b"\xff\xfe"]


@pytest.mark.parametrize("cut", range(0, len(b"".join(SMALL)) + 1, 512))
def test_a_layer_cut_anywhere_is_an_error_unless_only_end_blocks_are_missing(root: Path, cut: int) -> None:
    """Which cuts leave whole members is computed from the members themselves."""
    whole = {0}
    position = 0
    for member in SMALL:
        position += len(member)
        whole.add(position)
    extended = {len(b"".join(SMALL[:3])), len(b"".join(SMALL[:5]))}  # After an extended header its member must come.
    layer = b"".join(SMALL)[:cut]
    if cut in whole - extended:
        unpack_layers(root, layer)
        unpack_layers(root.parent / "with one end block", layer + bytes(512))
    else:
        with pytest.raises(LayerError, match="incomplete"):
            unpack_layers(root, layer)


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 1535])
def test_a_layer_cut_inside_a_block_is_an_error(root: Path, cut: int) -> None:
    with pytest.raises(LayerError, match="incomplete"):
        unpack_layers(root, b"".join(SMALL)[:cut])


def test_what_follows_the_end_is_ignored_but_read(root: Path) -> None:
    """A digest covers it."""
    source = io.BytesIO(tar(file(b"f", b"x")) + b"junk" * 100_000)
    root.mkdir()
    unpack([source], str(root), cancel=CancelToken())
    assert source.tell() == len(source.getvalue())
    assert listing(root) == {"f": b"x"}


@pytest.mark.parametrize("data", [b"", END, bytes(512), bytes(100_000)])
def test_empty_layers_are_layers(root: Path, data: bytes) -> None:
    assert unpack_layers(root, data).members == 0


@pytest.mark.parametrize("data", [b"\x7fELF" + bytes(1000), b"<html>" * 200, b"x" * 512, b"short"])
def test_what_is_no_archive_is_said_to_be_none(root: Path, data: bytes) -> None:
    with pytest.raises(LayerError, match=r"not a tar archive|incomplete"):
        unpack_layers(root, data)


# Bombs


def test_too_many_members_are_refused(root: Path) -> None:
    layer = tar(*(file(b"%d" % number) for number in range(11)))
    unpack_layers(root, layer, options=UnpackOptions(max_members=11))
    with pytest.raises(LayerError, match="more than 10 members"):
        unpack_layers(root.parent / "second", layer, options=UnpackOptions(max_members=10))


def test_more_bytes_than_there_is_room_for_are_refused_member_by_member_and_together(root: Path) -> None:
    options = UnpackOptions(max_bytes=4 << 20)
    with pytest.raises(LayerError, match="there is room"):
        unpack_layers(root, tar(header(b"f", size=5 << 20), bytes(5 << 20)), options=options)
    with pytest.raises(LayerError, match="there is room"):
        unpack_layers(
            root.parent / "second", tar(*(file(b"%d" % n, bytes(1 << 20)) for n in range(5))), options=options
        )
    with pytest.raises(LayerError, match="there is room"):
        unpack_layers(root.parent / "third", END + bytes(8 << 20), options=options)


def test_very_many_directories_below_each_other_do_not_recurse(root: Path) -> None:
    """Ten million levels, named in a megabyte."""
    with pytest.raises(LayerError, match="a path of more than"):
        unpack_layers(root, tar(pax({b"path": b"a/" * 500_000}), directory(b"x")))
    with pytest.raises(LayerError, match=r"\.\."):
        unpack_layers(root, tar(pax({b"path": b"../" * 300_000}), directory(b"x")))
    with pytest.raises(LayerError, match="path of"):
        unpack_layers(root, tar(pax({b"linkpath": b"a/" * 500_000}), symlink(b"x", b"")))


def test_memory_does_not_grow_with_the_data(root: Path) -> None:
    """The layer itself is 64 MiB, made while it is read."""

    class Endless:
        left = 64

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if self.left == 63:
                return header(b"f", size=64 << 20)
            return bytes(1 << 20) if self.left >= -1 else b""

    root.mkdir()
    tracemalloc.start()
    unpack([Endless()], str(root), cancel=CancelToken())
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert (root / "f").stat().st_size == 64 << 20


# Everything else


def test_a_cancelled_unpacking_stops(root: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    root.mkdir()
    with pytest.raises(Cancelled):
        unpack([io.BytesIO(tar(file(b"f")))], str(root), cancel=cancel)


def test_no_descriptor_is_left_open_after_an_error(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LayerError):
        unpack_layers(root, tar(*(directory(b"d%d/e" % number) for number in range(50)), file(b"../x")))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_destination_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing"):
        unpack([], str(tmp_path / "missing"), cancel=CancelToken())


parts = st.sampled_from([b"a", b"b", b"l", b"."])
names = st.one_of(
    st.lists(parts, min_size=1, max_size=4).map(b"/".join),
    st.lists(parts, min_size=1, max_size=4).map(b"/".join),
    st.sampled_from([b".wh.a", b".wh.b", b"a/.wh.b", b"l/.wh.a", b".wh..wh..opq", b"a/.wh..wh..opq"]),
    st.sampled_from([b"/a", b"dev/x", b"l/../b", b"a/", b"\xff\xfe", b"a" * 100, b"l/" * 40]),
)
targets = st.one_of(names, st.sampled_from([b"/", b"/tmp", b"../..", b"../../outside", b"."]))
members = st.one_of(
    st.builds(file, names, st.binary(max_size=600)),
    st.builds(directory, names),
    st.builds(symlink, names, targets),
    st.builds(hardlink, names, targets),
    st.builds(lambda name, kind: header(name, kind=kind), names, st.sampled_from([b"3", b"6", b"V", b"Z", b"\0"])),
    st.builds(
        lambda key, value: pax({key: value}),
        st.sampled_from([b"path", b"linkpath", b"size", b"mtime", b"SCHILY.xattr.user.a",
                         b"GNU.sparse.size", b"GNU.sparse.map"]),
        st.one_of(names, st.sampled_from([b"0", b"1", b"-1", b"512", b"0,1", b"0,0,512,1"])),
    ),
)  # fmt: skip
quick = settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip


def unpacked_or_refused(tmp_path: Path, *layers: bytes) -> None:
    """Whatever the bytes: an image or a clear error, and nothing outside."""
    home = tmp_path / "home"
    (home / "outside").mkdir(parents=True)
    (home / "outside" / "file").write_bytes(b"host")
    with suppress(ChimageError):
        unpack_layers(home / "root", *layers, options=UnpackOptions(max_bytes=1 << 20))
    assert sorted(os.listdir(home)) == ["outside", "root"]
    assert listing(home / "outside") == {"file": b"host"}
    assert (home / "outside" / "file").stat().st_nlink == 1
    remove_tree(str(home))


@quick
@given(layers=st.lists(st.lists(members, max_size=8), min_size=1, max_size=3))
def test_any_members_in_any_order_stay_inside(tmp_path: Path, layers: list[list[bytes]]) -> None:
    unpacked_or_refused(tmp_path, *(tar(*layer) for layer in layers))


@quick
@given(data=st.data(), layer=st.lists(members, min_size=1, max_size=5).map(lambda found: tar(*found)))
def test_changed_bytes_give_an_image_or_a_clear_error(tmp_path: Path, data: st.DataObject, layer: bytes) -> None:
    """With a right checksum, or the parser would see little of it."""
    changed = bytearray(layer)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(changed) - 1))
        changed[position] = data.draw(st.integers(0, 255))
        start = position - position % 512
        block = changed[start : start + 512]
        block[148:156] = b" " * 8
        if any(block) and data.draw(st.integers(0, 9)):
            changed[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    unpacked_or_refused(tmp_path, bytes(changed))


@quick
@given(st.binary(max_size=2000))
def test_random_bytes_give_a_clear_error(tmp_path: Path, data: bytes) -> None:
    unpacked_or_refused(tmp_path, data)
