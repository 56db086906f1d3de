"""What is fetched from elsewhere may be made to harm us: trees that are not exactly of our format are refused."""

import os
import zlib
from pathlib import Path

import pytest

from chimage_core.cache.git.deflate import inflate
from chimage_core.cache.git.objects import BLOB, COMMIT, TREE, Commit, encode_tree
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.protocol import Snapshot
from chimage_core.cache.state import StateID
from chimage_core.errors import CacheBroken, ChimageError
from tests.core.cache.support import CONFIG, Site, commit, write_files

STATE = StateID.root(b"hostile")
OWN = b"%1\nd0755 0 .\n"
Entries = list[tuple[bytes, bytes, bytes]]


def _restore(site: Site, entries: Entries, metadata: bytes | None) -> None:
    """Restore an image whose root has these (mode, name, content) entries and this metadata."""
    place = site.place("seed")
    write_files(place.root, {"file": "1"})
    commit(site.cache(), place)
    with PackWriter(f"{site.repository}/objects/pack", lambda _: False, deflated=False, sync=False) as pack:
        tree = [(mode, name, pack.add(TREE if mode == b"40000" else BLOB, content)) for mode, name, content in entries]
        if metadata is not None:
            tree.append((b"100644", b"%", pack.add(BLOB, metadata)))
        root = pack.add(TREE, encode_tree(tree))
        config = pack.add(BLOB, CONFIG.to_json())
        top = pack.add(TREE, encode_tree([(b"100644", b"config.json", config), (b"40000", b"root", root)]))
        token = pack.add(COMMIT, Commit(top, (), 0, "hostile", STATE).encode()).hex()
        pack.finish()
    site.cache().restore(Snapshot(STATE, token), site.place("victim"))


@pytest.mark.parametrize(
    ("entries", "metadata"),
    [
        ([(b"100644", b"..", b"x")], OWN + b"f0644 0 ..\n"),
        ([(b"100644", b".", b"x")], OWN + b"f0644 0 .\n"),
        ([(b"100644", b"%2e%2e", b"x")], OWN + b"f0644 0 ..\n"),
        ([(b"100644", b"%2fetc", b"x")], OWN + b"f0644 0 /etc\n"),
        ([(b"100644", b"%61", b"x")], OWN + b"f0644 0 a\n"),
        ([(b"100644", b"%zz", b"x")], OWN + b"f0644 0 %zz\n"),
        ([(b"100644", b"a", b"x"), (b"100644", b"a", b"y")], OWN + b"f0644 0 a\n"),
        ([(b"100644", b"a", b"x"), (b"40000", b"a", b"")], OWN + b"f0644 0 a\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a\nf0644 0 a\n"),
        ([(b"100644", b"a", b"x")], OWN),
        ([], OWN + b"f0644 0 a\n"),
        ([(b"120000", b"a", b"/etc")], OWN + b"f0644 0 a\n"),
        ([(b"100644", b"a", b"x")], OWN + b"l0777 0 a\n"),
        ([(b"160000", b"a", b"x")], OWN + b"f0644 0 a\n"),
        ([], OWN + b"p0644 0 ..\n"),
        ([], OWN + b"p0644 0 a/b\n"),
        ([], OWN + b"b0644 0 device\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a ext=5+1,0+3;10\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a ext=0+9;10\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a ext=0+1;99999999999999999999\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a ext=-1+1;5\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a hl=x\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a hl=" + b"9" * 5000 + b"\n"),
        ([(b"120000", b"a", b"x\0y")], OWN + b"l0777 0 a\n"),
        ([(b"120000", b"a", b"")], OWN + b"l0777 0 a\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a x:user.%00=\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a x:user.a=%%%\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a !future=1\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f0644 0 a big=00:5\n"),
        ([(b"100644", b"a", b"x")], OWN + b"f9999 0 a\n"),
        ([(b"100644", b"a", b"x")], b"%2\nd0755 0 .\nf0644 0 a\n"),
        ([(b"100644", b"a", b"x")], b"%1\nf0644 0 a\n"),
        ([], None),
    ],
)
def test_a_malformed_tree_is_refused_and_leaves_nothing(site: Site, entries: Entries, metadata: bytes | None) -> None:
    with pytest.raises(CacheBroken):
        _restore(site, entries, metadata)
    assert not os.path.lexists(site.place("victim").root)
    assert [name for name in os.listdir(site.place("victim").side) if name.startswith(".tmp")] == []


def test_the_well_formed_neighbour_of_these_is_accepted(site: Site) -> None:
    """Else the cases above would prove nothing."""
    entries = [(b"100644", b"a", b"x"), (b"100644", b"%2egit", b"y"), (b"120000", b"l", b"/etc")]
    _restore(site, entries, OWN + b"f0644 0 .git unknown=1\nf0644 5 a\nl0777 0 l\np0644 0 fifo\n")
    assert sorted(os.listdir(site.place("victim").root)) == [".git", "a", "fifo", "l"]


def test_attributes_that_the_kernel_obeys_are_not_set(site: Site) -> None:
    """`opaque` and `redirect` in a lower directory make an overlay show something else."""
    metadata = b"%1\nd0755 0 . x:user.overlay.opaque=eQ==\nf0644 0 a x:user.overlay.redirect=L2I= x:trusted.a=eQ==\n"
    _restore(site, [(b"100644", b"a", b"x")], metadata)
    root = site.place("victim").root
    assert os.listxattr(root) == os.listxattr(f"{root}/a") == []


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_short_stream_cannot_fill_the_memory(size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        inflate(zlib.compress(bytes(1 << 26)), size)


def test_damaged_packs_give_one_clear_error(site: Site) -> None:
    """A byte flipped by a bad disk must never become a file of an image."""
    place, copy = site.place("image"), site.place("copy")
    write_files(place.root, {f"file{number}": f"content {number}" * 50 for number in range(30)})
    snapshot = commit(site.cache(), place)
    (pack,) = Path(site.repository, "objects", "pack").glob("*.pack")
    good = pack.read_bytes()
    os.chmod(pack, 0o644)
    found = 0
    for position in range(20, len(good) - 20, 97):
        pack.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        try:
            site.cache().restore(snapshot, copy)
        except ChimageError:
            found += 1
            assert not os.path.lexists(copy.root)
        else:
            os.rename(copy.root, f"{copy.root}.{position}")
            for name in os.listdir(place.root):
                if name.startswith("file"):
                    assert Path(f"{copy.root}.{position}", name).read_bytes() == Path(place.root, name).read_bytes()
    assert found > 10


def test_a_truncated_pack_gives_one_clear_error(site: Site) -> None:
    place = site.place("image")
    write_files(place.root, {"file": "1"})
    snapshot = commit(site.cache(), place)
    for path in Path(site.repository, "objects", "pack").glob("*.pack"):
        os.chmod(path, 0o644)
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ChimageError):
        site.cache().restore(snapshot, site.place("copy"))
