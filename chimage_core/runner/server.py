"""The fork server: a small, single-threaded process that starts containers for a big one.

A process with threads cannot enter a user namespace, and forking a big one is slow; so this file is started once, as
`python -I -S server.py --serve FD`, and forks a keeper for each job. It uses the standard library and the modules
beside it that say they are part of it; they are few and small, since their start is part of the first RUN.

A request is one packet: any byte, with descriptors of a memory file with the job, a control socket, and the files of
the command. The answer comes as one packet of JSON on the control socket. The server ends when its client does.

For debugging, `python -I -S server.py ROOT -- COMMAND [ARG …]` runs one command, with our terminal.
"""

import gc
import json
import os
import signal
import socket
import sys

if not __package__:
    # With -I and -S, only the standard library can be found; this adds the package that the file is in.
    sys.path.append(os.path.abspath(__file__).rsplit("/", 3)[0])
from chimage_core.runner import job as jobs
from chimage_core.runner import keeper, seccomp, syscalls

if not __package__:
    sys.path.pop()

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""A terminal or a batch system sends them to the whole group; the client decides what they mean."""
_MOST_FILES = 16


def serve(requests: socket.socket) -> None:
    """Answer requests until the client closes its end."""
    _settle()
    syscalls.forget_environment()
    filter_program = seccomp.program()
    # What exists now lives as long as the process: keepers need not look at it, and so not copy it.
    gc.disable()
    gc.freeze()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(requests, 1, _MOST_FILES)
        if not packet:
            return
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        try:
            child = syscalls.fork()
        except syscalls.SetupError as error:
            os.write(descriptors[1], json.dumps({"error": error.message, "kind": error.kind}).encode())
        else:
            if child == 0:
                requests.close()
                _work(descriptors, filter_program)
        for descriptor in descriptors:
            os.close(descriptor)


def _settle() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)


def _reap(number: int, frame: object) -> None:
    """Wait for keepers that have ended. If they were ignored instead, the kernel would forget their CPU time."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _work(descriptors: list[int], filter_program: bytes) -> None:
    """Be the keeper of one job; does not return."""
    try:
        memory, control_fd, *files = descriptors
        with open(memory, "rb") as file:
            job = jobs.decode(file.read())
        with socket.socket(fileno=control_fd) as control:
            try:
                answer = keeper.keep(job, control, files, filter_program)
            except Exception as error:  # noqa: BLE001 - told to the client, which raises it
                answer = {"error": f"{type(error).__name__}: {error}", "kind": "bug"}
            control.send(json.dumps(answer).encode())
    except (BrokenPipeError, ConnectionResetError):
        # The client is gone, and nobody is left to tell.
        pass
    finally:
        os._exit(0)


def run_once(root: str, argv: list[str]) -> int:
    """Run one command in the image at `root` with our terminal, and return its exit status."""
    _settle()
    text = jobs.encode(
        argv=tuple(argv),
        env=(("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("TERM", "dumb")),
        emulate=True,
        interactive=True,
        root=os.path.abspath(root),
        points=(("/proc", True), ("/dev", True), ("/sys", True)),
        mounts=tuple(jobs.mount(tree, source=tree) for tree in ("/proc", "/dev", "/sys")),
    )
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    files = [os.dup(descriptor) for descriptor in (0, 1, 2)]
    with ours, control:
        answer = keeper.keep(jobs.decode(text), control, files, seccomp.program())
    complaint = answer.get("error") or answer.get("problem")
    if complaint:
        sys.stderr.write(f"{complaint}\n")
    status = answer.get("status")
    return status if isinstance(status, int) else 1


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    match arguments:
        case ["--serve", descriptor]:
            with socket.socket(fileno=int(descriptor)) as requests:
                requests.set_inheritable(False)
                serve(requests)
            return 0
        case [root, "--", *argv] if argv:
            return run_once(root, argv)
    sys.stderr.write("usage: server.py ROOT -- COMMAND [ARG ...]\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
