"""Run one command and account for its whole process tree: `python -I -S supervise.py FD COMMAND...`.

Two ways to lose CPU time must be closed. Helpers that outlive the command (a detached `git gc`, a removal in the
background) are nobody's children: so this process makes itself the "subreaper" of everything below it, and they become
its own. And the kernel forgets the time of a process whose parent ignores its end: so, where we may make a control
group (as root), the time is the group's; elsewhere it is that of all who were waited for.

It is small, because a child's peak memory is never below that of the process it was forked from. One JSON object goes
to the file descriptor FD. The command's outputs are this process's.
Sources: prctl(2) PR_SET_CHILD_SUBREAPER, getrusage(2) RUSAGE_CHILDREN, cgroups(7).
"""

import ctypes
import json
import os
import resource
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
GROUPS = (("/sys/fs/cgroup/cpuacct", "cpuacct.usage"), ("/sys/fs/cgroup", "cpu.stat"))
"""Where a control group can be made, and its file with the CPU time: version 1, version 2."""


def main(fd: int, command: list[str]) -> None:
    """Run `command`, wait for it and all its descendants, and write what they used to `fd`."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    os.set_inheritable(fd, False)
    group, usage_file = make_group()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        start_command(group, command)
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
        "cpu": group_seconds(group, usage_file) if group else used.ru_utime + used.ru_stime,
        "wall": wall,
        "settled": time.monotonic() - start,
        "peak": used.ru_maxrss * 1024,
    }
    if group:
        os.rmdir(group)
    os.write(fd, json.dumps(report).encode())


def start_command(group: str | None, command: list[str]) -> None:
    """Become the command, inside the group; does not return."""
    try:
        if group:
            with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    os._exit(127)


def make_group() -> tuple[str | None, str]:
    """Make an empty control group; return its path, or None where we may not, and its file with the CPU time."""
    for parent, usage_file in GROUPS:
        group = f"{parent}/chimage-bench.{os.getpid()}"
        try:
            os.mkdir(group)
        except OSError:
            continue
        if os.path.exists(f"{group}/{usage_file}"):
            return group, usage_file
        os.rmdir(group)
    return None, ""


def group_seconds(group: str, usage_file: str) -> float:
    """Return the CPU time of all that ever ran in a group."""
    with open(f"{group}/{usage_file}", encoding="ascii") as file:
        text = file.read()
    if usage_file == "cpu.stat":
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6
    return int(text) / 1e9


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
