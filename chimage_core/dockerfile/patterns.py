"""Patterns of `${name#pattern}` and its kin: `*`, `?` and backslash, nothing else (no brackets).

Matched by keeping the set of places that can be reached, so that `*a*a*a*a*b` costs its length times the value's, and
not the time of a regular expression that backtracks.
"""

from collections.abc import Iterable
from typing import NamedTuple

_ANY = "?"
_STAR = "*"

_Token = tuple[str, bool]
"""A character, and whether it means itself."""


class Pattern(NamedTuple):
    """A pattern, parsed."""

    tokens: tuple[_Token, ...]

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern. Raises ValueError for a backslash before anything but `*`, `?`, `/`, `}` and backslash."""
        tokens: list[_Token] = []
        characters = iter(text)
        for character in characters:
            if character == "\\":
                escaped = next(characters, "")
                if escaped not in tuple("*?\\/}"):
                    raise ValueError(f"invalid escape \\{escaped} in the pattern {text}")
                tokens.append((escaped, True))
            else:
                tokens.append((character, character not in (_ANY, _STAR)))
        return cls(tuple(tokens))

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """Return `value` without the shortest or longest prefix that matches; all of it if none does."""
        ends = _ends(self.tokens, value, 0)
        return value[max(ends) if longest else min(ends) :] if ends else value

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """Return `value` without the shortest or longest suffix that matches; all of it if none does."""
        ends = _ends(tuple(reversed(self.tokens)), value[::-1], 0)
        return value[: len(value) - (max(ends) if longest else min(ends))] if ends else value

    def replaced(self, value: str, replacement: str, *, everywhere: bool) -> str:
        """Return `value` with the first match replaced, or every one; the longest at its place."""
        result, start, copied = "", 0, 0
        while start <= len(value):
            ends = _ends(self.tokens, value, start)
            # An empty match right after another one would insert the replacement twice.
            if ends and not (max(ends) == start == copied and start > 0):
                result += value[copied:start] + replacement
                copied = max(ends)
                if not everywhere:
                    break
                start = max(copied, start + 1)
            else:
                start += 1
        return result + value[copied:]


def _ends(tokens: Iterable[_Token], value: str, start: int) -> set[int]:
    """Return all places where a match that begins at `start` can end."""
    places = {start}
    for character, is_literal in tokens:
        if not places:
            break
        if is_literal:
            places = {place + 1 for place in places if value[place : place + 1] == character}
        elif character == _ANY:
            places = {place + 1 for place in places if place < len(value)}
        else:
            places = set(range(min(places), len(value) + 1))
    return places
