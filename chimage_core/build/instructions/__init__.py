"""One module per kind of instruction: `resolve(instruction, scope) -> Step`.

Resolving is pure but for looking at the metadata of COPY's sources. What an instruction does to a root file system is
its step's effect.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from chimage_core.build.instructions import arg, copy, env, label, run, shell, workdir
from chimage_core.build.scope import Scope
from chimage_core.build.step import Step
from chimage_core.cache.inputs import CACHE_BY
from chimage_core.dockerfile import ast

_MODULES: dict[type[ast.Instruction], ModuleType] = {
    ast.Arg: arg,
    ast.Copy: copy,
    ast.Env: env,
    ast.Label: label,
    ast.Run: run,
    ast.Shell: shell,
    ast.Workdir: workdir,
}
"""Each has `resolve`, and `check` and `origins` if they have something to do there."""

_RARE: dict[type[ast.Instruction], str] = {
    ast.Add: "add",
    ast.Cmd: "command",
    ast.Entrypoint: "command",
    ast.Expose: "recorded",
    ast.HealthCheck: "recorded",
    ast.Interact: "interact",
    ast.Maintainer: "recorded",
    ast.OnBuild: "onbuild",
    ast.Rsync: "rsync",
    ast.StopSignal: "recorded",
    ast.User: "recorded",
    ast.Volume: "recorded",
}
"""Modules of what fewer Dockerfiles have: imported where it is met, because every module costs time at each start."""


def check(instruction: ast.Instruction, path: str) -> None:
    """Refuse what cannot be carried out whatever happens before it: better before an hour of building than after it.

    `path` is the Dockerfile's. Raises DockerfileError.
    """
    check_it: Callable[[Any, str], None] | None = getattr(_module(instruction), "check", None)
    if check_it is not None:
        check_it(instruction, path)


def origins(instruction: ast.Instruction) -> tuple[str, ...]:
    """Return all that an instruction names with `--from`, as it is written: there may be variables in it."""
    names: Callable[[Any], tuple[str, ...]] | None = getattr(_module(instruction), "origins", None)
    return () if names is None else names(instruction)


def resolve(instruction: ast.Instruction, scope: Scope) -> Step:
    """Return what any instruction but FROM means in this scope. Raises DockerfileError, BuildError.

    `check` has not refused it.
    """
    step: Step = _module(instruction).resolve(instruction, scope)
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


def _module(instruction: ast.Instruction) -> ModuleType:
    module = _MODULES.get(type(instruction))
    return module or importlib.import_module(f"{__name__}.{_RARE[type(instruction)]}")
