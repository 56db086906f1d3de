"""EXPOSE, HEALTHCHECK, MAINTAINER, STOPSIGNAL, USER, VOLUME: recorded in the image configuration, for whoever runs it.

The manual does not support them ("Features we do not plan to support"): neither the build nor ch-run acts on them, and
the user is told once for each kind. For the same reason any argument is taken; what makes no sense is not recorded,
with a warning. The one thing that a build does is to make the directories of VOLUME, because an image may rely on them.
"""

import errno
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chimage_core.build.scope import Expander, Scope
from chimage_core.build.step import Step, Tools
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile import ast
from chimage_core.dockerfile.errors import InstructionProblem
from chimage_core.errors import FileError
from chimage_core.events import Warned
from chimage_core.image.config import ImageConfig
from chimage_core.rootfs.changes import Changes, PathsChanged
from chimage_core.rootfs.directories import accessible, make_directories
from chimage_core.rootfs.place import ImagePlace

_PORTS = re.compile(r"(?:(?:[0-9.]+:)?(?:[0-9]+(?:-[0-9]+)?)?:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?")
"""A port or a range of them, perhaps with an address and a port of the host before it, which EXPOSE does not need."""
_SIGNAL = re.compile(r"(?:SIG)?(?:RTM(?:IN|AX)(?:[+-][0-9]{1,2})?|[A-Z][A-Z0-9]+)|[0-9]{1,2}", re.IGNORECASE)


class _Malformed(Exception):
    """The argument makes no sense."""


class _Recorded(NamedTuple):
    """What to record."""

    text: str
    parameters: Mapping[str, Any]
    config: ImageConfig


def resolve(instruction: ast.Instruction, scope: Scope) -> Step:
    """Return the step of any of them."""
    expander = scope.expander(instruction)
    name = instruction.name
    told = (f"not supported, recorded only: {name} instruction",)
    try:
        recorded = _READERS[type(instruction)](instruction, scope.config, expander)
    except (_Malformed, InstructionProblem) as problem:
        reason = str(problem).rpartition(f" {name}: ")[2]
        warning = f"{scope.inputs.path}:{instruction.range.line}: {name}: makes no sense, ignored: {reason}"
        return Step(instruction, name, instruction.text, None, scope.config, warnings=(*expander.warnings, warning))
    volumes = recorded.parameters.get("volumes")
    return Step(
        instruction=instruction,
        name=name,
        text=recorded.text,
        inputs=StepInputs(name, recorded.text, dict(recorded.parameters)),
        config=recorded.config,
        effect=MakeVolumes(volumes) if volumes else None,
        warnings=(*expander.warnings, *told),
    )


class MakeVolumes(NamedTuple):
    """Make the directories of VOLUME, where nothing is in their place."""

    paths: tuple[str, ...]

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return what was made."""
        tools.opening(place)
        made = []
        for path in self.paths:
            try:
                with accessible(place.root, path):
                    made.append(make_directories(place.root, path)[1])
            except FileError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                tools.emit(Warned(text=f"VOLUME: {error.message}"))
        return PathsChanged(tuple(filter(None, made)))


def _user(instruction: ast.User, config: ImageConfig, expander: Expander) -> _Recorded:
    user = expander.expand(instruction.value)
    return _Recorded(user, {"user": user}, config._replace(user=user))


def _maintainer(instruction: ast.Maintainer, config: ImageConfig, expander: Expander) -> _Recorded:
    # A name may have an apostrophe.
    author = expander.expand_variables(instruction.value)
    return _Recorded(author, {"author": author}, config._replace(author=author))


def _stop_signal(instruction: ast.StopSignal, config: ImageConfig, expander: Expander) -> _Recorded:
    name = expander.expand(instruction.value)
    if not _SIGNAL.fullmatch(name):
        raise _Malformed(f"not a signal: {name!r}")
    return _Recorded(name, {"signal": name}, config._replace(stop_signal=name))


def _expose(instruction: ast.Expose, config: ImageConfig, expander: Expander) -> _Recorded:
    words = [word for port in instruction.ports for word in expander.expand(port).split()]
    ports = dict.fromkeys(port for word in words for port in _ports(word))
    known = dict.fromkeys((*config.ports, *ports))
    return _Recorded(" ".join(words), {"ports": tuple(ports)}, config._replace(ports=tuple(known)))


def _ports(word: str) -> list[str]:
    """Return the ports of one word, each with its protocol."""
    match = _PORTS.fullmatch(word.lower())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not 0 < first <= last < 1 << 16:
        raise _Malformed(f"not a port: {word!r}")
    return [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]


def _volume(instruction: ast.Volume, config: ImageConfig, expander: Expander) -> _Recorded:
    values = [expander.expand(path) for path in instruction.paths]
    if not all(values) or any("\0" in value for value in values):
        raise _Malformed("a directory without a name")
    paths = dict.fromkeys(posixpath.normpath(f"/{value}").replace("//", "/") for value in values)
    known = dict.fromkeys((*config.volumes, *paths))
    return _Recorded(" ".join(values), {"volumes": tuple(paths)}, config._replace(volumes=tuple(known)))


def _healthcheck(instruction: ast.HealthCheck, config: ImageConfig, expander: Expander) -> _Recorded:
    from chimage_core.build.instructions import healthcheck

    try:
        check = healthcheck.read(instruction, expander)
    except ValueError as error:
        raise _Malformed(str(error)) from None
    return _Recorded(instruction.text, check, config._replace(healthcheck=check))


_READERS: Mapping[type[ast.Instruction], Callable[[Any, ImageConfig, Expander], _Recorded]] = {
    ast.Expose: _expose,
    ast.HealthCheck: _healthcheck,
    ast.Maintainer: _maintainer,
    ast.StopSignal: _stop_signal,
    ast.User: _user,
    ast.Volume: _volume,
}
