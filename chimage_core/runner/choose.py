"""Pick a runner."""

from chimage_core.errors import DependencyMissing, RunnerError, UsageError
from chimage_core.proc import find_program
from chimage_core.runner import RUNNER_KINDS
from chimage_core.runner.chrun import BwrapRunner, ChRunRunner
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.probe import Abilities, advice
from chimage_core.runner.protocol import Runner


def choose(kind: str, directory: str, abilities: Abilities | None = None, path: str | None = None) -> Runner:
    """Return a runner, to be closed by the caller.

    `abilities` are what a probe of `directory` found, if the caller remembers; else `auto` probes now. Programs are
    searched in `path`, by default the process's own. Raises RunnerError if nothing works, DependencyMissing if the
    program asked for is missing, UsageError for another kind.
    """
    match kind:
        case "python":
            return _namespaces(abilities)
        case "ch-run" | "bwrap":
            runner = _by_program(kind, path)
            if runner is None:
                raise DependencyMissing(f"program not found: {kind}", hint=f"install {kind}, or use --runner=python")
            return runner
        case "auto":
            return _automatic(directory, abilities, path)
    raise UsageError(f"no such runner: {kind}", hint=f"choose from {', '.join(RUNNER_KINDS)}")


def _automatic(directory: str, abilities: Abilities | None, path: str | None) -> Runner:
    ours = _namespaces(abilities)
    known = abilities or ours.probe(directory)
    if known.namespaces:
        return ours
    ours.close()
    runner = _by_program("ch-run", path) or _by_program("bwrap", path)
    if runner is None:
        raise RunnerError(
            f"can't run containers: {known.problem}; and neither ch-run nor bwrap is installed", hint=advice()
        )
    return runner


def _namespaces(abilities: Abilities | None) -> NamespaceRunner:
    return NamespaceRunner(pid_namespace=abilities is None or abilities.pid_namespace or not abilities.namespaces)


def _by_program(kind: str, path: str | None) -> Runner | None:
    program = find_program(kind, path)
    if program is None:
        return None
    return ChRunRunner(program) if kind == "ch-run" else BwrapRunner(program)
