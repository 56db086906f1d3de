"""RUN: execute a command in the image.

The shell form is given to the shell as it stands: the shell expands variables, from its environment. The exec form has
its set variables replaced. Changes go to an overlay where the kernel allows it: what the command changed is then known
exactly, and a command that fails has changed nothing.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from chimage_core.build.force import Argv, Execution
from chimage_core.build.scope import Expander, Scope
from chimage_core.build.step import Step, Tools
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import ExecCommand, Run
from chimage_core.errors import FileError, RunFailed
from chimage_core.fs.atomic import temporary_directory, write_file
from chimage_core.fs.paths import resolve_in_root
from chimage_core.rootfs.changes import AnythingChanged, Changes, UpperChanged
from chimage_core.rootfs.directories import make_directories
from chimage_core.rootfs.place import ImagePlace
from chimage_core.runner.protocol import Bind, Emulation, OutputChunks, Overlay, RunRequest, RunResult

if TYPE_CHECKING:
    from chimage_core.build.force.tail import Tail
    from chimage_core.build.instructions.run_options import RunOptions
    from chimage_core.build.offers import Mounted

SCRIPT_TARGET = "/ch/heredoc"
"""Where a here-document that is a program of its own (`#!`) appears while it runs."""

_FULL = 4 << 20
"""Bytes: if a command that failed has left no more than that, it failed for lack of space, or the next one will."""
_LONGEST_SHOWN = 500
"""Characters of a command that an error repeats."""


def resolve(instruction: Run, scope: Scope) -> Step:
    """Return the step of a RUN."""
    forcer = scope.inputs.forcer
    expander = scope.expander(instruction)
    argv, script = _command(instruction, scope, expander)
    options = _options(instruction, scope, expander)
    forced = keyed = forcer.wrap(argv)
    name, text = f"RUN.{forcer.suffix}", instruction.text
    if isinstance(instruction.command, ExecCommand):
        shown, _ = _command(instruction, scope, expander.for_key)
        keyed, text = forcer.wrap(shown), json.dumps(shown, ensure_ascii=False)
    parameters = {"--force": forcer.mode, "command": keyed, "script": script}
    looked_at = b""
    if options is not None:
        parameters, looked_at = {**parameters, **options.parameters}, options.looked_at
    return Step(
        instruction=instruction,
        name=name,
        text=text,
        inputs=StepInputs("RUN", text, parameters, looked_at),
        config=scope.config,
        effect=Execute(
            argv=forced,
            is_modified=forced != argv,
            script=script,
            env=scope.environment(),
            workdir=scope.config.workdir,
            label=f"{scope.inputs.path}:{instruction.range.line}: {name} {_shortened(instruction.text)}",
            options=options,
        ),
        is_modified=forced != argv,
        warnings=(*expander.warnings, *(options.warnings if options is not None else ())),
    )


def check(instruction: Run, path: str) -> None:
    """Refuse options that cannot be carried out; see `instructions.check`."""
    if instruction.options:
        from chimage_core.build.instructions import run_options

        run_options.check(instruction, path)


def origins(instruction: Run) -> tuple[str, ...]:
    """Return what mounts take files from; see `instructions.origins`."""
    if not instruction.mounts:
        return ()
    from chimage_core.build.instructions import run_options

    return run_options.origins(instruction)


def _options(instruction: Run, scope: Scope, expander: Expander) -> "RunOptions | None":
    if not instruction.options:
        return None
    from chimage_core.build.instructions import run_options

    return run_options.resolve(instruction, scope, expander)


def _command(instruction: Run, scope: Scope, expander: Expander) -> tuple[tuple[str, ...], str | None]:
    """Return what to execute, and the text of the program if it is in the Dockerfile."""
    command = instruction.command
    if isinstance(command, ExecCommand):
        if not command.argv:
            raise scope.problem(instruction, "the list is empty")
        argv = tuple(expander.expand_variables(word) for word in command.argv)
        if not argv[0]:
            raise scope.problem(instruction, "the program is empty")
        return argv, None
    if command.lone_heredoc and command.script.startswith("#!"):
        return (SCRIPT_TARGET,), command.script
    return (*scope.config.shell, command.script), None


class Execute(NamedTuple):
    """Run one command."""

    argv: Argv
    is_modified: bool
    """It is not what the Dockerfile says."""
    script: str | None
    env: Mapping[str, str]
    workdir: str
    label: str
    """File, line and instruction, for the error."""
    options: "RunOptions | None" = None
    is_interactive: bool = False
    """Somebody types, and decides by the exit status whether the changes are kept."""

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return the overlay with the changes, or that anything may have changed. Raises RunFailed."""
        from chimage_core.rootfs.overlay import discard

        forcer = tools.forcer
        files = {**forcer.files, SCRIPT_TARGET: self.script} if self.script else forcer.files
        output = None if tools.output is None else _with_tail(tools.output)
        with self._mounted(place, tools) as mounted, _shown(files, place) as shown, contextlib.ExitStack() as keep:
            overlay = self._overlay(place, tools)
            if overlay is not None:
                keep.callback(discard, overlay.upper, overlay.work)
            request = RunRequest(
                rootfs=place.root,
                argv=self.argv,
                env={**forcer.variables, **self.env, **mounted.env},
                workdir=self.workdir,
                mounts=(*tools.binds, *mounted.mounts, *shown),
                secret_env=mounted.secret_env,
                is_offline=self.options is not None and self.options.is_offline,
                emulation=forcer.emulation,
                overlay=overlay,
                output=output,
                interactive=self.is_interactive,
            )
            result = self._run(request, tools)
            if result.status == 0:
                keep.pop_all()
                return UpperChanged(overlay.upper, overlay.work) if overlay else AnythingChanged()
            is_full = _is_full(place)
            if overlay is not None and not is_full:
                os.rename(overlay.upper, place.failed)
        if self.is_interactive and not result.problem:
            raise RunFailed(
                f"changes discarded: the shell exited with {result.status}: {self.label}",
                hint="to keep changes, leave the shell with exit status 0",
            )
        said = None if output is None else output.text
        hint = _no_space(place) if is_full else self._hint(result, place.root, said, tools)
        raise RunFailed(_why(result, self.label), hint=hint)

    def _mounted(self, place: ImagePlace, tools: Tools) -> "contextlib.AbstractContextManager[Mounted]":
        """Make ready what is to be mounted."""
        if self.options is None:
            from chimage_core.build.offers import Mounted

            return contextlib.nullcontext(Mounted())
        from chimage_core.build.mounting import mounted

        return mounted(self.options.mounts, place, tools)

    def _run(self, request: RunRequest, tools: Tools) -> RunResult:
        """Have the forcer execute the command, perhaps after others, all in the same container file system."""

        def run(argv: Argv) -> RunResult:
            return tools.runner().run(request._replace(argv=argv), tools.cancel)

        def prepare(argv: Argv, emulation: Emulation) -> RunResult:
            ours = request._replace(argv=argv, emulation=emulation, secret_env={}, is_offline=False)
            return tools.runner().run(ours, tools.cancel)

        def modified(argv: Argv) -> None:
            from chimage_core.events.force import CommandModified

            tools.emit(CommandModified(force=tools.forcer.mode, command=argv))

        def modified_here(argv: Argv) -> None:
            modified(argv)
            tools.count_modified()

        if self.is_modified:
            modified(self.argv)
        execution = Execution(request.rootfs, self.script, run, prepare, modified_here, self.label, tools.emit)
        return tools.forcer.carry_out(self.argv, execution)

    def _hint(self, result: RunResult, root: str, said: str | None, tools: Tools) -> str | None:
        """Return what may help: what the status means, or what privilege was missing."""
        if result.problem:  # It tells all, and no command has run whose status could mean something.
            return None
        known = _status_hint(result.status)
        if known is not None or not tools.suggests:
            return known
        from chimage_core.build.force.hints import Failure, hint

        return hint(Failure(tools.forcer.mode, self.argv, self.script, root, said))

    def _overlay(self, place: ImagePlace, tools: Tools) -> Overlay | None:
        """Prepare an overlay, or the root file system itself where there can be none."""
        if _may_be_directory(place.root, self.workdir) and tools.can_overlay():
            from chimage_core.rootfs.overlay import prepare

            prepare(_upper(place), _work(place))
            return Overlay(_upper(place), _work(place))
        tools.opening(place)
        tools.unshare(place)
        make_directories(place.root, self.workdir)
        return None


