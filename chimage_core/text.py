"""Values as text for people: sizes, durations, ages, command lines, and strings that a terminal may show."""

import re
from collections.abc import Iterable

_UNSAFE = (
    # C0 and C1 controls, DEL, lone surrogates (bytes that are no UTF-8), and the characters that reorder or hide text.
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)

_CONTEXT = 4
"""Words of context in a difference."""
_MOST_COMPARED = 1000
"""Words up to which frequent ones count, too: it takes quadratic time."""


def printable(text: str, *, keep: str = "") -> str:
    """Return `text` with every character escaped that could steer a terminal or hide what is really there.

    Characters in `keep` (say, newline and tab) stay. Bytes that are no UTF-8 (surrogate escapes) become `\\xNN`.
    """
    if text.isprintable():  # None of those characters is: most texts need no regular expression, which takes a while.
        return text

    def escape(match: re.Match[str]) -> str:
        character = match.group()
        if character in keep:
            return character
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            return f"\\x{code - 0xDC00:02x}"
        if code <= 0xFF:
            return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\x{code:02x}")
        return f"\\u{code:04x}"

    return re.sub(_UNSAFE, escape, text)


def quoted(argv: Iterable[str]) -> str:
    """Return a command line that a shell would read back as `argv`, on one printable line."""
    import shlex

    return printable(shlex.join(argv))


def without_credentials(text: str) -> str:
    """Return `text` with the credentials removed from all URLs in it. Of ssh only the password goes: the user name is a
    part of the address there, and no secret.
    """
    text = re.sub(r"(?i)\b(ssh://[^:/?#\s@]*):[^/?#\s]*@", r"\1@", text)
    return re.sub(r"(?i)\b((?!ssh://)[a-z][a-z0-9+.-]*://)[^/?#\s]*@", r"\1", text)


def size(count: int) -> str:
    """Return a number of bytes in binary units: `3.1 MiB`."""
    import humanize

    return humanize.naturalsize(count, binary=True)


def duration(seconds: float) -> str:
    """Return a duration with the precision that matters: `0.12 s`, `4.2 s`, `3 min 05 s`, `2 h 03 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"


def plural(count: int, noun: str) -> str:
    """Return `1 instruction`, `2 instructions`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def word_diff(before: str, after: str) -> str:
    """Return the words of both texts on one line, what differs as `[-before-]{+after+}`; of what is the same, only the
    words next to it. Blanks are no words: if nothing else differs, that is said.
    """
    import difflib

    old, new = before.split(), after.split()
    if old == new:
        return "(only blanks differ)"
    parts: list[str] = []
    opcodes = difflib.SequenceMatcher(None, old, new, autojunk=len(new) > _MOST_COMPARED).get_opcodes()
    for at, (kind, start, end, new_start, new_end) in enumerate(opcodes):
        if kind == "equal":
            parts += _near(old[start:end], is_first=at == 0, is_last=at == len(opcodes) - 1)
            continue
        removed, added = " ".join(old[start:end]), " ".join(new[new_start:new_end])
        parts.append((f"[-{removed}-]" if removed else "") + (f"{{+{added}+}}" if added else ""))
    return " ".join(parts)


def _near(words: list[str], *, is_first: bool, is_last: bool) -> list[str]:
    """Leave out the words that are far from what is before and behind them."""
    head = [] if is_first else words[:_CONTEXT]
    tail = [] if is_last else words[-_CONTEXT:]
    return words if len(words) <= len(head) + len(tail) + 1 else [*head, "…", *tail]
