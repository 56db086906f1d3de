"""`--force=seccomp`: a system call filter pretends success; hooks silence commands that check whether it worked.

A hook knows nothing of shell syntax, as the manual says: it finds the command as a word anywhere in the text, also as
the last part of a path or as an argument. (What it does not do is match within a path: `/var/lib/apt/lists` stays.)
"""

import itertools
import re
import shlex
from collections.abc import Mapping

from chimage_core.build.force import Argv, Execution
from chimage_core.build.force.defaults import APT_CONFIG, CommandHook
from chimage_core.runner.protocol import Emulation, RunResult

_BEFORE = r"(?<![^\s;&|(){}`\"'/=])"
_AFTER = r"(?![^\s;&|(){}`\"'<>])"


class SeccompForcer:
    """Adds the arguments of the hooks; the runner installs the filter."""

    mode = "seccomp"
    suffix = "S"
    emulation = Emulation.SECCOMP
    # For apt called inside scripts, where no hook can see it.
    files: Mapping[str, str] = {"/ch/apt.conf": APT_CONFIG}
    variables: Mapping[str, str] = {"APT_CONFIG": "/ch/apt.conf"}

    def __init__(self, hooks: tuple[CommandHook, ...]) -> None:
        self._hooks = tuple((hook, re.compile(_BEFORE + re.escape(hook.command) + _AFTER)) for hook in hooks)

    def wrap(self, argv: Argv) -> Argv:
        """Return `argv` with the hooks' arguments inserted, behind the program and inside words that are shell text."""
        words = self._as_program(argv[0])
        for before, word in itertools.pairwise(argv):
            is_shell_text = before == "-c" or any(map(str.isspace, word))
            words.append(self._in_text(word) if is_shell_text else word)
        return tuple(words)

    def carry_out(self, argv: Argv, execution: Execution) -> RunResult:
        """Execute `argv`; the runner installs the filter."""
        return execution.run(argv)

    def _as_program(self, word: str) -> list[str]:
        for hook, _ in self._hooks:
            if word.rpartition("/")[2] == hook.command:
                return [word, *hook.arguments]
        return [word]

    def _in_text(self, text: str) -> str:
        for hook, pattern in self._hooks:
            added = " " + shlex.join(hook.arguments)
            # Backslashes in a replacement would be read as references to groups.
            text = pattern.sub(r"\g<0>" + added.replace("\\", r"\\"), text)
        return text
