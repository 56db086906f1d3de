"""Keep the number of packs small, and remove what killed processes left.

A build of 100 steps makes 100 packs, and every look-up has to try them all. Packs of about the same size are therefore
merged when there are many, by copying their entries as they are.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence

from chimage_core.cache.git.packfile import Pack
from chimage_core.cache.git.packs import TEMPORARY_PACK, PackWriter
from chimage_core.cache.git.reader import ObjectStore
from chimage_core.cache.git.repository import MANY_PACKS, SIZE_CLASSES, large_directory
from chimage_core.errors import file_errors
from chimage_core.fs.atomic import TEMPORARY_PREFIX, temporary_name
from chimage_core.fs.remove import remove_tree


def merge_packs(store: ObjectStore, directory: str, *, sync: bool, classes: Sequence[int] = SIZE_CLASSES) -> None:
    """Merge the packs of each size class of which there are more than 32, as far as the store knows.

    Others may read or write the repository meanwhile. An object is always in some pack: the old ones go when the new
    one is complete, and only such as were copied. Raises FileError.
    """
    for above, limit in itertools.pairwise((0, *classes)):
        packs = [pack for pack in store.packs() if above < pack.size <= limit]
        if len(packs) > MANY_PACKS:
            _merge(packs, store, directory, sync)


def _merge(packs: list[Pack], store: ObjectStore, directory: str, sync: bool) -> None:
    with file_errors("write build cache", directory):
        with PackWriter(directory, lambda _: False, deflated=False, sync=sync) as writer:
            merged = [pack for pack in packs if _copy(pack, writer)]
            index = writer.finish()
        if index is not None:
            store.add_pack(index)
            _remove([pack for pack in merged if pack.index_path != index])
            store.forget_removed()


def remove(repository: str) -> None:
    """Remove the repository and its large files.

    A crash leaves the repository whole, or not there: half of one would be taken for a cache. Large files go after it,
    since snapshots need them; those that a crash leaves go with the next `gc`. Raises FileError.
    """
    aside = temporary_name(os.path.dirname(repository))
    with file_errors("remove", repository), contextlib.suppress(FileNotFoundError):
        os.rename(repository, aside)
    remove_tree(aside)
    remove_tree(large_directory(repository))


def sweep(repository: str) -> None:
    """Remove temporary files of processes that were killed. Nobody else uses the repository meanwhile."""
    parent = os.path.dirname(repository)
    for name in os.listdir(parent):  # A repository that was being made, or removed.
        if name.startswith(TEMPORARY_PREFIX):
            remove_tree(os.path.join(parent, name))
    for path in leftovers(repository):
        remove_tree(path)


def leftovers(repository: str) -> Iterator[str]:
    """Give the paths of temporary files and directories, and of half packs, whether or not somebody works on them.

    Those among the large files, too.
    """
    for directory, folders, names in itertools.chain(os.walk(repository), os.walk(large_directory(repository))):
        for name in names:
            is_temporary = name.startswith((TEMPORARY_PACK, ".tmp-", "tmp_")) or name.endswith(".lock")
            orphan = name.startswith("pack-") and name.endswith(".pack") and f"{name[:-5]}.idx" not in names
            headless = name.startswith("pack-") and name.endswith(".idx") and f"{name[:-4]}.pack" not in names
            if is_temporary or orphan or headless:
                yield os.path.join(directory, name)
        for folder in [folder for folder in folders if folder.startswith(".tmp-")]:
            folders.remove(folder)
            yield os.path.join(directory, folder)


def _copy(pack: Pack, writer: PackWriter) -> bool:
    """Copy all entries of a pack; not if it has deltas, which may need bases that are elsewhere."""
    entries = pack.entries()
    if any(pack.head(offset)[0] > 4 for offset, _ in entries):
        return False
    ends = [offset for offset, _ in entries[1:]] + [pack.end]
    with memoryview(pack.data) as data:
        for (offset, name), end in zip(entries, ends, strict=True):
            writer.copy_raw(name, data[offset:end])
    return True


def _remove(packs: list[Pack]) -> None:
    for pack in packs:
        for path in (pack.index_path, pack.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
