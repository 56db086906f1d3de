"""`build-cache --du` as text and as JSON."""

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chimage_core.text import printable, size

if TYPE_CHECKING:
    from chimage_core.ops.du import StorageUse


def du_lines(use: "StorageUse") -> Iterator[str]:
    """Yield the room that each image takes, then that of all parts of the storage directory."""
    if use.images:
        head = ("IMAGE", "CACHED", "UNIQUE", "SHARED", "UNPACKED", "LINKED")
        rows = [
            (
                printable(str(image.reference)),
                *((size(image.cached), size(image.unique), size(image.shared)) if image.is_cached else ("-", "-", "-")),
                *((size(image.unpacked), size(image.linked)) if image.is_unpacked else ("-", "-")),
            )
            for image in use.images
        ]
        yield from columns([head, *rows])
        yield ""
    cache = use.cache
    yield from columns(
        [
            ("unpacked images", size(use.unpacked)),
            ("build cache", size(cache.total)),
            ("  packs", size(cache.packs)),
            ("  large files", size(cache.large)),
            ("  references, other", size(cache.other)),
            ("downloads", size(use.downloads)),
            ("uploads", size(use.uploads)),
            ("unfinished work", size(use.leftovers)),
            ("cache mounts", size(use.mounts)),
            ("jobs", size(use.jobs)),
            ("other", size(use.other)),
            ("total", size(use.total)),
            ("free", size(use.free)),
        ]
    )
    for amount, what in ((cache.deleted, "only deleted images"), (cache.unreachable, "no image")):
        if amount:
            yield f"of the build cache, {what} need{'' if what.endswith('images') else 's'}: {size(amount)}"


def du_document(use: "StorageUse") -> dict[str, Any]:
    """Return the same in bytes, to be written as JSON."""
    images = [
        {**image._asdict(), "reference": str(image.reference), "shared": image.shared if image.is_cached else None}
        for image in use.images
    ]
    return {
        **use._asdict(),
        "images": images,
        "cache": {**use.cache._asdict(), "total": use.cache.total},
        "total": use.total,
    }


def columns(rows: Iterable[Sequence[str]], *, left: Container[int] = (0,)) -> Iterator[str]:
    """Yield rows of equal length as lines; the columns of these numbers are flush left, the others right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = enumerate(zip(row, widths, strict=True))
        yield "  ".join(f"{cell:{'<' if number in left else '>'}{width}}" for number, (cell, width) in cells).rstrip()
