"""One function per subcommand: options in, request to `ops`, result as text or JSON. Returns the exit status."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chimage_core.cli.session import Session, open_reading, open_working
from chimage_core.errors import EXIT_FAILED, EXIT_OK, UsageError
from chimage_core.text import printable

if TYPE_CHECKING:
    # Imported where they are used: `--help` and `list` must not pay for what `build` needs.
    from chimage_core.build.force import Forcer
    from chimage_core.build.offers import Offers
    from chimage_core.dockerfile.ast import Dockerfile
    from chimage_core.ops.build import BuildRequest, BuildResult
    from chimage_core.runner.protocol import Bind


Command = Callable[[Session], int]


def build(session: Session) -> int:
    """`build`."""
    from chimage_core.ops import build as ops

    request = build_request(session)
    if session.option("check"):
        from chimage_core.cli.lint import check

        return check(session, request)
    # It may come from a terminal or a pipe, and reading may wait for ever; there is nothing to clean up yet.
    with session.cancel.on_cancel(session.cancel.check):
        dockerfile = ops.read_dockerfile(request)
    if session.option("parse_only"):
        _print_parse(session, dockerfile)
        return EXIT_OK
    # A dry run only looks.
    opened = (
        open_reading(session) if request.is_dry_run else open_working(session, runner=session.option("runner", "auto"))
    )
    with opened as workspace:
        result = ops.build(workspace, request, dockerfile)
    print_build(session, result)
    return EXIT_OK


def delete(session: Session) -> int:
    """`delete`."""
    from chimage_core.image.reference import ReferenceGlob
    from chimage_core.ops.delete import delete as delete_images

    globs = [ReferenceGlob.parse(text) for text in session.option("image_globs")]
    with open_working(session) as workspace:
        deleted = delete_images(workspace, globs)
    _result(session, deleted=[str(reference) for reference in deleted])
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
    _result(session, reference=str(result.reference), path=result.path, state=result.state)
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
    _result(session, **{**result._asdict(), "reference": str(result.reference)})
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


def _result(session: Session, **fields: Any) -> None:
    """Give the result of a command whose success is its result: only scripts want to see it."""
    if session.json:
        session.json.result(fields)


def print_build(session: Session, result: "BuildResult") -> None:
    """Give the result of a command that has built an image."""
    _result(
        session,
        reference=str(result.reference),
        names=[str(reference) for reference in result.names],
        path=result.path,
        state=result.state,
        hits=result.counts.hits,
        misses=result.counts.misses,
    )


def build_request(session: Session) -> "BuildRequest":
    """Return what the options of `build`, as far as a command has them, ask for."""
    from chimage_core.ops.build import BuildRequest

    settings = session.settings
    return BuildRequest(
        context=session.option("context", "-"),
        file=session.option("file"),
        contexts=_build_contexts(session.option("build_context", [])),
        tags=tuple(session.option("tag", [])),
        target=session.option("target"),
        labels=_labels(session.option("label", [])),
        skips_unused=session.option("skip_unused_stages", False),
        architecture=_architecture(session.option("platform"), settings.arch),
        arch=settings.arch if settings.arch in ("host", "yolo") else "host",
        pulls=settings.pulls,
        always_download=settings.always_download,
        build_args=_build_args(session.option("build_arg", []), settings.environment),
        passed_in=settings.passed_variables,
        binds=tuple(map(_bind, session.option("bind", []))),
        offers=_offers(session.option("secret", []), session.option("ssh", []), settings.environment),
        forcer=_forcer(session.option("force"), session.option("force_cmd", [])),
        suggests_force=not session.option("no_force_detect", False),
        is_dry_run=session.option("dry_run", False),
        with_xattrs=settings.xattrs,
        is_filtered=session.option("dockerignore", True),
        caches_by_content=settings.cache_by == "content",
        jobs=session.option("jobs", 1),
        captures_output=session.json is not None,
        explains_hits=session.option("explain", False),
        read_stdin=lambda: sys.stdin.buffer.read(),
    )


def _labels(given: Sequence[str]) -> dict[str, str]:
    """Read `KEY=VALUE`; as in Docker, `KEY` alone has an empty value."""
    pairs = [text.partition("=") for text in given]
    for name, _, _ in pairs:
        if not name:
            raise UsageError("--label: expected KEY=VALUE, and KEY is empty")
    return {name: value for name, _, value in pairs}


def _architecture(platform: str | None, arch: str) -> str | None:
    """Return what is asked for by `--platform` or `--arch`; None: whatever there is."""
    if platform is None:
        return None if arch in ("host", "yolo") else arch
    from chimage_core.image.platform import Platform

    parsed = Platform.parse(platform).usual
    if parsed.system != "linux":
        raise UsageError(f"--platform: only images for linux can be built, not for {parsed.system}")
    if arch not in ("host", str(parsed)):
        raise UsageError(f"--arch={arch} and --platform={platform} contradict each other", hint="give one of them")
    return str(parsed)


def _build_args(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Read `KEY=VALUE` and `KEY`, which takes the value of the variable of that name."""
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg: expected KEY[=VALUE], not {text!r}")
        if not equals and name not in environment:
            raise UsageError(f"--build-arg: {name}: no value given, and environment variable not set")
        values[name] = value if equals else environment[name]
    return values


