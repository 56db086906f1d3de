"""`--chmod`: permissions as chmod(1) has them, octal (`755`) or symbolic (`u+rwX,go=`).

As there is no process whose umask could matter, who is not named is everybody.
"""

import re
import stat
from collections.abc import Callable

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_MOST = 0o7777


def parse_mode(text: str) -> Callable[[int], int]:
    """Return what makes of an `st_mode` the permission bits that `text` asks for. Raises ValueError."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= _MOST:
        bits = int(text, 8)
        return lambda _: bits
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    actions = []
    for clause in clauses:
        if clause is None:
            raise ValueError(f"neither octal (755) nor symbolic (u+rwX,go=): {text}")
        actions += [(clause[1] or "a", match[1], match[2]) for match in _ACTION.finditer(clause[2])]

    def changed(mode: int) -> int:
        kind = mode
        for who, action, what in actions:
            mode = _applied(mode, kind, who, action, what)
        return stat.S_IMODE(mode)

    return changed


def _applied(mode: int, kind: int, who: str, action: str, what: str) -> int:
    """Return a mode after one action; `kind` is the mode of the source, which says whether it is a directory."""
    mask = _MOST if "a" in who else 0
    for each in who:
        mask |= _WHO.get(each, 0)
    bits = _bits(mode, kind, what) & mask
    if action == "+":
        return mode | bits
    if action == "-":
        return mode & ~bits
    # As chmod(1) does: setuid and setgid of a directory stay unless they are named.
    kept = 0o6000 if stat.S_ISDIR(kind) and "s" not in what else 0
    return (mode & ~(mask & ~kept)) | bits


def _bits(mode: int, kind: int, what: str) -> int:
    if what in _SHIFTS and what:
        return ((mode >> _SHIFTS[what]) & 0o7) * 0o111
    bits = 0
    for letter in what:
        bits |= _BITS.get(letter, 0)
    if "X" in what and (stat.S_ISDIR(kind) or mode & 0o111):
        bits |= 0o111
    if "s" in what:
        bits |= 0o6000
    return bits | (0o1000 if "t" in what else 0)
