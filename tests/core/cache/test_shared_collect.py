"""Garbage collection of a repository that borrows from a shared cache."""

import os
import shutil
import time
from pathlib import Path

import pytest

from chimage_core.cache.git.condense import Means
from chimage_core.cache.git.gc import Request, collect
from chimage_core.errors import NotInCache
from tests.core.cache.support import commit, write_files
from tests.core.cache.test_shared import BASE, Pair, entries
from tests.support.host import has_program
from tests.support.image_trees import describe
from tests.support.repository import fsck


@pytest.mark.parametrize("program", ["git", None])
def test_a_collection_takes_nothing_over_and_gives_up_no_copy_that_is_needed(
    tmp_path: Path, program: str | None
) -> None:
    if program is not None and not has_program(program):
        pytest.skip("git is not installed")
    pair = Pair(tmp_path)
    on_top = pair.build_on_top()
    cache, place = pair.open(), pair.place("independent")
    write_files(place.root, {**BASE, "empty": ""})
    independent = commit(cache, place, key=b"independent")
    cache.publish("independent", independent)
    write_files(place.root, {"dead": "dead"})
    commit(cache, place, independent, key=b"dead")
    before, theirs = entries(pair.open()), entries(pair.theirs.cache())
    git = None if program is None else shutil.which(program)
    request = Request(time.time_ns(), Means(git, 2), str(tmp_path / "mine/large"), str(tmp_path / "mine/uses"))
    assert collect(pair.open(shared=False).engine, request).event.states == 1
    after = entries(pair.open())
    assert after < before
    assert after & theirs, "the copies of the independent image are kept"
    assert entries(pair.theirs.cache()) == theirs
    assert fsck(pair.mine.root) == ""
    cache = pair.open(shared=False)
    assert cache.find(on_top.state) == on_top
    cache.restore(on_top, pair.place("copy"))
    assert describe(pair.place("copy").root) == describe(pair.place("own").root)
    # Without the shared cache nobody can say what is needed: nothing is dropped then.
    os.rename(pair.theirs.root, f"{pair.theirs.root}.away")
    pair.open(shared=False).restore(independent, pair.place("again"))
    write_files(place.root, {"dead": "dead again"})
    commit(pair.open(shared=False), place, independent, key=b"dead")
    held = entries(pair.open(shared=False))
    with pytest.raises(NotInCache, match=pair.theirs.repository):
        collect(pair.open(shared=False).engine, request)
    assert entries(pair.open(shared=False)) == held
