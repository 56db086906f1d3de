"""Why a RUN may have failed for lack of privilege, and which option helps.

What the command printed is known only where it was captured; then it decides. Else the text of the command does, so
that these are guesses, and say so. Only for commands that failed, hence imported late.
Sources: ch-image manual, "Privilege model"; messages as apt, dpkg, rpm, pacman, coreutils and util-linux have them.
"""

import re
from typing import NamedTuple

from chimage_core.build.force import Argv
from chimage_core.build.force.families import find_family
from chimage_core.build.force.words import find_command


class Failure(NamedTuple):
    """A command that ended with an error, of the usual kind: neither a signal nor for lack of a program."""

    mode: str
    """Of root emulation."""
    argv: Argv
    script: str | None
    """Text of the program that was executed, if it is in the Dockerfile."""
    root: str
    """The image."""
    said: str | None
    """The end of what it printed; None: not captured."""


class _Cause(NamedTuple):
    """Something that needs privilege."""

    name: str
    commands: tuple[str, ...]
    """Programs that do it."""
    message: str
    """Pattern of what they print when it is refused."""
    advice: str = ""
    """What to do, where no root emulation can help."""
    is_checked: bool = False
    """The programs notice when it is only pretended."""


_REFUSED = r".*(not permitted|[Pp]ermission denied|Invalid argument|failed)"
_CAUSES = (
    _Cause(
        "mount(2)",
        ("mount", "umount", "losetup"),
        rf"\b(u?mount|losetup): .*(denied|not permitted|superuser)|\bmount{_REFUSED}",
        "show it to RUN with --bind, or with --mount of the instruction",
    ),
    _Cause(
        "the use of a device file",
        ("mknod",),
        rf"\bmknod\b{_REFUSED}|/dev/\S+: (No such file|No such device)",
        "device files exist only where the image is run: make them there, or leave them out",
    ),
    _Cause(
        "a change of user or group",
        ("su", "sudo", "runuser", "setpriv", "gosu", "su-exec", "chpst", "start-stop-daemon"),
        rf"\b(set(e|re|res|fs)?[ug]id|setgroups|initgroups)\b{_REFUSED}|cannot set groups|[Cc]ould not switch",
        is_checked=True,
    ),
    _Cause("setcap(8)", ("setcap",), rf"set(ting)? capabilities|\bsetcap\b{_REFUSED}", is_checked=True),
    _Cause("chown(2)", ("chown", "chgrp"), rf"[Cc]hown\b{_REFUSED}|cpio: chown|chang(e|ing) (ownership|group)"),
    _Cause("the sandbox of pacman", ("pacman",), r"alpm|sandbox user", is_checked=True),
    _Cause(
        "what the package manager does",
        ("apt", "apt-get", "aptitude", "dpkg", "dnf", "microdnf", "rpm", "yum", "zypper", "apk"),
        r"\b_apt\b|error: unpacking of archive failed|dpkg: error processing|APKE?.*not permitted",
    ),
    _Cause("a change of accounts", ("useradd", "adduser", "usermod", "groupadd", "addgroup", "chpasswd"), r"(?!)"),
    _Cause("a privileged system call", (), r"[Oo]peration not permitted|\bEPERM\b"),
)
"""The first that fits is told."""


def hint(failure: Failure) -> str | None:
    """Return what may help, or None if nothing speaks for lack of privilege."""
    text = "\n".join((*failure.argv, failure.script or ""))
    cause, reason = _find(text, failure.said)
    if cause is None:
        is_open = failure.mode == "none" and failure.said is None
        return "if it failed for lack of privilege, try --force=seccomp" if is_open else None
    if cause.advice:
        return f"{reason}, which root emulation cannot pretend: {cause.advice}"
    if failure.mode == "none":
        return f"{reason}: try --force=seccomp, which pretends that it works"
    if failure.mode == "fakeroot":
        return _with_fakeroot(failure, text, reason)
    if failure.said is None and not cause.is_checked:  # It has been pretended to work.
        return None
    return f"{reason}, which --force=seccomp pretends, and the program noticed: {_consistent(failure, text)}"


def _find(text: str, said: str | None) -> tuple[_Cause | None, str]:
    """Return the cause, and words for it."""
    for cause in _CAUSES:
        if said is None:
            command = find_command(text, cause.commands) if cause.commands else None
            if command is not None:
                return cause, f"“{command}” needs privilege for {cause.name}"
        elif re.search(cause.message, said):
            return cause, f"it looks as if privilege was missing for {cause.name}"
    return None, ""


def _with_fakeroot(failure: Failure, text: str, reason: str) -> str | None:
    family = find_family(failure.root)
    if family is not None and find_command(text, family.keywords) is None:
        words = ", ".join(family.keywords)
        return f"{reason}, but fakeroot is only put before {words}: put it there yourself, or try --force=seccomp"
    if failure.said is None:  # It has been pretended to work.
        return None
    return f"{reason}, which fakeroot pretends only to programs with shared libraries: try --force=seccomp"


def _consistent(failure: Failure, text: str) -> str:
    """Return how a program can be satisfied that looks whether it has been obeyed."""
    family = find_family(failure.root)
    if family is not None and find_command(text, family.keywords) is not None:
        return "try --force=fakeroot, or an option of the program against it, by --force-cmd"
    return "install fakeroot in the image and put “fakeroot” before the command, or do without"
