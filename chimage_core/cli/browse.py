"""`registry`: tags, catalog and inspect, as text or JSON."""

from typing import Any

from chimage_core.cli.session import Session, open_reading
from chimage_core.errors import EXIT_OK
from chimage_core.events import Warned
from chimage_core.image.reference import Reference
from chimage_core.ops import registry as ops
from chimage_core.registry.browse import Listing
from chimage_core.text import printable, size

_LIMIT = 10_000


def registry(session: Session) -> int:
    """`registry`."""
    action, ref = session.option("action"), session.option("ref")
    limit = session.option("limit", _LIMIT)
    if action == "inspect":
        reference = Reference.parse(ref)
        with open_reading(session) as workspace:
            found = ops.inspect(workspace, reference, session.settings.arch)
        return _print_inspected(session, found)
    with open_reading(session) as workspace:
        if action == "tags":
            return _print_listing(session, "tags", ops.tags(workspace, Reference.parse(ref), limit))
        return _print_listing(session, "repositories", ops.catalog(workspace, ref, limit))


def _print_listing(session: Session, key: str, listing: Listing) -> int:
    if not listing.is_complete:
        session.emit(Warned(text=f"there are more {key}: --limit gives more"))
    if session.json:
        session.json.result({key: list(listing.names), "is_complete": listing.is_complete})
        return EXIT_OK
    for name in listing.names:
        session.print(printable(name))
    return EXIT_OK


def _print_inspected(session: Session, found: ops.Inspected) -> int:
    if session.json:
        session.json.result(_document(found))
        return EXIT_OK
    for label, value in _lines(found):
        session.print(printable(f"{label + ':' if label else '':<16} {value}".rstrip()))
    return EXIT_OK


def _lines(found: ops.Inspected) -> list[tuple[str, str]]:
    """Return what to print: labels, and values."""
    lines = [("reference", str(found.reference)), ("digest", str(found.digest))]
    if found.is_index:
        names = [(each.architecture, str(each.digest)) for each in found.available]
        lines += [("architectures" if not number else "", f"{n:<10} {d}") for number, (n, d) in enumerate(names)]
    image = found.image
    if image is None:
        return lines
    lines += [("architecture", image.architecture), ("manifest", str(image.digest))] if found.is_index else []
    lines += [("architecture", image.architecture)] if not found.is_index else []
    for number, layer in enumerate(image.layers, start=1):
        length = "unknown size" if layer.size < 0 else size(layer.size)
        lines.append((f"layer {number}/{len(image.layers)}", f"{layer.digest} {length}"))
    known = sum(max(layer.size, 0) for layer in image.layers)
    lines.append(("size", f"{size(known)} to download"))
    return lines + (_settings(image) if image.config else [])


def _settings(image: ops.RemoteImage) -> list[tuple[str, str]]:
    assert image.config is not None
    config = image.config.config
    lines = [("env", f"{name}={value}") for name, value in sorted(config.env.items())]
    lines += [("label", f"{name}={value}") for name, value in sorted(config.labels.items())]
    for label, words in (("entrypoint", config.entrypoint), ("cmd", config.cmd)):
        lines += [] if words is None else [(label, " ".join(words))]
    return [*lines, ("workdir", config.workdir)]


def _document(found: ops.Inspected) -> dict[str, Any]:
    image = found.image
    return {
        "reference": str(found.reference),
        "digest": str(found.digest),
        "is_index": found.is_index,
        "available": [{"architecture": each.architecture, "digest": str(each.digest)} for each in found.available],
        "image": None if image is None else _image_document(image),
    }


def _image_document(image: ops.RemoteImage) -> dict[str, Any]:
    layers = [
        {"digest": str(each.digest), "media_type": each.media_type, "size": None if each.size < 0 else each.size}
        for each in image.layers
    ]
    config = None
    if image.config is not None:
        known = image.config.config
        config = {
            "env": dict(known.env),
            "labels": dict(known.labels),
            "workdir": known.workdir,
            "entrypoint": None if known.entrypoint is None else list(known.entrypoint),
            "cmd": None if known.cmd is None else list(known.cmd),
            "user": known.user,
            "volumes": list(known.volumes),
            "ports": list(known.ports),
            "history": [dict(entry) for entry in known.history],
            "diff_ids": list(map(str, image.config.diff_ids)),
        }
    return {
        "digest": str(image.digest),
        "architecture": image.architecture,
        "layers": layers,
        "config": config,
    }
