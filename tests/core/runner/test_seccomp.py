"""The system call filter, executed by a simulator for every ABI, since this machine has only one or two of them."""

import os
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.runner import seccomp

ALLOW = 0x7FFF0000
PRETEND = 0x00050000
BIG_ENDIAN = {"s390x"}
DEVICES = {stat.S_IFCHR, stat.S_IFBLK}
WANTED = {
    *("capset", "kexec_load", "mknod", "mknodat", "chown", "fchown", "fchownat", "lchown"),
    *("setuid", "setgid", "setgroups", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid"),
}
"""What the ch-image manual says is quashed, and kexec_load for the self-test. Some exist again with `32` behind."""


class Simulator:
    """A machine for classic BPF as seccomp has it: the instructions that filters use, and the kernel's checks."""

    def __init__(self, program: bytes) -> None:
        self.code = list(struct.iter_unpack("=HBBI", program))
        assert len(self.code) <= 4096
        assert self.code[-1][0] == 0x06

    def run(self, data: bytes, byte_order: str) -> tuple[int, int]:
        """Return the verdict and the number of instructions executed."""
        accumulator = 0
        position = 0
        for executed in range(1, len(self.code) + 1):
            opcode, if_true, if_false, operand = self.code[position]
            position += 1
            match opcode:
                case 0x20:
                    assert operand % 4 == 0
                    (accumulator,) = struct.unpack_from(byte_order + "I", data, operand)
                case 0x54:
                    accumulator &= operand
                case 0x05:
                    position += operand
                case 0x15:
                    position += if_true if accumulator == operand else if_false
                case 0x06:
                    return operand, executed
                case _:
                    pytest.fail(f"instruction {opcode:#x} is not allowed or not known")
            assert position < len(self.code)
        pytest.fail("the program does not end")


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(seccomp.program())


def call(simulator: Simulator, arch: int, abi: str, number: int, *arguments: int) -> tuple[int, int]:
    order = ">" if abi in BIG_ENDIAN else "<"
    words = [*arguments, *[0] * (6 - len(arguments))]
    # struct seccomp_data; what is not looked at has bits that would show.
    return simulator.run(struct.pack(order + "iIQ6Q", number, arch, 0xDEADBEEF_DEADBEEF, *words), order)


def numbers_of(abi: str) -> dict[int, str]:
    column = seccomp.ABIS.index(abi)
    found = {row[column]: name for name, row in seccomp.NUMBERS.items()}
    found.pop(None, None)
    return {number: name for number, name in found.items() if number is not None}


def test_the_table_has_what_the_manual_lists() -> None:
    names = {name.removesuffix("32") for name in seccomp.NUMBERS}
    assert names == WANTED
    assert len(seccomp.NUMBERS) == 29


@pytest.mark.parametrize("abi", seccomp.ABIS)
def test_exactly_the_calls_of_the_table_are_faked(simulator: Simulator, abi: str) -> None:
    """Arguments say "device", so that mknod counts as faked here."""
    table = numbers_of(abi)
    device = stat.S_IFCHR | 0o666
    arch = seccomp.AUDIT_ARCH[abi]
    faked = {
        number for number in range(601) if call(simulator, arch, abi, number, device, device, device)[0] == PRETEND
    }
    assert faked == set(table)


@pytest.mark.parametrize("abi", seccomp.ABIS)
def test_a_verdict_costs_few_instructions(simulator: Simulator, abi: str) -> None:
    """Every system call of every RUN pays for it."""
    arch = seccomp.AUDIT_ARCH[abi]
    assert max(call(simulator, arch, abi, number)[1] for number in range(601)) <= 45


@pytest.mark.parametrize("name", ["mknod", "mknodat"])
@pytest.mark.parametrize("abi", seccomp.ABIS)
def test_only_devices_are_faked(simulator: Simulator, abi: str, name: str) -> None:
    number = seccomp.NUMBERS[name][seccomp.ABIS.index(abi)]
    if number is None:
        pytest.skip(f"{abi} has no {name}")
    argument = {"mknod": 1, "mknodat": 2}[name]
    for kind in (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, stat.S_IFLNK):
        arguments = [stat.S_IFCHR] * 6  # a look at the wrong argument would show
        arguments[argument] = kind | 0o666
        if kind not in DEVICES:
            arguments = [0 if index == argument else value for index, value in enumerate(arguments)]
            arguments[argument] = kind | 0o666
        verdict, _ = call(simulator, seccomp.AUDIT_ARCH[abi], abi, number, *arguments)
        assert verdict == (PRETEND if kind in DEVICES else ALLOW), oct(kind)


@pytest.mark.parametrize("number", [0, 59, 92, 105, 133, 246])
def test_an_unknown_abi_is_left_alone(simulator: Simulator, number: int) -> None:
    """RISC-V, say: its numbers mean other calls."""
    riscv64 = 0xC00000F3
    assert call(simulator, riscv64, "x86_64", number, 0o20666, 0o20666, 0o20666)[0] == ALLOW


def test_x32_calls_are_left_alone(simulator: Simulator) -> None:
    """They have the architecture of x86-64 and a bit in the number."""
    x32_bit = 0x40000000
    for number in range(601):
        assert call(simulator, seccomp.AUDIT_ARCH["x86_64"], "x86_64", x32_bit | number)[0] == ALLOW


HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h",),
    "i386": ("/usr/include/x86_64-linux-gnu/asm/unistd_32.h", "/usr/include/i386-linux-gnu/asm/unistd_32.h"),
    "arm64": ("/usr/include/asm-generic/unistd.h", "/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"),
    "arm": ("/usr/arm-linux-gnueabihf/include/asm/unistd-eabi.h",),
    "ppc64le": ("/usr/powerpc64le-linux-gnu/include/asm/unistd_64.h",),
    "s390x": ("/usr/s390x-linux-gnu/include/asm/unistd_64.h",),
}
"""Where Debian's linux-libc-dev packages, also those for cross-compiling, put the numbers."""


