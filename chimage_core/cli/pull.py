"""`pull`: options in, request to `ops`, result as text or JSON."""

from typing import Any

from chimage_core.cli.session import Session, open_working
from chimage_core.errors import EXIT_OK
from chimage_core.image.reference import Reference

_PATH_STARTS = ("/", "./", "../")
"""How a destination begins that is a directory, as in older versions."""


def pull(session: Session) -> int:
    """Carry out `pull`."""
    reference = Reference.parse(session.option("image_ref"))
    wanted = session.option("dest_ref")
    if session.option("parse_only"):
        return _tell_parts(session, reference)
    is_directory = wanted is not None and wanted.startswith(_PATH_STARTS)
    destination = None if wanted is None or is_directory else Reference.parse(wanted)
    from chimage_core.ops import pull as ops

    settings = session.settings
    manner = ops.Manner(settings.arch, settings.xattrs, settings.always_download, session.option("last_layer"))
    with open_working(session) as workspace:
        if wanted is not None and is_directory:
            result = ops.pull_directory(workspace, reference, wanted, manner)
        else:
            request = ops.PullRequest(reference=reference, destination=destination, manner=manner)
            result = ops.pull(workspace, request)
    if session.json:
        session.json.result({**result._asdict(), "reference": str(result.reference)})
    return EXIT_OK


def _tell_parts(session: Session, reference: Reference) -> int:
    """Print how a reference is understood."""
    digest = None if reference.digest is None else str(reference.digest)
    fields: dict[str, Any] = {
        "host": reference.host,
        "port": reference.port,
        "path": list(reference.path),
        "name": reference.name,
        "tag": reference.tag,
        "digest": digest,
    }
    if session.json:
        session.json.result({"reference": str(reference), "file_name": reference.file_name, **fields})
        return EXIT_OK
    session.print(f"as string:    {reference}")
    session.print(f"for filename: {reference.file_name}")
    session.print("fields:")
    for name, value in fields.items():
        session.print(f"  {name:<7} {value!r}")
    return EXIT_OK
