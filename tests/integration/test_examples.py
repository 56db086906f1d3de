"""Every example builds, as an ordinary user and without network: software of HPC in the layouts that people know.

Its Dockerfile runs what it has built, and what that prints is looked at here. A few are built always, all others with
the slow tests.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import apt_repository
from tests.support.apt_repository import AptRepository
from tests.support.builds import marks
from tests.support.cli import Chimage, CliResult
from tests.support.debian import find_assets

pytestmark = pytest.mark.userns

EXAMPLES = Path(__file__).parents[2] / "examples"
OF_THE_DEMONSTRATION = {"hello"}
"""Built by another test, of README."""
ALWAYS = {"mpi-hello", "modules", "spack-like", "variables"}
WITH_RSYNC = {"site-tree"}


class Result(NamedTuple):
    """What an example has to come to."""

    said: tuple[str, ...]
    """Lines that its commands print."""
    files: tuple[str, ...]
    """Paths in the image, or patterns of them."""


RESULTS = {
    "bio-container": Result(("read1\t14\t0.43", "read2\t8\t1.00"), ("usr/local/bin/fastats", "data/reads.tsv")),
    "blas-like": Result(("trace = 300",), ("usr/local/lib/blas/*/libblas.so.3",)),
    "build-mounts": Result(("built of 2 objects", "heat: 1"), ("usr/local/bin/heat",)),
    "conda-like": Result(
        ("prefix: /opt/conda/envs/science", "mean energy: 4.0"), ("opt/conda/envs/science/conda-meta/numlib-1.26.json",)
    ),
    "cuda-base": Result((), ("usr/local/cuda-12.4/lib64/libcudart.so.12.4", "usr/local/cuda-12.4/lib64/stubs/*.so")),
    "cuda-saxpy": Result(("generating code for sm_90", "saxpy on 1 device: 5000"), ("opt/app/bin/saxpy",)),
    "distro-packages": Result(("packages: hello uuid-runtime",), ("usr/bin/hello", "usr/sbin/uuidd")),
    "easybuild-like": Result(
        ("== COMPLETED: Installation ended successfully", "11e60398"),
        ("software/modules/all/summer/0.9-tcc-0.9.27.lua", "software/software/zlibish/*/lib/libz.so"),
    ),
    "entrypoint": Result(
        ("licensed by 27000@license.example.org, options: -v --port=1", "scratch below /tmp/scratch"),
        ("docker-entrypoint.d/20-scratch.sh",),
    ),
    "from-scratch": Result(("alone with 1.4142",), ("bin/tool",)),
    "gromacs-like": Result(
        ("4 bytes a number, 1000 steps, energy 0.500", "8 bytes a number, 1000 steps, energy 0.500"),
        ("opt/gromacs/bin/gmx", "opt/gromacs/bin/gmx_d", "opt/gromacs/bin/GMXRC"),
    ),
    "hpc-base": Result((), ("usr/bin/tcc", "usr/bin/make", "usr/bin/python3.11")),
    "io-stack": Result(("dataset temperature 287.15",), ("opt/io/lib/libhdf5.so", "usr/local/bin/model")),
    "julia-like": Result(("precompiled: Fourier Plots",), ("opt/julia-depot/packages/Plots/v2",)),
    "jupyter-like": Result(
        ("kernel: Python 3", "served: your files go here"), ("usr/local/share/jupyter/kernels/python3/kernel.json",)
    ),
    "lammps-like": Result(("package: molecule", "E(1.12) = -1.0000"), ("usr/local/bin/lmp",)),
    "micromamba-like": Result(("tool of the environment, user mambauser",), ("opt/conda/bin/tool",)),
    "ml-like": Result(
        ("slope 2.0, offset 1.0, weights ab79c664", "model: {'offset': 1.0, 'slope': 2.0}"), ("models/weights.json",)
    ),
    "modules": Result(("solver 1.0", "solver 2.0"), ("opt/modulefiles/solver/1.0.lua", "opt/default-module")),
    "mpi-base": Result((), ("opt/mpi/lib/libmpi.so.40", "opt/mpi/host", "opt/mpi/bin/mpicc")),
    "mpi-hello": Result(("hello from rank 0 of 1 on container",), ("usr/local/bin/hello",)),
    "mpi-host": Result(("library path: /opt/mpi/host",), ("gpfs/home", "opt/cray", "scratch")),
    "mpi-microbench": Result(
        ("allreduce 512 bytes: measured", "barrier 0 bytes: measured"), ("usr/local/libexec/microbench/barrier",)
    ),
    "onbuild-app": Result(("built ring", "the ring has 1 of 1", "release"), ("opt/app/bin/ring",)),
    "onbuild-base": Result((), ("usr/local/bin/build-app",)),
    "openfoam-like": Result(
        ("Time = 1000, T in the middle = 50.0",), ("opt/OpenFOAM/*/platforms/*/lib/libfiniteVolume.so",)
    ),
    "python-app": Result(("to       ###", "no dependencies"), ("opt/pyapp/pyapp/__pycache__/__main__.*.pyc",)),
    "r-like": Result(("* DONE (stats2 0.3.1)",), ("usr/local/lib/R/site-library/base2/DESCRIPTION",)),
    "render-like": Result(("rendered by software: 121 pixels",), ("srv/disc.pbm",)),
    "site-users": Result(("physics has 2 members", "new files: 640"), ("data/chemistry", "home/carol")),
    "site-tree": Result(("site software 3.1", "version-3.1"), ("opt/site/bin/site-info",)),
    "spack-like": Result(("miniapp: precision 32",), ("opt/view/bin/mini*", "opt/software/*/*/zfp-1.0-*/.spack")),
    "stream-threads": Result(
        ("triad with 4 threads: 700000", "triad with 2 threads: 700000"), ("usr/local/bin/stream",)
    ),
    "tarball-sources": Result(
        ("configure: float numbers, prefix /opt/fftlike", "wisdom for numbers of 4 bytes"),
        ("opt/fftlike/bin/fftlike-wisdom",),
    ),
    "variables": Result(
        ("major 4, minor 2.1, name code-4.2.1-plain, A 2, B 1",), ("opt/code-4.2.1-plain/variables.txt",)
    ),
    "workflow": Result(("sum of squares: 55",), ("srv/report.txt",)),
}


class Site:
    """A storage directory in which examples are built, each with the examples that it starts from."""

    def __init__(self, chimage: Chimage, repository: AptRepository) -> None:
        self._chimage = chimage
        self._repository = repository
        self._built: dict[str, CliResult] = {}

    def build(self, name: str) -> CliResult:
        """Build an example, once."""
        if name not in self._built:
            for base in _bases(name):
                self.build(base)
            self._built[name] = self.build_again(name)
        return self._built[name]

    def build_again(self, name: str) -> CliResult:
        return self._chimage.run("build", "-t", name, EXAMPLES / name)

    def root(self, name: str) -> Path:
        return Path(self._chimage.storage, "img", f"{name}+latest")

    def prepare(self, tarball: str, context: Path) -> None:
        """Make the image `debian:12`, whose packages come from the repository."""
        self._chimage.run("import", tarball, "debian")
        context.mkdir()
        (context / "Dockerfile").write_text(
            f"FROM debian\nRUN echo '{self._repository.source}' > /etc/apt/sources.list\n"
        )
        self._chimage.run("build", "-t", "debian:12", context)


def _bases(name: str) -> list[str]:
    """Return the examples that one starts from."""
    named = re.findall(r"^FROM (\S+)", (EXAMPLES / name / "Dockerfile").read_text(), re.MULTILINE)
    return [base for base in dict.fromkeys(named) if (EXAMPLES / base / "Dockerfile").exists()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assets = find_assets()
    if assets is None:
        pytest.skip("no Debian root file system was prepared (make test, or python -m tests.support.prepare)")
    place = tmp_path_factory.mktemp("examples")
    with apt_repository.serve(assets.repository) as repository:
        site = Site(Chimage(place / "storage"), repository)
        site.prepare(assets.tarball, place / "context")
        yield site


def test_all_examples_are_looked_at() -> None:
    assert RESULTS.keys() == {path.parent.name for path in EXAMPLES.glob("*/Dockerfile")} - OF_THE_DEMONSTRATION
    assert len(RESULTS) >= 25


def _marks(name: str) -> list[pytest.MarkDecorator]:
    found = [] if name in ALWAYS else [pytest.mark.slow]
    return [*found, pytest.mark.rsync] if name in WITH_RSYNC else found


@pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in RESULTS])
def test_example(site: Site, name: str) -> None:
    """It comes to what it should, and the second time all of it is in the cache."""
    built = site.build(name)
    for line in RESULTS[name].said:
        assert line in built.stdout.splitlines(), built.text()
    for pattern in RESULTS[name].files:
        found = list(site.root(name).glob(pattern))
        assert found, pattern
        assert all(path.lstat().st_uid == os.geteuid() for path in found)
    again = site.build_again(name)
    assert "." not in marks(again), again.text()
    assert again.stdout == ""
