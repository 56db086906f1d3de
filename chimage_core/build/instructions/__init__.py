"""One module per kind of instruction: `resolve(instruction, scope) -> Step`.

Resolving is pure but for looking at the metadata of COPY's sources. What an instruction does to a root file system is
its step's effect.
"""

from collections.abc import Callable
from typing import Any

from chimage_core.build.instructions import arg, copy, env, label, run, shell, unsupported, workdir
from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import CACHE_BY
from chimage_core.dockerfile import ast

_Resolver = Callable[[Any, Scope], Step]


def _resolve_rsync(instruction: ast.Rsync, scope: Scope) -> Step:
    from chimage_core.build.instructions import rsync  # Few Dockerfiles have it.

    return rsync.resolve(instruction, scope)


def _check_rsync(instruction: ast.Rsync, path: str) -> None:
    from chimage_core.build.instructions import rsync

    rsync.check(instruction, path)


_RESOLVERS: dict[type[ast.Instruction], _Resolver] = {
    ast.Arg: arg.resolve,
    ast.Copy: copy.resolve,
    ast.Env: env.resolve,
    ast.Label: label.resolve,
    ast.Rsync: _resolve_rsync,
    ast.Run: run.resolve,
    ast.Shell: shell.resolve,
    ast.Workdir: workdir.resolve,
}


_CHECKS: dict[type[ast.Instruction], Callable[[Any, str], None]] = {
    ast.Copy: copy.check,
    ast.Rsync: _check_rsync,
    ast.Run: run.check,
}


_ORIGINS: dict[type[ast.Instruction], Callable[[Any], tuple[str, ...]]] = {
    ast.Copy: copy.origins,
}


def check(instruction: ast.Instruction, path: str) -> None:
    """Refuse what cannot be carried out whatever happens before it: better before an hour of building than after it.

    `path` is the Dockerfile's. Raises DockerfileError.
    """
    if type(instruction) in _CHECKS:
        _CHECKS[type(instruction)](instruction, path)


def origins(instruction: ast.Instruction) -> tuple[str, ...]:
    """Return all that an instruction names with `--from`, as far as it is known before anything is built."""
    if type(instruction) not in _ORIGINS:
        return ()
    return tuple(name for name in _ORIGINS[type(instruction)](instruction) if "$" not in name)


def resolve(instruction: ast.Instruction, scope: Scope) -> Step:
    """Return what any instruction but FROM means in this scope. Raises DockerfileError, BuildError.

    `check` has not refused it.
    """
    resolver: _Resolver = _RESOLVERS.get(type(instruction), unsupported.resolve)
    step = resolver(instruction, scope)
    inputs = step.inputs
    if inputs is None:
        return step
    # No time of creation: a configuration must not differ between two builds of the same.
    entry = {"created_by": f"{step.name} {step.text}"}
    if not scope.inputs.with_xattrs:  # The same step leaves other files.
        inputs = inputs._replace(parameters={**inputs.parameters, "--no-xattrs": True})
    if inputs.sources and scope.inputs.by_content:
        inputs = inputs._replace(parameters={**inputs.parameters, CACHE_BY: "content"})
    return step._replace(inputs=inputs, config=step.config._replace(history=(*step.config.history, entry)))
