"""A build cache with very many states, made by chimage's own writers: to build them would take days."""

import os
import time
from collections.abc import Sequence

from chimage_core.cache.git.cache import GitCache
from chimage_core.cache.git.objects import BLOB, DIRECTORY_MODE, FILE_MODE, TREE, Commit, decode_tree, encode_tree
from chimage_core.cache.git.packedrefs import pack_references
from chimage_core.cache.git.packs import PackWriter
from chimage_core.cache.git.refs import STATES, References
from chimage_core.cache.git.trees import load_directory, store_directory
from chimage_core.cache.state import StateID
from chimage_core.cancel import CancelToken

CHAIN = 20
"""States from one base: so long is a Dockerfile."""
PACK = 5_000
"""States in one pack."""
_TIME = 1_700_000_000


class States:
    """The generated states of one repository."""

    def __init__(self, repository: str, image: str) -> None:
        """All begin at the image of this name (in file form), which is in the repository's cache."""
        self._repository = repository
        head = open_cache(repository).head(image)
        if head is None:
            raise ValueError(f"not in the build cache: {image}")
        self._base = head
        self.known: list[StateID] = []

    def grow(self, number: int) -> None:
        """Make more states until there are so many, each with a commit, trees and metadata of its own.

        Their references are loose.
        """
        while len(self.known) < number:
            self._add(min(PACK, number - len(self.known)))

    def pack_references(self) -> None:
        """Put all references into one file, as garbage collection does."""
        pack_references(self._repository, {}, sync=False)

    def _add(self, number: int) -> None:
        engine = open_cache(self._repository).engine
        store, references = engine.store, References(self._repository, sync=False)
        base = bytes.fromhex(self._base.token)
        entries = decode_tree(store.read_kind(Commit.decode(store.read_kind(base, 1)).tree, TREE))
        rest = [(mode, name, content) for mode, name, content in entries if name != b"root"]
        root = load_directory(store, engine.root_tree(self._base.token))
        with PackWriter(engine.repository.packs, store.contains, deflated=False, sync=False) as pack:
            made: list[tuple[StateID, bytes]] = []
            for _ in range(number):
                count = len(self.known)
                is_first = count % CHAIN == 0 or not made
                parent, state = (base, self._base.state) if is_first else (made[-1][1], made[-1][0])
                state = state.child(b"%d" % count)
                # Another time of the root directory: what changed differs in metadata at least.
                fields = root.own.split(b" ")
                root.own = b" ".join([fields[0], b"%d" % (_TIME * 10**9 + count), *fields[2:]])
                content = (DIRECTORY_MODE, b"root", store_directory(pack, root))
                note = (FILE_MODE, b"note", pack.add(BLOB, b"%d\n" % count))
                tree = pack.add(TREE, encode_tree([*rest, content, note]))
                commit = Commit(tree, (parent,), _TIME + count, f"RUN echo {count}", state)
                made.append((state, pack.add(1, commit.encode())))
                self.known.append(state)
            pack.finish()
        for state, name in made:
            references.set(STATES + state.hex, name)


def open_cache(repository: str) -> GitCache:
    """Open the build cache in a repository as a build would."""
    return GitCache(repository, emit=lambda _: None, cancel=CancelToken())


def seconds_to_find(repository: str, known: Sequence[StateID], look_ups: int = 200) -> tuple[float, float]:
    """Return the CPU seconds of one look-up in a cache that was just opened: of a state that is there, and one not."""
    cache = open_cache(repository)
    step = max(1, len(known) // look_ups)
    there = known[::step]
    missing = [state.child(b"not there") for state in there]
    return _seconds(cache, there, True), _seconds(cache, missing, False)


def _seconds(cache: GitCache, states: Sequence[StateID], expected: bool) -> float:
    begin = time.process_time()
    found = [cache.find(state) for state in states]
    used = time.process_time() - begin
    if any((snapshot is not None) is not expected for snapshot in found):
        raise AssertionError("a look-up gave a wrong answer")
    return used / len(states)


def repository_of(directory: str) -> str:
    """Return the cache's repository below a peer's directory."""
    return os.path.join(directory, "storage", "cache", "git")
