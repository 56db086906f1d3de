"""Which commands the text of a RUN seems to use. Shell syntax is not known here: a word is a word, also as argument."""

import functools
import re

_BEFORE = r"(?<![^\s;&|(){}`\"'=])(?:/(?:usr/)?s?bin/)?"
_AFTER = r"(?![^\s;&|(){}`\"'<>])"


def find_command(text: str, commands: tuple[str, ...]) -> str | None:
    """Return the first of `commands` that is a word of `text`, perhaps with the path of its program, or None."""
    found = _pattern(commands).search(text)
    return found[1] if found else None


@functools.cache
def _pattern(commands: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"{_BEFORE}({'|'.join(map(re.escape, commands))}){_AFTER}")
