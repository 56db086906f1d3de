"""A tree through GNU tar and through us must be the same tree."""

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.fs.tree import walk
from chimage_core.layer.extract import unpack
from chimage_core.layer.inflate import ArchiveStream

gnu_tar = shutil.which("tar")
pytestmark = pytest.mark.skipif(gnu_tar is None, reason="there is no tar")


def described(top: Path) -> dict[str, tuple[object, ...]]:
    result: dict[str, tuple[object, ...]] = {}
    for entry in walk(str(top), cancel=CancelToken()):
        status, path = entry.status, os.path.join(top, entry.path)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = Path(path).read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        result[entry.path] = (status.st_mode, status.st_mtime_ns, links, content)
    return result


def make_tree(top: Path, seed: int) -> None:
    """Some hundred entries of all types that an ordinary user can have in an image."""
    choose = random.Random(seed)
    directories = [os.fsencode(top)]
    files: list[bytes] = []
    alphabet = [b"a", b"\xff", b" ", b"\n", "é".encode(), b"-", b".", b"x" * 30]
    os.mkdir(top)
    for number in range(300):
        name = b"".join(choose.choices(alphabet, k=choose.randint(1, 6))) + b"%d" % number
        path = choose.choice(directories) + b"/" + name
        kind = choose.choice(["directory", "file", "file", "symlink", "hardlink", "sparse"])
        if kind == "directory":
            os.mkdir(path)
            directories.append(path)
        elif kind == "symlink":
            os.symlink(choose.choice([b"/etc", b"..", b"missing", *directories])[:4000], path)
        elif kind == "hardlink" and files:
            os.link(choose.choice(files), path)
        else:
            with open(path, "wb") as file:
                if kind == "sparse":
                    file.seek(choose.randint(0, 1 << 20))
                file.write(choose.randbytes(choose.choice([0, 1, 511, 512, 513, 5000, 70_000])))
            os.chmod(path, choose.choice([0o600, 0o644, 0o755, 0o711]))
            files.append(path)
        os.utime(path, ns=(0, choose.randrange(-(10**18), 4 * 10**18)), follow_symlinks=False)
    for directory in reversed(directories):
        os.chmod(directory, choose.choice([0o700, 0o755, 0o711, 0o1777]))
        os.utime(directory, ns=(0, choose.randrange(0, 4 * 10**18)))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("options", ["--format=gnu", "--format=gnu -S", "--format=pax", "--format=pax -S -z"])
def test_a_tree_comes_out_as_gnu_tar_has_it(tmp_path: Path, options: str, seed: int) -> None:
    assert gnu_tar is not None
    make_tree(tmp_path / "source", seed)
    archive = tmp_path / "archive"
    subprocess.run([gnu_tar, "-c", *options.split(), "-f", archive, "-C", tmp_path / "source", "."], check=True)
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    with ArchiveStream(str(archive)) as stream:
        unpack([stream], str(tmp_path / "ours"), cancel=CancelToken())
    subprocess.run([gnu_tar, "-x", "-p", "-f", archive, "-C", tmp_path / "theirs"], check=True)
    ours, theirs = described(tmp_path / "ours"), described(tmp_path / "theirs")
    assert ours == theirs
    if "--format=pax" in options:  # Which keeps nanoseconds.
        assert ours == described(tmp_path / "source")
