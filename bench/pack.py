"""`python -m bench.pack`: pack an image into a layer, against `tar | pigz`. Both write a file and run in turn.

What is compared is CPU time; ours includes the start of Python, and both digests, which tar and pigz do not compute.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from bench import inputs
from bench.carry_out import compile_package, default_directory
from bench.measure import Usage, measure, median, ratios
from chimage_core.cancel import CancelToken
from chimage_core.layer.compress import COMPRESSIONS
from chimage_core.layer.pack import PackReport, pack, rootfs_entries

GOAL = 0.3
"""Of the CPU time of `tar | pigz`, for gzip."""
PEAK = 150 << 20
"""Bytes"""
THEIRS = "tar | pigz"
_MIB = 1 << 20


def main(argv: Sequence[str]) -> int:
    """Measure, print a table, and return the exit status: 1 if a goal was missed."""
    options = _options(argv)
    if options.pack:
        return _pack(*options.pack)
    compile_package()
    with tempfile.TemporaryDirectory(prefix="chimage-bench.", dir=options.directory) as work:
        root = options.root or _large(work)
        commands = {THEIRS: ["sh", "-c", 'tar -C "$1" --sort=name -cf - . | pigz > "$2"', "sh", root]}
        for name in COMPRESSIONS:
            commands[name] = [sys.executable, "-m", "bench.pack", "--pack", root, name]
        target = os.path.join(work, "layer")
        used: dict[str, list[Usage]] = {name: [] for name in commands}
        sizes = {}
        for number in range(options.rounds):
            for name in list(commands) if number % 2 else reversed(commands):
                usage, _ = measure([*commands[name], target], dict(os.environ), os.getcwd())
                used[name].append(usage)
                sizes[name] = os.path.getsize(target)
    return _report(used, sizes)


def _report(used: dict[str, list[Usage]], sizes: dict[str, int]) -> int:
    print("| | CPU s | wall s | CPU ratio | wall ratio | size MB | peak MiB |\n|---|---|---|---|---|---|---|")
    for name, usages in used.items():
        middle = median(usages)
        by_cpu, by_wall = (_middle(ratios(usages, used[THEIRS], by_wall=by)) for by in (False, True))
        figures = f"{middle.cpu:.2f} | {middle.wall:.2f} | {by_cpu:.2f} | {by_wall:.2f}"
        print(f"| {name} | {figures} | {sizes[name] / 1e6:.1f} | {middle.peak / _MIB:.0f} |")
    ratio = _middle(ratios(used["gzip"], used[THEIRS]))
    peak = max(usage.peak for name in COMPRESSIONS for usage in used[name])
    print(f"\ngoals: CPU {ratio:.2f} of {GOAL}; peak {peak / _MIB:.0f} of {PEAK / _MIB:.0f} MiB")
    return int(ratio > GOAL or peak > PEAK)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _large(work: str) -> str:
    """Unpack the image of 50,000 files; return its directory."""
    root, tarball = os.path.join(work, "root"), os.path.join(work, "large.tar")
    inputs.large_image(tarball)
    os.mkdir(root)
    subprocess.run(["tar", "-C", root, "-xf", tarball], check=True)
    os.unlink(tarball)
    return root


def _pack(root: str, name: str, target: str) -> int:
    cancel = CancelToken()
    compression = next(each for each in COMPRESSIONS if each == name)
    with open(target, "wb") as file:
        entries = rootfs_entries(root, PackReport(), xattrs=True, cancel=cancel)
        print(pack(entries, file.write, compression, cancel=cancel))
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pack", description="Pack an image, against tar and pigz.")
    parser.add_argument("--root", metavar="DIR", help="unpacked image (default: one of 50,000 files is made)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--directory", default=default_directory(), help="work below (default: %(default)s)")
    parser.add_argument("--pack", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
