"""The tables of root emulation.

A hook adds arguments to a command that would otherwise notice that its system calls were only pretended to succeed.
Source: ch-image manual, "Privilege model".
"""

from typing import NamedTuple

from chimage_core.errors import UsageError


class CommandHook(NamedTuple):
    """Arguments to add behind every occurrence of a command in a RUN."""

    command: str
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "CommandHook":
        """Read `CMD,ARG1[,ARG2...]`, where a backslash makes the next character literal. Raises UsageError."""
        words = [""]
        characters = iter(text)
        for character in characters:
            if character == "\\":
                words[-1] += next(characters, "\\")
            elif character == ",":
                words.append("")
            else:
                words[-1] += character
        if len(words) < 2 or not words[0]:
            raise UsageError(f"--force-cmd: expected CMD,ARG1[,ARG2...], not {text!r}")
        return cls(words[0], tuple(words[1:]))


# apt drops its privileges to download and checks that it worked, which under a pretended setuid(2) it did not.
_APT_SANDBOX_OFF = ("-o", "APT::Sandbox::User=root")
DEFAULT_HOOKS = (CommandHook("apt", _APT_SANDBOX_OFF), CommandHook("apt-get", _APT_SANDBOX_OFF))
"""Used unless `--force-cmd` is given, which replaces them."""

APT_CONFIG = 'APT::Sandbox::User "root";\n'
"""The same as a configuration file of apt(8)."""