def _build_contexts(given: Sequence[str]) -> dict[str, str]:
    """Read `NAME=DIR`."""
    contexts = {}
    for text in given:
        name, _, path = text.partition("=")
        if not name or not path or name.isdecimal():  # Numbers are stages.
            raise UsageError(f"--build-context: expected NAME=DIR, not {text!r}")
        if not os.path.isdir(path):
            raise UsageError(f"--build-context: {name}: not a directory: {path}")
        contexts[name.lower()] = os.path.abspath(path)
    return contexts


def _bind(text: str) -> "Bind":
    """Read `SRC[:DST]`."""
    source, _, target = text.partition(":")
    if not source or (target and not target.startswith("/")):
        raise UsageError(f"--bind: expected SRC[:DST], DST absolute, not {text!r}")
    source = os.path.abspath(source)
    if not os.path.lexists(source):
        raise UsageError(f"--bind: source not found: {source}")
    from chimage_core.runner.protocol import Bind

    return Bind(source, target or source)


def _offers(secrets: Sequence[str], agents: Sequence[str], environment: Mapping[str, str]) -> "Offers":
    """Read what RUN --mount may have of the host."""
    from chimage_core.build.offers import Offers

    if not secrets and not agents:
        return Offers()
    from chimage_core.cli import offers

    return Offers(offers.secrets(secrets, environment), offers.agents(agents, environment))


def _forcer(mode: str | None, hooks: Sequence[str]) -> "Forcer":
    """Choose the root emulation: hooks imply seccomp."""
    from chimage_core.build.force.defaults import DEFAULT_HOOKS, CommandHook
    from chimage_core.build.force.seccomp import SeccompForcer
    from chimage_core.cli.options import FORCE_MODES

    if mode is not None and mode not in FORCE_MODES:
        raise UsageError(f"--force: no such mode: {mode}", hint=f"use one of: {', '.join(FORCE_MODES)}")
    if mode not in (None, "seccomp") and hooks:
        raise UsageError(f"--force-cmd implies --force=seccomp and can’t go with --force={mode}")
    if mode == "none":
        from chimage_core.build.force.none import NoForcer

        return NoForcer()
    if mode == "fakeroot":
        from chimage_core.build.force.fakeroot import FakerootForcer

        return FakerootForcer()
    return SeccompForcer(tuple(map(CommandHook.parse, hooks)) or DEFAULT_HOOKS)


def _print_parse(session: Session, dockerfile: "Dockerfile") -> None:
    from chimage_core.dockerfile.as_json import to_document
    from chimage_core.dockerfile.as_text import to_lines

    if session.json:
        session.json.document(to_document(dockerfile))
        return
    for line in to_lines(dockerfile):
        session.print(printable(line))


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