def defined(header: str) -> Iterator[tuple[str, int]]:
    text = Path(header).read_text(encoding="ascii", errors="replace")
    for name, number in re.findall(r"^#define __NR_(\w+)\s+\(?(?:__NR_SYSCALL_BASE\s*\+\s*)?(\d+)\)?", text, re.M):
        yield name, int(number)


@pytest.mark.parametrize("abi", seccomp.ABIS)
def test_numbers_agree_with_the_kernels_headers(abi: str) -> None:
    header = next((path for path in HEADERS[abi] if os.path.exists(path)), None)
    if header is None:
        pytest.skip(f"no kernel headers for {abi} (one of {', '.join(HEADERS[abi])})")
    of_kernel = {name: number for name, number in defined(header) if name.removesuffix("32") in WANTED}
    assert of_kernel == {name: number for number, name in numbers_of(abi).items()}


def test_the_installed_filter_works_for_real() -> None:
    """In a process of its own, as it cannot be taken off."""
    script = """
import os, sys
from chimage_core.runner import seccomp
try:
    os.chown("/", 12345, 12345)
except OSError:
    print("refused before")
seccomp.install(seccomp.program())
os.chown("/", 12345, 12345)
os.setgroups([1, 2, 3])
os.setresuid(4, 5, 6)
assert os.stat("/").st_uid != 12345
assert os.getresuid()[0] != 4
print("pretended after")
"""
    # Root would really change the owner of the root directory.
    if os.geteuid() == 0:
        script = script.replace('os.chown("/", 12345, 12345)\nexcept', 'os.chown("/not/there", 1, 1)\nexcept')
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "refused before\npretended after\n"


def test_an_old_kernel_gets_the_filter_by_prctl() -> None:
    """Before Linux 4.17, seccomp(2) refuses the flag that we want; here, there is no such system call at all."""
    script = """
import os
from chimage_core.runner import seccomp, syscalls
syscalls.forbid_new_privileges()
syscalls.set_filter(seccomp.program(), 100_000)
os.setgroups([1, 2, 3])
os.chown("/not/there", 1, 1)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
