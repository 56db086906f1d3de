"""A root file system in a few milliseconds: busybox, and the files that every image has."""

import os
import shutil
import subprocess

BUSYBOX = "/bin/busybox"
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 hosts-of-the-image\n",
    "etc/resolv.conf": "# resolv.conf of the image\n",
}


def missing_busybox() -> str | None:
    """Return why `make_busybox_rootfs` cannot work, or None: there is no statically linked busybox."""
    if not os.path.exists(BUSYBOX):
        return f"{BUSYBOX} is not installed (Debian package busybox-static)"
    with open(BUSYBOX, "rb") as file:
        return f"{BUSYBOX} is not statically linked" if b"/ld-linux" in file.read(4096) else None


def make_busybox_rootfs(path: str) -> str:
    """Make a root file system in the directory `path`, which must not exist, and return `path`."""
    for directory in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "var/tmp"):
        os.makedirs(os.path.join(path, directory))
    for directory in ("tmp", "var/tmp"):
        os.chmod(os.path.join(path, directory), 0o1777)
    shutil.copy2(BUSYBOX, os.path.join(path, "bin/busybox"))
    listed = subprocess.run([BUSYBOX, "--list"], stdout=subprocess.PIPE, check=True, text=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(path, "bin", applet))
    for name, content in _FILES.items():
        with open(os.path.join(path, name), "w", encoding="ascii") as file:
            file.write(content)
    return path
