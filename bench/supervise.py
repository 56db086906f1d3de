"""Run one command and account for its whole process tree: `python -I -S supervise.py FD COMMAND...`.

Why a process of its own: it becomes the "subreaper" of everything the command starts, so that helpers which outlive the
command (a detached `git gc`, a removal in the background) become its children instead of init's, and their CPU time is
counted too. It is small, because a child's peak memory can never be below that of the process it was forked from.

One JSON object goes to the file descriptor FD. The command's outputs are this process's.
Sources: prctl(2) PR_SET_CHILD_SUBREAPER, getrusage(2) RUSAGE_CHILDREN.
"""

import ctypes
import json
import os
import resource
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def main(fd: int, command: list[str]) -> None:
    """Run `command`, wait for it and all its descendants, and write what they used to `fd`."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    os.set_inheritable(fd, False)
    start = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    status, wall = None, 0.0
    while True:
        try:
            pid, wait_status = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            status, wall = os.waitstatus_to_exitcode(wait_status), time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = {
        "status": status,
        "cpu": used.ru_utime + used.ru_stime,
        "wall": wall,
        "settled": time.monotonic() - start,
        "peak": used.ru_maxrss * 1024,
    }
    os.write(fd, json.dumps(report).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
