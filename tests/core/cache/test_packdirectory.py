"""Which objects are there: the same answer, however often one asks."""

import hashlib
from pathlib import Path

from chimage_core.cache.git.objects import BLOB, identify
from chimage_core.cache.git.packdirectory import PackDirectory
from chimage_core.cache.git.packs import PackWriter


def write_pack(objects: Path, contents: list[bytes]) -> str:
    (objects / "pack").mkdir(parents=True, exist_ok=True)
    with PackWriter(str(objects / "pack"), lambda _: False, deflated=False, sync=False) as writer:
        for content in contents:
            writer.add(BLOB, content)
        index = writer.finish()
    assert index is not None
    return index


def test_many_questions_have_the_same_answers(tmp_path: Path) -> None:
    present = [b"%d" % number for number in range(3000)]
    packs = PackDirectory(str(tmp_path))
    for start in range(0, 3000, 500):
        packs.open(write_pack(tmp_path, present[start : start + 500]))
    absent = [hashlib.sha1(b"%d" % number).digest() for number in range(5000)]
    for _ in range(2):
        assert all(packs.has(identify(BLOB, content)) for content in present)
        assert not any(packs.has(name) for name in absent)


def test_a_pack_that_comes_later_is_known(tmp_path: Path) -> None:
    packs = PackDirectory(str(tmp_path))
    packs.open(write_pack(tmp_path, [b"one"]))
    late = identify(BLOB, b"late")
    assert not any(packs.has(late) for _ in range(2000))
    packs.open(write_pack(tmp_path, [b"late"]))
    assert packs.has(late)
