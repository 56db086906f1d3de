"""Results as text on stdout: image lists, the summary and the tree of the build cache."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chimage_core.text import plural, printable, size

if TYPE_CHECKING:
    from chimage_core.cache.git.statistics import Statistics
    from chimage_core.cache.protocol import CacheSummary
    from chimage_core.ops.build_cache import CacheDetails
    from chimage_core.ops.list import ListedImage
    from chimage_core.ops.undelete import UndeletableImage


def image_line(image: "ListedImage | UndeletableImage") -> str:
    """Return `debian:12 (amd64)`."""
    return f"{image.reference} ({printable(image.architecture or 'unknown')})"


def listed_line(image: "ListedImage") -> str:
    """Return the same, and whether the image is there only in the build cache."""
    return image_line(image) + ("" if image.is_unpacked else ", not unpacked")


def long_image_lines(images: "Sequence[ListedImage]") -> Iterator[str]:
    """Yield name, architecture and time of the last change (local time), in columns."""
    names = [listed_line(image) for image in images]
    width = max(map(len, names), default=0)
    for name, image in zip(names, images, strict=True):
        yield f"{name:<{width}} | {_local_time(image.modified_ns)}"


def undeletable_lines(images: "Sequence[UndeletableImage]") -> Iterator[str]:
    """Yield name, architecture, time of the deletion and its number, in columns."""
    names = [image_line(image) for image in images]
    width = max(map(len, names), default=0)
    for name, image in zip(names, images, strict=True):
        yield f"{name:<{width}} | {_local_time(image.deleted_ns)} | {image.number}"


def summary_lines(summary: "CacheSummary") -> Iterator[str]:
    """Yield the facts about the build cache, numbers in a column."""
    amount, _, unit = size(summary.disk_bytes + summary.large_bytes).partition(" ")
    rows = [
        ("named images:", str(summary.named_images), ""),
        ("state IDs:", str(summary.state_ids), ""),
        ("large files:", str(summary.large_files), ""),
        ("commits:", str(summary.commits), ""),
        ("internal files:", str(summary.files), ""),
        ("disk used:", amount, unit),
    ]
    width = max(len(number) for _, number, _ in rows)
    for label, number, unit in rows:
        yield f"{label:<15} {number:>{width}} {unit}".rstrip()


def details_lines(details: "CacheDetails") -> Iterator[str]:
    """Yield statistics and configuration of the repository and how it is collected, each under a heading."""
    yield "Git statistics (as git count-objects -v):"
    for name, number in _git_names(details.statistics):
        yield f"  {name + ':':<16} {number}"
    yield ""
    yield "Git configuration:"
    for line in details.configuration:
        yield f"  {printable(line.expandtabs(2))}"
    yield ""
    yield "Garbage collection:"
    classes = ", ".join(f"up to {size(limit)}" for limit in details.pack_classes)
    yield f"  packs are merged when there are more than {details.most_packs} of a size: {classes}"
    processors = plural(details.processes, "processor")
    yield f"  --gc keeps deleted images for {details.keep_deleted:g} days, and uses {processors}"
    yield f"  differences between versions are found by: {details.git or 'nobody, git is not installed'}"


def _git_names(statistics: "Statistics") -> list[tuple[str, int]]:
    """Return the numbers under Git's names for them; sizes in KiB, as there."""
    return [
        ("count", statistics.loose_objects),
        ("size", statistics.loose_bytes // 1024),
        ("in-pack", statistics.packed_objects),
        ("packs", statistics.packs),
        ("size-pack", statistics.pack_bytes // 1024),
        ("prune-packable", statistics.redundant_objects),
        ("garbage", statistics.garbage_files),
        ("size-garbage", statistics.garbage_bytes // 1024),
    ]


def _local_time(time_ns: int) -> str:
    import datetime

    return f"{datetime.datetime.fromtimestamp(time_ns // 1_000_000_000):%a %b %d %H:%M:%S %Y}"
