"""A build cache of any size, written directly: only states, which hold nothing."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chimage_core.cache.git.objects import BLOB, COMMIT, DIRECTORY_MODE, FILE_MODE, TREE, Commit, encode_tree
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.refs import IMAGES, STATES, deletion_name, escape
from chimage_core.cache.git.repository import Repository
from chimage_core.cache.state import StateID
from chimage_core.image.config import ImageConfig


class State(NamedTuple):
    """A state to be written."""

    parent: int | None
    """Position of an earlier one."""
    text: str
    images: Sequence[str] = ()
    """Names, file form, of images that are at it."""
    deleted: Sequence[str] = ()


def write_states(repository: str, states: Iterable[State], *, start: int = 1_600_000_000) -> list[bytes]:
    """Write a cache in which each state is a second younger than the one before; return the names of the commits."""
    made = Repository(repository)
    made.create()
    commits: list[bytes] = []
    references: dict[str, bytes] = {}
    with PackWriter(made.packs, lambda _: False, deflated=False, sync=False) as pack:
        tree = _empty_tree(pack)
        for number, state in enumerate(states):
            parents = () if state.parent is None else (commits[state.parent],)
            identity = StateID.root(b"%d" % number)
            commit = Commit(tree, parents, start + number, state.text, identity)
            commits.append(pack.add(COMMIT, commit.encode()))
            references[STATES + identity.hex] = commits[-1]
            references.update((IMAGES + escape(name), commits[-1]) for name in state.images)
            moment = (start + number) * 1_000_000_000
            references.update((deletion_name(name, moment), commits[-1]) for name in state.deleted)
        pack.finish()
    lines = [f"{references[name].hex()} {name}\n" for name in sorted(references)]
    with open(os.path.join(repository, "packed-refs"), "w", encoding="ascii") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines))
    return commits


def _empty_tree(pack: PackWriter) -> bytes:
    config = pack.add(BLOB, ImageConfig(architecture="amd64").to_json())
    entries = [
        (FILE_MODE, b"config.json", config),
        (FILE_MODE, b"large", pack.add(BLOB, b"")),
        (DIRECTORY_MODE, b"root", pack.add(TREE, b"")),
    ]
    return pack.add(TREE, encode_tree(entries))