def _may_be_directory(root: str, path: str) -> bool:
    """Return whether there is such a directory in the image, or we cannot see it: the command, being root, can."""
    try:
        return os.path.isdir(resolve_in_root(root, path))
    except FileError:
        return True


@contextlib.contextmanager
def _shown(files: Mapping[str, str], place: ImagePlace) -> Iterator[tuple[Bind, ...]]:
    """Write files beside the image, for as long as a command runs, to be bound into it."""
    with temporary_directory(place.side) as directory:
        binds = [Bind(f"{directory}/{number}", target) for number, target in enumerate(files)]
        for bind in binds:
            write_file(bind.source, files[bind.target].encode(), mode=0o755, sync=False)
        yield tuple(binds)


def _upper(place: ImagePlace) -> str:
    return f"{place.side}/upper"


def _work(place: ImagePlace) -> str:
    return f"{place.side}/work"


def _is_full(place: ImagePlace) -> bool:
    from chimage_core.fs.usage import free_space

    return free_space(place.side) < _FULL


def _no_space(place: ImagePlace) -> str:
    return f"the file system is full: {place.side}; “build-cache --prune” frees what can be had again"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _why(result: RunResult, label: str) -> str:
    problem = f": {result.problem}" if result.problem else ""
    return f"build failed: RUN command exited with {result.status}{problem}\n  {label}"


def _status_hint(status: int) -> str | None:
    """Return what an exit status means to shells."""
    if status == 127:
        return "127 mostly means that a command was not found in the image"
    if status == 126:
        return "126 mostly means that a file is not executable, or made for another architecture"
    if status - 128 in list(signal.Signals):
        return f"{status} mostly means that signal {status - 128} ({signal.Signals(status - 128).name}) ended a command"
    return None


def _with_tail(output: OutputChunks) -> "Tail":
    """Return what passes output on and keeps its end."""
    from chimage_core.build.force.tail import Tail

    return Tail(output)
