"""Options of RUN: what `--mount`, `--network` and `--security` mean, and what of it the result depends on.

Source: reference of Docker's Dockerfile, "RUN".
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chimage_core.build import mounts
from chimage_core.build.context import Source
from chimage_core.build.mounting import PlannedMount
from chimage_core.build.mounts import BindMount, CacheMount
from chimage_core.build.origins import Origin
from chimage_core.build.scope import Expander, Scope
from chimage_core.dockerfile.ast import Run
from chimage_core.dockerfile.errors import InstructionProblem
from chimage_core.errors import ContextError

_NETWORKS = ("default", "host", "none")


class RunOptions(NamedTuple):
    """What the options of a RUN mean."""

    mounts: tuple[PlannedMount, ...]
    is_offline: bool
    parameters: dict[str, Any]
    """That the result depends on. Options that are not used must not change cache keys."""
    looked_at: bytes
    """Source files, as `describe` has them."""
    warnings: tuple[str, ...]


def check(instruction: Run, path: str) -> None:
    """Refuse what cannot be, whatever variables hold; see `instructions.check`."""

    def problem(message: str, hint: str | None = None) -> InstructionProblem:
        return InstructionProblem(path, instruction.range, f"RUN: {message}", hint=hint)

    network, security = instruction.network, instruction.security
    if network is not None and network not in _NETWORKS:
        raise problem(f"--network: expected {', '.join(_NETWORKS)}, not {network}")
    if security == "insecure":
        raise problem("--security=insecure needs privilege, and there is none in an unprivileged build")
    if security not in (None, "sandbox"):
        raise problem(f"--security: expected sandbox, not {security}")
    if instruction.devices:
        raise problem("--device is not supported", "devices of the host are visible to RUN as far as you may use them")
    for text in instruction.mounts:
        try:
            fields = mounts.fields(text)
            if "$" not in text:
                mounts.read(fields)
        except ValueError as error:
            raise problem(f"--mount: {error}", f"in --mount={text}") from None


def origins(instruction: Run) -> tuple[str, ...]:
    """Return what files come from; see `instructions.origins`. `check` has not refused it."""
    return tuple(value for text in instruction.mounts for key, value in mounts.fields(text) if key == "from" and value)


def resolve(instruction: Run, scope: Scope, expander: Expander) -> RunOptions:
    """Return what the options mean. Source files in directories of the host are looked at, by metadata only."""
    planned, texts, states, looked_at = [], [], [], b""
    warnings: list[str] = []
    for number, text in enumerate(instruction.mounts):
        try:
            fields = mounts.fields(text)
            reading = mounts.read(_expanded(fields, expander))
            value = _placed(reading.mount, scope.config.workdir, number)
        except ValueError as error:
            raise scope.problem(instruction, f"--mount: {error}", hint=f"in --mount={text}") from None
        keyed = _expanded(fields, expander.for_key)
        texts.append(",".join(key if value is None else f"{key}={value}" for key, value in keyed))
        warnings += reading.notes
        find = None
        if isinstance(value, BindMount):
            origin = _origin(instruction, scope, value.origin)
            find = _finder(origin, value.source)
            if origin.state is None:
                source = find()
                find = _known(source)
                looked_at += scope.describe([source])
            else:
                states.append(origin.state.hex)
        elif isinstance(value, CacheMount) and value.origin is not None:
            find = _finder(_origin(instruction, scope, value.origin), value.source)
        planned.append(PlannedMount(value, find))
    parameters: dict[str, Any] = {}
    if texts:
        parameters["--mount"] = texts
    if states:
        parameters["mounted images"] = states
    is_offline = instruction.network == "none"
    if is_offline:
        parameters["--network"] = "none"
    return RunOptions(tuple(planned), is_offline, parameters, looked_at, tuple(warnings))


def _expanded(fields: Sequence[mounts.Field], expander: Expander) -> list[mounts.Field]:
    return [(key, value if value is None else expander.expand(value)) for key, value in fields]


def _placed(mount: mounts.MountValue, workdir: str, number: int) -> mounts.MountValue:
    """Return a mount with an absolute target. Raises ValueError."""
    target = mount.target
    if target is None and isinstance(mount, mounts.SshMount):
        target = f"{mounts.AGENTS}/ssh_agent.{number}"
    return mount if target is None else mount._replace(target=mounts.place(target, workdir))


def _origin(instruction: Run, scope: Scope, name: str | None) -> Origin:
    if name == "":
        raise scope.problem(instruction, "--mount: from is empty after substitution")
    if name is not None:
        return scope.origin(name)
    context = scope.inputs.context
    if context is None:
        raise ContextError(str(scope.problem(instruction, "--mount: no context")), hint="the context was given as “-”")
    return Origin(None, lambda: context)


def _finder(origin: Origin, source: str) -> Callable[[], Source]:
    """Return what finds the source of a mount: no pattern, unlike those of COPY."""
    from glob import escape

    return lambda: origin.tree().find(escape(source))[0]


def _known(source: Source) -> Callable[[], Source]:
    return lambda: source
