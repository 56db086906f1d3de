"""WORKDIR: set the working directory, and make it if it is not there."""

import posixpath
from typing import NamedTuple

from chimage_core.build.scope import Scope
from chimage_core.build.step import Step, Tools
from chimage_core.cache.inputs import StepInputs
from chimage_core.dockerfile.ast import Workdir
from chimage_core.rootfs.changes import Changes, PathsChanged
from chimage_core.rootfs.directories import accessible, make_directories
from chimage_core.rootfs.place import ImagePlace


def resolve(instruction: Workdir, scope: Scope) -> Step:
    """Return the step of a WORKDIR. A relative path counts from the present working directory."""
    expander = scope.expander(instruction)
    value = expander.expand(instruction.value)
    if not value:
        raise scope.problem(instruction, "the directory is empty after substitution")
    path = posixpath.normpath(posixpath.join("/", scope.config.workdir, value))
    return Step(
        instruction=instruction,
        name="WORKDIR",
        text=path,
        inputs=StepInputs("WORKDIR", path, {"path": path}),
        config=scope.config._replace(workdir=path),
        effect=MakeDirectory(path),
        warnings=expander.warnings,
    )


class MakeDirectory(NamedTuple):
    """Make a directory, and those above it, if they are not there."""

    path: str

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return the topmost directory that was made."""
        tools.opening(place)
        with accessible(place.root, self.path):
            _, made = make_directories(place.root, self.path)
        return PathsChanged((made,) if made else ())
