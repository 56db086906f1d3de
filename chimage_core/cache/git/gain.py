"""What compressing packs again may give back: a guess from a few objects, since only doing it tells.

Versions of one file, which are stored as differences then, may give back much more.
"""

import os
import zlib

from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.gc import is_compressed, uncompressed
from chimage_core.cache.git.packfile import Pack
from chimage_core.errors import file_errors
from chimage_core.fs.usage import on_disk

_SAMPLES = 64
"""Objects of each pack that are tried."""
_LARGEST = 1 << 20
"""Bytes in the pack of an object that is tried."""
_LEVEL = 4
"""Of zlib, as in `squeeze`."""


def guess_gain(engine: Engine) -> dict[str, int]:
    """Return how many bytes compressing each pack may give back, by path; none if nothing is to be done.

    Raises FileError, CacheBroken.
    """
    if not engine.repository.id or is_compressed(engine):
        return {}
    gains = {}
    for pack in uncompressed(engine):
        engine.options.cancel.check()
        with file_errors("look at build cache", pack.path):
            gains[pack.path] = int(on_disk(os.lstat(pack.path)) * _share(engine, pack))
    return gains


def _share(engine: Engine, pack: Pack) -> float:
    """Return which share of a pack may be given back, between 0 and 1."""
    sizes = [each for each in pack.sizes() if each[1] <= _LARGEST]
    before = after = 0
    for name, size in sizes[:: max(1, len(sizes) // _SAMPLES)]:
        before += size
        after += min(size, len(zlib.compress(engine.store.read(name)[1], _LEVEL)))
    tried = sum(size for _, size in sizes) / max(1, pack.size)
    return tried * (1 - after / before) if before else 0
