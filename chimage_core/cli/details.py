"""`list IMAGE_REF`: what is known of one image, here and in its registry."""

import os
from typing import TYPE_CHECKING

from chimage_core.cli.session import Session, open_reading
from chimage_core.errors import EXIT_OK, IntegrityError, RegistryError
from chimage_core.events import Warned
from chimage_core.image.architecture import host_architecture
from chimage_core.image.reference import Reference
from chimage_core.text import printable

if TYPE_CHECKING:
    from chimage_core.ops.list import ListedImage
    from chimage_core.ops.remote import RemoteImage
    from chimage_core.workspace import Workspace

_SHORT = 11
"""Digits of a digest."""


def details(session: Session, reference: Reference) -> int:
    """Print what is known of one image."""
    from chimage_core.ops.list import find_image

    with open_reading(session) as workspace:
        image = find_image(workspace, reference)
        if session.json:
            document = {**image._asdict(), "reference": str(reference)} if image else {"reference": str(reference)}
            remote, _ = _remote(session, workspace, reference)
            found = None if remote is None else {**remote._asdict()}
            if remote is not None and found is not None:
                found["architectures"] = {each.architecture: each.digest for each in remote.architectures}
            session.json.result({"image": document, "is_local": image is not None, "remote": found})
            return EXIT_OK
        _print(session, _local_rows(reference, image))
        session.stdout.flush()  # A registry may take its time.
        _print(session, _remote_rows(*_remote(session, workspace, reference)))
    return EXIT_OK


def _remote(session: Session, workspace: "Workspace", reference: Reference) -> "tuple[RemoteImage | None, str]":
    """Return what a registry has, and whether: `yes`, `no`, `unknown`, `not asked`."""
    if session.settings.pulls == "never":
        return None, "not asked"
    from chimage_core.ops.remote import remote_image

    try:
        found = remote_image(workspace, reference)
    except (RegistryError, IntegrityError) as error:
        session.emit(Warned(text=error.message))
        return None, "unknown"
    return found, "no" if found is None else "yes"


def _local_rows(reference: Reference, image: "ListedImage | None") -> list[tuple[str, str]]:
    rows = [("details of image:", str(reference)), ("in local storage:", "yes" if image else "no")]
    if image:
        rows.append(("in build cache:", "yes" if image.state else "no"))
    rows.append(("full remote ref:", str(reference.canonical())))
    if image:
        rows.append(("architecture:", image.architecture or "unknown"))
        if not image.is_unpacked:
            rows.append(("unpacked:", "no, until a build or undelete needs it"))
    return rows


def _remote_rows(remote: "RemoteImage | None", availability: str) -> list[tuple[str, str]]:
    rows = [("available remotely:", availability)]
    if remote is None:
        return rows
    rows.append(("remote arch-aware:", "yes" if remote.is_arch_aware else "no"))
    rows.append(("host architecture:", host_architecture(os.uname().machine)))
    width = max((len(each.architecture) for each in remote.architectures), default=0)
    label = "archs available:"
    for each in remote.architectures:
        rows.append((label, f"{each.architecture:<{width}}  {each.digest.partition(':')[2][:_SHORT]}"))
        label = ""
    return rows


def _print(session: Session, rows: list[tuple[str, str]]) -> None:
    for label, value in rows:
        session.print(f"{label:<20} {printable(value)}")
