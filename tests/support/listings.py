"""Directories as the manual lists them: edited output of `ls -oghR`."""

import os
import re
import stat
from pathlib import Path

_LINE = re.compile(r"([-dl]\S{9})\s+(\d+)\s+(\d+) \w{3} \d\d \d\d:\d\d (.*)")


def listed(directory: Path, top: str) -> list[str]:
    """Return what is below a directory, `top` being how its name is shown. Of directories, links and sizes do not
    count, as they depend on the file system, nor do times of anything."""
    names = sorted(os.listdir(directory))
    lines = [f"{top}:", *(_entry(directory / name) for name in names)]
    for name in names:
        if (directory / name).is_dir() and not (directory / name).is_symlink():
            lines += listed(directory / name, f"{top}/{name}")
    return lines


def printed(text: str) -> list[str]:
    """Return the same of a listing in the manual."""
    lines = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LINE.fullmatch(line)
        if match is None:
            lines.append(line)
        elif match[1].startswith("d"):
            lines.append(f"{match[1]} {match[4]}")
        else:
            lines.append(" ".join(match.groups()))
    return lines


def _entry(path: Path) -> str:
    status = path.lstat()
    mode = stat.filemode(status.st_mode)
    if path.is_symlink():
        return f"{mode} {status.st_nlink} {status.st_size} {path.name} -> {os.readlink(path)}"
    return f"{mode} {path.name}" if path.is_dir() else f"{mode} {status.st_nlink} {status.st_size} {path.name}"
