"""Carry out a step for a peer, and refuse what did other work than was to be measured."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace

import chimage_core
from bench import disk
from bench.measure import MeasuringError, Usage, measure
from bench.peers import THEIRS, Peer
from bench.registry import Served
from bench.workloads import Step, check_work_done

MEMORY_DIRECTORY = "/dev/shm"
NEEDED = 14 << 30
"""Bytes free in the work directory: the largest scenario, twice, with room."""


def default_directory() -> str:
    """Return where to work: in memory, if there is enough."""
    if os.access(MEMORY_DIRECTORY, os.W_OK) and shutil.disk_usage(MEMORY_DIRECTORY).free > NEEDED:
        return MEMORY_DIRECTORY
    return tempfile.gettempdir()


def compile_package() -> None:
    """Compile our modules, as an installation would."""
    package = os.path.dirname(os.path.abspath(chimage_core.__file__))
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=False)


def make_home(directory: str) -> None:
    """Make a peer's directory, which is also its HOME. The git that ch-image starts wants to know who commits."""
    os.makedirs(os.path.join(directory, "tmp"))
    with open(os.path.join(directory, ".gitconfig"), "w", encoding="utf-8") as file:
        file.write("[user]\n\tname = Bench\n\temail = bench@localhost\n")


def measure_step(step: Step, peer: Peer, directory: str, served: Served | None = None) -> Usage:
    """Carry out a step below a directory that `make_home` made. Raises MeasuringError."""
    for name, text in step.files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Only when it differs: a touched file in the context would be another context.
        if not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    if step.before:
        step.before(directory)
    argv = step.their_argv if step.their_argv and peer.name == THEIRS else step.argv
    environment = peer.environment(directory)
    if served is not None:
        environment |= served.environment
        argv = [word.replace("REGISTRY", served.host).replace("FRESH", _fresh(directory)) for word in argv]
    usage, output = measure([step.program or peer.program, *argv], environment, directory)
    if wrong := check_work_done(step, output) or _check_left(step, directory):
        raise MeasuringError(f"{peer.name}: {wrong}")
    if step.wall_of:
        usage = replace(usage, wall=step.wall_of(output))
    return replace(usage, disk=step.disk(directory)) if step.disk else usage


def _fresh(directory: str) -> str:
    """Return a name of a repository for this peer and this round: the directory is made anew for each."""
    path = os.path.join(directory, ".fresh")
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"fresh/{os.urandom(6).hex()}")
    with open(path, encoding="utf-8") as file:
        return file.read()


def _check_left(step: Step, directory: str) -> str | None:
    """Return what is wrong if a step left another image than it should have."""
    if step.leaves is None:
        return None
    image, wanted = step.leaves
    found = disk.files_in(os.path.join(directory, "storage", "img", image))
    if found >= wanted if wanted else not found:
        return None
    return f"{step.name}: the image {image} has {found} files, expected {wanted or 'no such image'}"
