#!/usr/bin/env python3
"""Make a small base image from this host's own programs: no network, no privilege, nothing but Python.

    tools/host_base.py DIRECTORY        (must not exist, or be empty)
    tools/host_base.py FILE.tar

In it are a shell and the usual small programs with the shared libraries they need, at the same paths as on the host
and with the host's symbolic links (so a merged /usr stays merged), and what programs and ch-run expect below /etc. It
is for demonstrations and tests: the programs are the host's, whatever it runs.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

SEARCH = "/usr/bin:/bin:/usr/sbin:/sbin"

REQUIRED = ("sh", "ls", "cat", "cp", "mkdir", "echo")
# fmt: off
OPTIONAL = (
    "[", "awk", "basename", "chmod", "chown", "cut", "date", "dirname", "du", "env", "expr", "false", "find",
    "grep", "gzip", "head", "hostname", "id", "ln", "mktemp", "mv", "od", "printf", "pwd", "readlink", "rm",
    "rmdir", "sed", "seq", "sleep", "sort", "stat", "tail", "tar", "tee", "test", "touch", "tr", "true", "uname",
    "uniq", "wc", "xargs",
)

DIRECTORIES = (
    "dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr/local/bin", "usr/share",
    "var/lib", "var/tmp",
)
# fmt: on

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "",
}

LIBRARY = re.compile(r"(?:=>\s+|^\s*)(/\S+)\s+\(0x", re.MULTILINE)
"""A path in ldd's output: `libc.so.6 => /lib/libc.so.6 (0x…)`, and `/lib64/ld-linux.so.2 (0x…)` for the loader."""


class HostBaseError(Exception):
    """The image cannot be made; the message says why."""


def make_image(root: str) -> None:
    """Fill the directory `root`. Raises HostBaseError if the host lacks a program that every image needs."""
    programs = _find_programs()
    os.makedirs(root, exist_ok=True)
    for path in sorted({"/bin/sh", *programs} | _libraries(programs)):
        _take(root, path)
    for name in DIRECTORIES:
        os.makedirs(os.path.join(root, name), exist_ok=True)
    for name in ("tmp", "var/tmp"):
        os.chmod(os.path.join(root, name), 0o1777)
    for name, text in FILES.items():
        with open(os.path.join(root, name), "w", encoding="utf-8") as file:
            file.write(text)
    if os.path.exists("/etc/os-release"):
        _take(root, "/etc/os-release")


def _find_programs() -> set[str]:
    found = {name: shutil.which(name, path=SEARCH) for name in (*REQUIRED, *OPTIONAL)}
    missing = [name for name in REQUIRED if found[name] is None]
    if missing:
        raise HostBaseError(f"not found in {SEARCH}: {', '.join(missing)}")
    return {path for path in found.values() if path is not None}


def _libraries(programs: set[str]) -> set[str]:
    """Return the paths of the shared libraries and loaders of all programs. Static programs and scripts have none."""
    libraries: set[str] = set()
    for program in programs:
        # ldd fails for what is not a dynamic executable, and says so in words: what counts are the paths it prints.
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False, env={"LC_ALL": "C"})
        libraries.update(LIBRARY.findall(listed.stdout))
    return libraries


def _take(root: str, path: str) -> None:
    """Copy a file of the host to the same path below `root`, with every symbolic link on the way to it."""
    done = "/"
    rest = [part for part in path.split("/") if part]
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, part)
        there = root + here
        if os.path.islink(here):
            target = os.readlink(here)
            if not os.path.islink(there):
                os.symlink(target, there)
            done = "/" if target.startswith("/") else done
            rest = [part for part in target.split("/") if part not in ("", ".")] + rest
        elif os.path.isdir(here):
            os.makedirs(there, exist_ok=True)
            done = here
        elif not os.path.exists(there):
            shutil.copyfile(here, there)
            os.chmod(there, os.stat(here).st_mode & 0o777)


def make_tarball(path: str) -> None:
    """Write the image as a tar archive in which everything belongs to root. Raises HostBaseError."""
    with tempfile.TemporaryDirectory() as scratch:
        make_image(scratch)
        os.chmod(scratch, 0o755)
        with tarfile.open(path, "w") as archive:
            archive.add(scratch, arcname=".", filter=_owned_by_root)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def main(argv: list[str]) -> int:
    """Make the image that the arguments ask for and return the exit status."""
    if len(argv) != 2 or argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    target = os.path.abspath(argv[1])
    os.umask(0o022)
    try:
        if target.endswith(".tar"):
            make_tarball(target)
        elif os.path.isdir(target) and os.listdir(target):
            raise HostBaseError(f"directory is not empty: {target}")
        else:
            make_image(target)
    except (HostBaseError, OSError) as error:
        print(f"cannot make a base image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
