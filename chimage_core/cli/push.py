"""`push`."""

import os

from chimage_core.cli.session import Session, open_working
from chimage_core.errors import EXIT_OK, UsageError
from chimage_core.image.reference import Reference
from chimage_core.ops.push import PushedOne, PushRequest, PushResult, push_image


def push(session: Session) -> int:
    """`push`."""
    request = _request(session)
    with open_working(session) as workspace:
        result = push_image(workspace, request)
    if session.json:
        session.json.result(_document(result))
    return EXIT_OK


def _request(session: Session) -> PushRequest:
    settings = session.settings
    references = tuple(map(Reference.parse, session.option("refs")))
    index, directory = session.option("index"), session.option("image")
    if index is None and len(references) > 2:
        raise UsageError(
            f"push: expected IMAGE_REF [DEST_REF], not {len(references)} references",
            hint="an index of several images is pushed with --index",
        )
    return PushRequest(
        images=references if index is not None else references[:1],
        destination=references[-1] if index is None else Reference.parse(index),
        compression=session.option("compress", "gzip"),
        directory=None if directory is None else os.path.abspath(directory),
        is_index=index is not None,
        has_history=session.option("layers") == "history",
        with_xattrs=settings.xattrs,
        epoch=settings.epoch,
        digest_file=session.option("digest_file"),
    )


def _document(result: PushResult) -> dict[str, object]:
    return {
        "destination": str(result.destination),
        "digest": result.digest,
        "media_type": result.media_type,
        "images": [_image(image) for image in result.images],
    }


def _image(image: PushedOne) -> dict[str, object]:
    layers = [
        {"digest": str(each.digest), "diff_id": str(each.diff_id), "size": each.size, "outcome": how}
        for each, how in image.layers
    ]
    return {
        "reference": str(image.reference),
        "architecture": image.architecture,
        "digest": image.digest,
        "layers": layers,
    }
