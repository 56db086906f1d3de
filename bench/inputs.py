"""What is built: base images as tarballs, contexts, and Dockerfiles."""

import io
import os
import random
import subprocess
import sys
import tarfile

from bench.contents import MIB, Contents

HOST_BASE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools", "host_base.py")
MTIME = 1_700_000_000

LARGE_FILES = 50_000
LARGE_BIG_FILES = 150
"""Those of 1 MiB and more, with half of all bytes: as in an image with compilers and scientific libraries."""
LARGE_HALF = 750_000_000
"""Bytes in all big files, and in all others."""
_IN_A_DIRECTORY = 12

CONTEXT_FILES = 10_000
CONTEXT_MEAN_SIZE = 6_000
"""Bytes; 60 MB in all."""

RELATED_STATES = 11
_PATCHED, _ADDED = 150, 300
"""Files that each related state changes, and adds."""

HEAVY_RUN = (
    'perl -e \'srand 1; $block = join "", map { pack "L", int rand 2**32 } 1..5000;'
    ' for $i (0..14999) { $d = "/opt/heavy" . int($i / 100); mkdir $d;'
    ' open F, ">$d/$i" or die; print F $i, $block; close F }\''
)
"""A RUN that makes 300 MB in 15,000 files, no two alike, with the Perl that every Debian image has."""

_RELATED_RUN = (
    "perl -e '$s = {number}; srand $s; @f = grep {{ ! /perl/ && -f && ! -l && -s $_ > 500 && -s $_ < 60000 }} glob "
    '"/usr/share/*/* /usr/share/*/*/* /usr/lib/*/gconv/* /var/lib/dpkg/info/*";'
    " for $i (1..{patched}) {{ $f = $f[int rand @f]; open F, $f or die; local $/; $t = <F>; close F;"
    ' substr($t, int rand length $t, 0) = "patch $s.$i\\n"; chmod 0644, $f;'
    ' open F, ">$f" or die; print F $t; close F }}'
    ' mkdir $d = "/opt/related$s"; for $i (1..{added}) {{ open F, ">$d/$i" or die;'
    ' print F (($i % 3) ? map {{; "key".int(rand 90)." = value ".int(rand 900)."\\n" }} 1..200'
    ' : map {{; pack "L", int rand 2**32 }} 1..1000); close F }}\''
)
"""A RUN that changes a place in many small files of the system, and adds files, two thirds of them text."""


def host_base(path: str) -> None:
    """Write a small base image of this host's programs to the tarball `path`."""
    subprocess.run([sys.executable, HOST_BASE, path], check=True)


def large_image(path: str) -> None:
    """Write the host's base image with LARGE_FILES more files, 1.5 GB, to the tarball `path`.

    Sizes are spread as in real images: half of the bytes are in a few big files (Pareto), the rest is log-normal.
    """
    source = random.Random(50_000)
    big = [source.paretovariate(1.5) for _ in range(LARGE_BIG_FILES)]
    small = [source.lognormvariate(8, 1.7) for _ in range(LARGE_FILES - LARGE_BIG_FILES)]
    sizes = [max(MIB, size) for size in _scaled(big, LARGE_HALF)]
    sizes += [min(MIB - 1, size) for size in _scaled(small, LARGE_HALF)]
    source.shuffle(sizes)
    image(path, sizes)


def image(path: str, sizes: list[int]) -> None:
    """Write the host's base image with files of these sizes below /opt/large to the tarball `path`."""
    host_base(path)
    contents = Contents(1)
    with tarfile.open(path, "a") as tarball:
        for number, size in enumerate(sizes):
            directory = f"./opt/large/{number // _IN_A_DIRECTORY // 20}/{number // _IN_A_DIRECTORY}"
            if number % _IN_A_DIRECTORY == 0:
                member = tarfile.TarInfo(directory)
                member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, MTIME
                tarball.addfile(member)
            member = tarfile.TarInfo(f"{directory}/{number}")
            member.size, member.mode, member.mtime = size, 0o644, MTIME
            tarball.addfile(member, io.BytesIO(contents.whole(number, size)))


def large_context(path: str) -> None:
    """Make a directory with CONTEXT_FILES files of 60 MB."""
    source = random.Random(10_000)
    contents = Contents(2)
    for number in range(CONTEXT_FILES):
        directory = os.path.join(path, str(number // 100))
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, str(number)), "wb") as file:
            file.write(contents.whole(number, source.randrange(2 * CONTEXT_MEAN_SIZE)))


def tiny_image(path: str) -> None:
    """Make a directory that passes for an image: what is listed need not run."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "usr"):
        os.makedirs(os.path.join(path, name))
    with open(os.path.join(path, "etc/passwd"), "w", encoding="utf-8") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")


def cheap_runs(base: str, instructions: int, *, last: str = "") -> str:
    """Return a Dockerfile of that many instructions: FROM and cheap RUNs. `last` makes the last one another."""
    runs = [f"RUN echo {instructions}.{number} > /etc/bench-{number}" for number in range(1, instructions)]
    return "\n".join([f"FROM {base}", *runs]) + f"{last}\n"


def two_file_runs(base: str, runs: int, series: int = 0) -> str:
    """Return a Dockerfile with that many RUNs, each of which changes two files, far from each other.

    Those of another series are others.
    """
    lines = [f"RUN echo {number} > /etc/first && echo {series} > /usr/second" for number in range(runs)]
    return "\n".join([f"FROM {base}", *lines, ""])


def heavy(base: str, *, more: str = "") -> str:
    """Return a Dockerfile with one RUN that makes many files, and one more instruction."""
    return f"FROM {base}\nRUN {HEAVY_RUN}\n{more}\n"


def related(base: str) -> str:
    """Return a Dockerfile with RELATED_STATES states, the base's included."""
    runs = [
        "RUN " + _RELATED_RUN.format(number=number, patched=_PATCHED, added=_ADDED)
        for number in range(1, RELATED_STATES)
    ]
    return "\n".join([f"FROM {base}", *runs, ""])


def _scaled(weights: list[float], total: int) -> list[int]:
    factor = total / sum(weights)
    return [int(weight * factor) for weight in weights]
