"""One function per subcommand: options in, request to `ops`, result as text or JSON. Returns the exit status."""

from collections.abc import Callable

from chimage_core.cli.session import Session, open_reading, open_working
from chimage_core.errors import EXIT_FAILED, EXIT_OK, UsageError

Command = Callable[[Session], int]


def build(session: Session) -> int:
    """`build`."""
    from chimage_core.cli import build as command

    return command.build(session)


def delete(session: Session) -> int:
    """`delete`."""
    from chimage_core.image.reference import ReferenceGlob
    from chimage_core.ops.delete import delete as delete_images

    globs = [ReferenceGlob.parse(text) for text in session.option("image_globs")]
    with open_working(session) as workspace:
        deleted = delete_images(workspace, globs)
    session.result(deleted=[str(reference) for reference in deleted])
    return EXIT_OK


def dependencies(session: Session) -> int:
    """`--dependencies`: silence means that all is well."""
    from chimage_core.ops.gestalt import dependency_problems

    problems = dependency_problems()
    if session.json:
        session.json.result({"problems": problems})
    else:
        for problem in problems:
            session.print(problem)
    return EXIT_FAILED if problems else EXIT_OK


def gestalt(session: Session) -> int:
    """`gestalt`: print a fact, or say by the exit status whether something is available."""
    from chimage_core.ops import gestalt as ops

    selectors: dict[str, Callable[[], str | tuple[ops.Component, ...]]] = {
        "bucache": ops.cache_components,
        "bucache-dot": ops.dot_components,
        "python-path": ops.python_path,
        "storage-path": lambda: session.settings.storage,
    }
    selector = session.option("selector")
    if selector not in selectors:
        wrong = "gestalt: no SELECTOR" if selector is None else f"gestalt: no such SELECTOR: {selector}"
        raise UsageError(wrong, hint=f"use one of: {', '.join(selectors)}")
    fact = selectors[selector]()
    if isinstance(fact, str):
        _print_fact(session, selector, fact)
    elif session.json:
        session.json.result({"components": {component.name: component.version for component in fact}})
    elif session.settings.verbosity > 0:
        for component in fact:
            session.print(f"{component.name}: {component.version or 'not found'}")
    return EXIT_OK


def import_(session: Session) -> int:
    """`import`."""
    from chimage_core.image.reference import Reference
    from chimage_core.ops.import_ import ImportRequest, import_image

    arch = session.settings.arch
    request = ImportRequest(
        path=session.option("path"),
        reference=Reference.parse(session.option("image_ref")),
        with_xattrs=session.settings.xattrs,
        name=session.option("select"),
        architecture=None if arch == "host" else arch,
    )
    with open_working(session) as workspace:
        result = import_image(workspace, request)
    session.result(reference=str(result.reference), path=result.path, state=result.state)
    return EXIT_OK


def list_(session: Session) -> int:
    """`list`."""
    from chimage_core.cli import render
    from chimage_core.image.reference import Reference
    from chimage_core.ops.list import list_images

    if session.option("undeletable"):
        return _list_undeletable(session)
    wanted = session.option("image_ref")
    if wanted is not None:
        from chimage_core.cli.details import details

        return details(session, Reference.parse(wanted))
    with open_reading(session) as workspace:
        images = list_images(workspace, with_states=session.json is not None)
    if session.json:
        session.json.result({"images": [{**image._asdict(), "reference": str(image.reference)} for image in images]})
    elif session.option("long"):
        for line in render.long_image_lines(images):
            session.print(line)
    else:
        for image in images:
            session.print(render.listed_line(image))
    return EXIT_OK


def reset(session: Session) -> int:
    """`reset`."""
    from chimage_core.ops.reset import reset as reset_storage

    reset_storage(session.settings, session.argv, emit=session.emit, cancel=session.cancel)
    return EXIT_OK


def storage_path(session: Session) -> int:
    """`storage-path`, the older spelling of `gestalt storage-path`."""
    _print_fact(session, "storage-path", session.settings.storage)
    return EXIT_OK


def undelete(session: Session) -> int:
    """`undelete`."""
    from chimage_core.image.reference import Reference
    from chimage_core.ops.undelete import undelete as undelete_image

    reference = Reference.parse(session.option("image_ref"))
    with open_working(session) as workspace:
        result = undelete_image(workspace, reference, session.option("nth"))
    session.result(**{**result._asdict(), "reference": str(result.reference)})
    return EXIT_OK


def build_cache(session: Session) -> int:
    """`build-cache`."""
    from chimage_core.cli import build_cache as command

    return command.build_cache(session)


def export(session: Session) -> int:
    """`export`."""
    from chimage_core.cli import transfer as command

    return command.export(session)


def pull(session: Session) -> int:
    """`pull`."""
    from chimage_core.cli import pull as command

    return command.pull(session)


def inspect(session: Session) -> int:
    """`inspect`."""
    from chimage_core.cli import inspect as command

    return command.inspect(session)


def modify(session: Session) -> int:
    """`modify`."""
    from chimage_core.cli import modify as command

    return command.modify(session)


def push(session: Session) -> int:
    """`push`."""
    from chimage_core.cli import push as command

    return command.push(session)


def registry(session: Session) -> int:
    """`registry`."""
    from chimage_core.cli import browse as command

    return command.registry(session)


COMMANDS: dict[str, Command] = {
    "build": build,
    "build-cache": build_cache,
    "delete": delete,
    "export": export,
    "gestalt": gestalt,
    "import": import_,
    "inspect": inspect,
    "list": list_,
    "modify": modify,
    "pull": pull,
    "push": push,
    "registry": registry,
    "reset": reset,
    "storage-path": storage_path,
    "undelete": undelete,
}
"""By name on the command line."""


def _print_fact(session: Session, name: str, value: str) -> None:
    if session.json:
        session.json.result({name.replace("-", "_"): value})
    else:
        session.print(value)


def _list_undeletable(session: Session) -> int:
    """`list --undeletable`. Of an image that is asked for, all deletions; else only what need not be deleted first."""
    from chimage_core.cli import render
    from chimage_core.image.reference import Reference
    from chimage_core.ops.undelete import undeletable

    wanted = session.option("image_ref")
    with open_reading(session) as workspace:
        found = undeletable(workspace, None if wanted is None else Reference.parse(wanted))
    if wanted is None:
        found = tuple(image for image in found if not image.exists)
    if session.json:
        session.json.result({"images": [{**image._asdict(), "reference": str(image.reference)} for image in found]})
    elif session.option("long"):
        for line in render.undeletable_lines(found):
            session.print(line)
    else:
        for image in found:
            if image.number == 1:
                session.print(render.image_line(image))
    return EXIT_OK
