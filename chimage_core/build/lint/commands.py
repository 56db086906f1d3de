"""What commands of RUN are known to do, or not to do, in an unprivileged build."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from chimage_core.build.lint.finding import Finding, Severity, at
from chimage_core.build.lint.subject import Subject
from chimage_core.dockerfile.ast import ExecCommand, Run

_LONGEST = 64 * 1024
"""Characters of a command that are looked at."""
_SEPARATORS = re.compile(r"[;&|()\n<>]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_SKIPPED = (
    "!",
    "{",
    "if",
    "then",
    "elif",
    "else",
    "while",
    "until",
    "do",
    "time",
    "exec",
    "command",
    "env",
    "nice",
    "set",
)


class _Command(NamedTuple):
    """One simple command of a shell script."""

    program: str
    arguments: tuple[str, ...]
    is_answered: bool
    """Something is piped into it."""


def unanswered(subject: Subject) -> Iterator[Finding]:
    """Find package managers that would ask whether to go on."""
    for run, commands in _runs(subject):
        for command in commands:
            program = command.program.rpartition("/")[2]
            options = _YES.get(program)
            if options is None or command.is_answered or not {*command.arguments} & _INSTALLING:
                continue
            if not any(map(options, command.arguments)):
                text = f"{program} asks whether to go on, and nobody answers, so the build fails"
                option = {"zypper": "--non-interactive", "pacman": "--noconfirm"}.get(program, "-y")
                yield at(run, "warning", "install-asks", text, f"add {option}")


def without_effect(subject: Subject) -> Iterator[Finding]:
    """Find a RUN that only changes directory, or only fetches lists of packages."""
    for run, commands in _runs(subject):
        programs = {command.program for command in commands}
        if programs == {"cd"}:
            text = "cd has no effect on the next instruction: each RUN starts a shell of its own"
            yield at(run, "warning", "cd-alone", text, "use WORKDIR")
        elif len(commands) == 1 and programs <= {"apt-get", "apt"} and commands[0].arguments[:1] == ("update",):
            text = "lists of packages fetched alone are old when a later RUN, not found in the cache, uses them"
            yield at(run, "note", "update-alone", text, "update and install in the same RUN")


def privileged(subject: Subject) -> Iterator[Finding]:
    """Find commands that need real privilege."""
    for run, commands in _runs(subject):
        for command in commands:
            name = command.program.rpartition("/")[2]
            if name in _PRIVILEGED:
                severity, code, text = _PRIVILEGED[name]
                yield at(run, severity, code, f"{name}: {text}")
            elif name == "mknod" and {"b", "c", "u"} & {*command.arguments}:
                yield at(run, "note", "device-faked", "mknod: devices are only pretended to be made")
            elif name == "chmod" and any(map(_SETUID.match, command.arguments)):
                yield at(
                    run,
                    "note",
                    "setuid-useless",
                    "chmod: setuid means nothing to containers without privilege",
                )


def shell_syntax(subject: Subject) -> Iterator[Finding]:
    """Find shell operators in the exec form, which has no shell."""
    for moment in subject.moments:
        run = moment.instruction
        if isinstance(run, Run) and isinstance(run.command, ExecCommand):
            operators = [word for word in run.command.argv[1:] if word in ("&&", "||", "|", ";", ">", ">>", "<")]
            if operators and not run.command.argv[0].endswith("sh"):
                text = f"{operators[0]} is an argument like any other, because the exec form has no shell"
                yield at(run, "warning", "exec-no-shell", text, "use the form without brackets")


def _any_of(*options: str) -> Callable[[str], bool]:
    return lambda argument: argument in options


def _apt_yes(argument: str) -> bool:
    letters = argument[1:] if re.fullmatch("-[a-zA-Z]+", argument) else ""
    is_quiet = letters.count("q") > 1
    return (
        "y" in letters
        or is_quiet
        or argument in ("--yes", "--assume-yes", "--simulate", "-s")
        or "assume-yes" in argument.lower()
    )


def _dnf_yes(argument: str) -> bool:
    return (re.fullmatch("-[a-zA-Z]+", argument) is not None and "y" in argument) or argument.startswith("--assumey")


_YES: Mapping[str, Callable[[str], bool]] = {
    "apt-get": _apt_yes,
    "apt": _apt_yes,
    "yum": _dnf_yes,
    "dnf": _dnf_yes,
    "microdnf": _dnf_yes,
    "zypper": _any_of("-n", "--non-interactive", "-y", "--no-confirm"),
    "pacman": _any_of("--noconfirm"),
}
"""Package managers that ask, and what keeps them from it."""

_INSTALLING = frozenset(
    ("install", "in", "remove", "purge", "upgrade", "dist-upgrade", "full-upgrade", "groupinstall", "-S", "-Sy", "-Syu")
)

_SETUID = re.compile(r"0?[4567][0-7]{3}$|u?\+[rwxX]*s")

_NEEDS_ROOT = "needs real privilege, so it fails in an unprivileged build"
_PRIVILEGED: Mapping[str, tuple[Severity, str, str]] = {
    "sudo": ("warning", "sudo", "commands run as (emulated) root already, and sudo itself is likely to fail"),
    **dict.fromkeys(
        ("mount", "umount", "losetup", "insmod", "modprobe", "swapon", "iptables", "nft"),
        ("warning", "needs-privilege", _NEEDS_ROOT),
    ),
    "setcap": ("note", "setcap-useless", "capabilities of files mean nothing to containers without privilege"),
    **dict.fromkeys(
        ("systemctl", "service"), ("note", "no-services", "nothing runs in a build but the command itself, and no init")
    ),
}
"""Programs, and what to say of them."""


def _runs(subject: Subject) -> Iterator[tuple[Run, Sequence[_Command]]]:
    for moment in subject.moments:
        run = moment.instruction
        if isinstance(run, Run):
            commands = tuple(_commands(run))
            if commands:
                yield run, commands


def _commands(run: Run) -> Iterator[_Command]:
    if isinstance(run.command, ExecCommand):
        program, *arguments = run.command.argv
        yield _Command(program, tuple(arguments), is_answered=False)
        return
    script = run.command.script
    # Others than a shell read other languages: `RUN <<EOF python3`, `#!/usr/bin/python3`.
    if script.startswith("#!") or (run.command.heredocs and not run.command.lone_heredoc):
        return
    lexer = shlex.shlex(script[:_LONGEST], posix=True, punctuation_chars=";&|()\n<>")
    lexer.whitespace, lexer.whitespace_split = " \t\r", True
    try:
        words = list(lexer)
    except ValueError:  # A quote that is not closed: the shell will say so.
        return
    yield from _simple_commands(words)


def _simple_commands(words: Sequence[str]) -> Iterator[_Command]:
    present: list[str] = []
    is_answered = False
    for word in [*words, ";"]:
        if not _SEPARATORS.fullmatch(word):
            present.append(word)
            continue
        if set(word) <= set("<>&") and "&&" not in word:  # A redirection: what follows is a file.
            is_answered = is_answered or "<" in word
            present.append("")
            continue
        while present and (present[0] in _SKIPPED or _ASSIGNMENT.match(present[0])):
            present.pop(0)
        if present:
            yield _Command(present[0], tuple(present[1:]), is_answered)
        present, is_answered = [], word == "|"


RULES = (unanswered, without_effect, privileged, shell_syntax)
