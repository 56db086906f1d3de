"""Subcommands that hand images to other programs."""

from chimage_core.cli.session import Session, open_working
from chimage_core.errors import EXIT_OK
from chimage_core.image.reference import Reference
from chimage_core.ops.export import ExportRequest, export_image
from chimage_core.transfer.export import ExportOptions
from chimage_core.transfer.formats import Format


def export(session: Session) -> int:
    """`export`."""
    settings, form = session.settings, session.option("format")
    options = ExportOptions(
        xattrs=settings.xattrs,
        replaces=session.option("overwrite", False),
        epoch=settings.epoch,
        search_path=settings.environment.get("PATH"),
    )
    request = ExportRequest(
        reference=Reference.parse(session.option("image_ref")),
        path=session.option("path"),
        format=None if form is None else Format(form),
        compression=session.option("compress"),
        options=options,
        has_history=session.option("layers") == "history",
    )
    with open_working(session) as workspace:
        result = export_image(workspace, request)
    if session.json:
        session.json.result({**result._asdict(), "reference": str(result.reference), "format": result.format.value})
    return EXIT_OK
