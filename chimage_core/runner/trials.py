"""What the kernel and a file system allow, found out by trying it in a process that then ends.

Part of the fork server: standard library only.
"""

import os

from chimage_core.runner import mounts, seccomp, syscalls
from chimage_core.runner.job import Job
from chimage_core.runner.syscalls import SetupError


def run(job: Job, filter_program: bytes) -> dict[str, object]:
    """Do what `job.trial` names and return what was found. Raises SetupError if it does not work at all."""
    if job.trial == "seccomp":
        seccomp.install(filter_program)
        return {}
    mounts.enter_mount_namespace()
    if job.trial == "overlay":
        _change_overlay(job)
        return {}
    return {"pid_namespace": _can_mount()}


def _can_mount() -> bool:
    """Return whether a new /proc is allowed. Raises SetupError if no mount is, as by AppArmor."""
    try:
        syscalls.mount(b"tmpfs", b"/sys", b"tmpfs", 0)
    except OSError as error:
        raise SetupError("namespaces", f"can't mount in a user namespace: {error.strerror}") from error
    try:
        mounts.mount_new_proc()
    except SetupError:
        return False
    return True


def _change_overlay(job: Job) -> None:
    """Do what needs an overlay's marks for deleted and replaced, and its copying; the client looks at the result.

    Copying fails for files of a group that the user namespace does not have, as in a set-group-ID directory.
    """
    if job.overlay is None:
        raise SetupError("overlay", "no overlay to try")
    mounts.mount_overlay(job.root, job.overlay.upper, job.overlay.work)
    try:
        os.unlink(os.path.join(job.root, b"deleted"))
        directory = os.path.join(job.root, b"replaced")
        os.unlink(os.path.join(directory, b"file"))
        os.rmdir(directory)
        os.mkdir(directory)
        with open(os.path.join(job.root, b"changed"), "ab") as file:
            file.write(b"new")
    except OSError as error:
        raise SetupError("overlay", f"can't change files on an overlay: {error.strerror}") from error
