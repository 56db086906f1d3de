"""What is built: base images as tarballs, and Dockerfiles."""

import io
import os
import random
import subprocess
import sys
import tarfile

HOST_BASE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools", "host_base.py")

LARGE_FILES = 50_000
LARGE_MEAN_SIZE = 6_000
"""Bytes; 300 MB in all, which is what a distribution's /usr has per file or less."""

HEAVY_RUN = (
    'perl -e \'srand 1; $block = join "", map { pack "L", int rand 2**32 } 1..5000;'
    ' for $i (0..14999) { $d = "/opt/heavy" . int($i / 100); mkdir $d;'
    ' open F, ">$d/$i" or die; print F $i, $block; close F }\''
)
"""A RUN that makes 300 MB in 15,000 files, no two alike, with the Perl that every Debian image has."""


def host_base(path: str) -> None:
    """Write a small base image of this host's programs to the tarball `path`."""
    subprocess.run([sys.executable, HOST_BASE, path], check=True)


def large_image(path: str) -> None:
    """Write the host's base image with LARGE_FILES more files to the tarball `path`. The same bytes every time."""
    host_base(path)
    source = random.Random(50_000)
    noise = source.randbytes(4 * LARGE_MEAN_SIZE)
    with tarfile.open(path, "a") as tarball:
        for number in range(LARGE_FILES):
            if number % 50 == 0:
                directory = tarfile.TarInfo(f"./opt/large/{number // 1000}/{number // 50}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tarball.addfile(directory)
            size = source.randrange(2 * LARGE_MEAN_SIZE)
            content = b"%d " % number + noise[number % LARGE_MEAN_SIZE :][:size]
            file = tarfile.TarInfo(f"./opt/large/{number // 1000}/{number // 50}/{number}")
            file.size, file.mode, file.mtime = len(content), 0o644, 1_700_000_000
            tarball.addfile(file, io.BytesIO(content))


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


def heavy(base: str, *, more: str = "") -> str:
    """Return a Dockerfile with one RUN that makes many files, and one more instruction."""
    return f"FROM {base}\nRUN {HEAVY_RUN}\n{more}\n"
