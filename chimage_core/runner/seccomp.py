"""The system call filter of root emulation: calls that need privilege do nothing and succeed.

One classic BPF program serves every ABI that a process of this machine may use (a 64-bit kernel also runs 32-bit
programs), since the numbers of system calls differ between them. It is built here, without libseccomp, because the
whole job is a table and three kinds of instruction.

What is faked is what the ch-image manual lists ("Privilege model"): capset, chown and friends, mknod and mknodat, and
everything that changes user or group. Of mknod only device files are faked: FIFOs, sockets and plain files need no
privilege and are really made. kexec_load is faked so that the filter can be tested: nothing else makes it succeed.

Part of the fork server: standard library only.
Sources: seccomp(2); include/uapi/linux/{audit,bpf_common,filter,seccomp}.h; syscall numbers from the kernel's
asm/unistd.h of each architecture (6.1), checked in the tests against the headers that are installed.
"""

import os
import struct

from chimage_core.runner import syscalls

ABIS = ("arm64", "arm", "i386", "ppc64le", "s390x", "x86_64")
"""The columns of `NUMBERS`."""

AUDIT_ARCH = {
    "arm64": 0xC00000B7,
    "arm": 0x40000028,
    "i386": 0x40000003,
    "ppc64le": 0xC0000015,
    "s390x": 0x80000016,
    "x86_64": 0xC000003E,
}
"""How the kernel names each ABI to a filter: the ELF machine number, 2^31 for 64 bits, 2^30 for little-endian."""

NUMBERS: dict[str, tuple[int | None, ...]] = {
    "capset": (91, 185, 185, 184, 185, 126),
    "chown": (None, 182, 182, 181, 212, 92),
    "chown32": (None, 212, 212, None, None, None),
    "fchown": (55, 95, 95, 95, 207, 93),
    "fchown32": (None, 207, 207, None, None, None),
    "fchownat": (54, 325, 298, 289, 291, 260),
    "kexec_load": (104, 347, 283, 268, 277, 246),
    "lchown": (None, 16, 16, 16, 198, 94),
    "lchown32": (None, 198, 198, None, None, None),
    "mknod": (None, 14, 14, 14, 14, 133),
    "mknodat": (33, 324, 297, 288, 290, 259),
    "setfsgid": (152, 139, 139, 139, 216, 123),
    "setfsgid32": (None, 216, 216, None, None, None),
    "setfsuid": (151, 138, 138, 138, 215, 122),
    "setfsuid32": (None, 215, 215, None, None, None),
    "setgid": (144, 46, 46, 46, 214, 106),
    "setgid32": (None, 214, 214, None, None, None),
    "setgroups": (159, 81, 81, 81, 206, 116),
    "setgroups32": (None, 206, 206, None, None, None),
    "setregid": (143, 71, 71, 71, 204, 114),
    "setregid32": (None, 204, 204, None, None, None),
    "setresgid": (149, 170, 170, 169, 210, 119),
    "setresgid32": (None, 210, 210, None, None, None),
    "setresuid": (147, 164, 164, 164, 208, 117),
    "setresuid32": (None, 208, 208, None, None, None),
    "setreuid": (145, 70, 70, 70, 203, 113),
    "setreuid32": (None, 203, 203, None, None, None),
    "setuid": (146, 23, 23, 23, 213, 105),
    "setuid32": (None, 213, 213, None, None, None),
}
"""Numbers of the faked system calls, by name and ABI; None: the ABI has no such call."""

_SECCOMP = {"arm64": 277, "arm": 383, "i386": 354, "ppc64le": 358, "s390x": 348, "x86_64": 317}
"""Number of seccomp(2) itself, which the C library does not offer."""

MODE_ARGUMENT = {"mknod": 1, "mknodat": 2}
"""Calls that are faked only for devices, and which argument says what is to be made."""

_BIG_ENDIAN = frozenset({"s390x"})

# Opcodes: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JA, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K.
_LOAD, _JUMP_IF_EQUAL, _JUMP, _AND, _RETURN = 0x20, 0x15, 0x05, 0x54, 0x06
_ALLOW = 0x7FFF0000
_PRETEND_SUCCESS = 0x00050000  # SECCOMP_RET_ERRNO with errno 0

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6].
_NR, _ARCH, _ARGS = 0, 4, 16
_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000

Instruction = tuple[int, int, int, int]
"""Opcode, how far to jump if true, how far if false, operand: struct sock_filter."""


def program() -> bytes:
    """Return the filter, an array of `struct sock_filter` in this machine's byte order.

    This is also the format of bwrap's `--seccomp`.
    """
    code: list[Instruction] = [(_LOAD, 0, 0, _ARCH)]
    for abi in ABIS:
        block = _block(abi)
        code.append((_JUMP_IF_EQUAL, 0, len(block), AUDIT_ARCH[abi]))
        code.extend(block)
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _block(abi: str) -> list[Instruction]:
    """Return the instructions for one ABI. They hold their own returns, so that no jump is longer than a byte."""
    column = ABIS.index(abi)
    low_word = 4 if abi in _BIG_ENDIAN else 0
    tail: list[Instruction] = [
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _ARGS + 8 * MODE_ARGUMENT["mknodat"] + low_word),
        (_JUMP, 0, 0, 1),
        (_LOAD, 0, 0, _ARGS + 8 * MODE_ARGUMENT["mknod"] + low_word),
        (_AND, 0, 0, _S_IFMT),
        (_JUMP_IF_EQUAL, 1, 0, _S_IFCHR),
        (_JUMP_IF_EQUAL, 0, 1, _S_IFBLK),
        (_RETURN, 0, 0, _PRETEND_SUCCESS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    entries = {"mknodat": 1, "mknod": 3}
    pretend = 7
    calls = [(name, row[column]) for name, row in NUMBERS.items()]
    present = [(name, number) for name, number in calls if number is not None]
    compare: list[Instruction] = []
    for index, (name, number) in enumerate(present):
        distance = len(present) - 1 - index + entries.get(name, pretend)
        compare.append((_JUMP_IF_EQUAL, distance, 0, number))
    return [(_LOAD, 0, 0, _NR), *compare, *tail]


def native_abi() -> str | None:
    """Return the ABI of this process, or None if the table does not have it."""
    machine = os.uname().machine
    bits = 8 * struct.calcsize("P")
    if machine in ("x86_64", "i686", "i586", "i486", "i386"):
        return "x86_64" if bits == 64 else "i386"
    if machine.startswith(("aarch64", "arm")):
        return "arm64" if bits == 64 else "arm"
    return machine if machine in ABIS else None


def install(filter_program: bytes) -> None:
    """Put this process and its descendants under the filter, and make sure that it works.

    Gives up the possibility to gain privileges by execve(2), which the kernel demands. Raises SetupError.
    """
    abi = native_abi()
    if abi is None:
        raise syscalls.SetupError("seccomp", f"root emulation has no system call table for {os.uname().machine}")
    try:
        syscalls.forbid_new_privileges()
        syscalls.set_filter(filter_program, _SECCOMP[abi])
    except OSError as error:
        raise syscalls.SetupError("seccomp", f"can't install system call filter: {error.strerror}") from error
    kexec_load = NUMBERS["kexec_load"][ABIS.index(abi)]
    if kexec_load is None or not syscalls.succeeds(kexec_load):
        raise syscalls.SetupError("seccomp", "system call filter is installed, but has no effect")
