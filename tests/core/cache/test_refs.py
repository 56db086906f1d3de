"""References, loose and packed."""

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.cache.git.refs import DELETED, IMAGES, STATES, References, escape

_COMMIT = st.binary(min_size=20, max_size=20)
_NAMES = st.builds(
    "{}{}".format, st.sampled_from((STATES, IMAGES, f"{DELETED}a+1.2/")), st.text("ab-+.%0123", min_size=1, max_size=9)
).filter(lambda name: "/." not in name and name[-1] != ".")


def test_all_references_are_found_whatever_is_in_their_names(tmp_path: Path) -> None:
    """Those of deleted images are two levels deep, and versions have dots: what is not found would not be kept."""
    references = References(str(tmp_path), sync=False)
    names = [
        IMAGES + escape("debian+12.1"),
        f"{DELETED}{escape('debian+12.1')}/00000000000000000001",
        f"{DELETED}{escape('..x.y')}/00000000000000000002",
        STATES + "0" * 64,
    ]
    for number, name in enumerate(names):
        references.set(name, bytes([number]) * 20)
    assert references.below("refs/") == {name: bytes([number]) * 20 for number, name in enumerate(names)}
    assert list(references.below(DELETED)) == sorted(names[1:3])


@settings(max_examples=60, database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packed=st.dictionaries(_NAMES, _COMMIT, max_size=12), others=st.lists(_NAMES, max_size=8))
def test_packed_references_are_found_and_deleted(tmp_path: Path, packed: dict[str, bytes], others: list[str]) -> None:
    """As `git pack-refs` writes them."""
    lines = [
        f"{commit.hex()} {name}\n" for name, commit in sorted(packed.items(), key=lambda item: os.fsencode(item[0]))
    ]
    (tmp_path / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines))
    references = References(str(tmp_path), sync=False)
    for name in (*packed, *others):
        assert references.get(name) == packed.get(name)
    assert references.below("refs/") == packed
    for name in list(packed)[:2]:
        references.delete(name)
        del packed[name]
    assert references.below("refs/") == packed
