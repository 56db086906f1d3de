"""`build`: what options ask for, as a request, which `modify` makes, too."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chimage_core.cli.session import Session, open_reading, open_working
from chimage_core.errors import EXIT_OK, UsageError
from chimage_core.ops import build as ops
from chimage_core.text import printable

if TYPE_CHECKING:
    import contextlib

    from chimage_core.build.force import Forcer
    from chimage_core.build.offers import Offers
    from chimage_core.dockerfile.ast import Dockerfile
    from chimage_core.runner.protocol import Bind
    from chimage_core.workspace import Workspace


def build(session: Session) -> int:
    """`build`."""
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
    with open_for(session, request) as workspace:
        result = ops.build(workspace, request, dockerfile)
    print_build(session, result)
    return EXIT_OK


def open_for(session: Session, request: ops.BuildRequest) -> "contextlib.AbstractContextManager[Workspace]":
    """Open the storage directory for a build: a dry run only looks."""
    if request.is_dry_run:
        return open_reading(session)
    return open_working(session, runner=session.option("runner", "auto"))


def print_build(session: Session, result: ops.BuildResult) -> None:
    """Give the result of a command that has built an image."""
    session.result(
        reference=str(result.reference),
        names=[str(reference) for reference in result.names],
        path=result.path,
        state=result.state,
        hits=result.counts.hits,
        misses=result.counts.misses,
    )


def build_request(session: Session) -> ops.BuildRequest:
    """Return what the options of `build`, as far as a command has them, ask for."""
    settings = session.settings
    return ops.BuildRequest(
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


def _offers(secrets: Sequence[str], agents: Sequence[str], environment: Mapping[str, str]) -> "Offers | None":
    """Read what RUN --mount may have of the host."""
    if not secrets and not agents:
        return None
    from chimage_core.build.offers import Offers
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
