"""What the files of a snapshot are known by, whatever led to them.

Apart from what makes layers of them, since who has packed the same before needs no more than this.
"""

import hashlib

from chimage_core.cache.git import metadata
from chimage_core.cache.git.engine import Engine
from chimage_core.cache.git.trees import join, load_directory


def content_key(engine: Engine, token: str, private: frozenset[bytes]) -> str:
    """Return a name for all that the files of a snapshot are, but for the root directory itself and what is `private`.

    What is private is files in directories of the root. Where there is nothing else in one, it does not count either:
    it is as new as they are. Raises NotInCache, CacheBroken.
    """
    store, hashed = engine.store, hashlib.sha256()
    tops = sorted({path.rpartition(b"/")[0] for path in private})
    root = load_directory(store, engine.root_tree(token))
    below = [(top, load_directory(store, root.folders[top])) for top in tops if top in root.folders]
    for path, directory in ((b"", root), *below):
        has_more = bool(directory.folders) or any(join(path, name) not in private for name in directory.lines)
        hashed.update(b"directory %s %s\n" % (metadata.quote(path), directory.own if path and has_more else b""))
        for name in sorted(directory.lines):
            if join(path, name) not in private:
                hashed.update(b"%s %s\n" % (directory.lines[name], directory.contents.get(name, b"").hex().encode()))
        for name in sorted(directory.folders):
            if join(path, name) not in tops:
                hashed.update(b"%s %s\n" % (metadata.quote(name), directory.folders[name].hex().encode()))
    return hashed.hexdigest()
